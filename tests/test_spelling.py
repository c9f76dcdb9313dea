"""The one spelling of estimators: what it builds, that it reads back, and what it says of mistakes."""

import pickle

import numpy as np
import pytest

import advantage_zoo as az
from advantage_zoo.spelling import split
from advantage_zoo.transforms import Clip, Mix, OverlongPenalty, Pipeline, Schedule, TopEntropy, Whiten

GRPO, EPGRPO = az.estimators.GRPO, az.estimators.EPGRPO

BUILT = {
    "grpo": GRPO(),
    " grpo ": GRPO(),
    "grpo()": GRPO(),
    "grpo(1e-4)": GRPO(eps=1e-4),
    "grpo(eps=1e-4, singleton=raise)": GRPO(eps=1e-4, singleton="raise"),
    "grpo(0.5, 0, raw)": GRPO(0.5, 0, "raw"),
    "ep_grpo(gate_progress=false,gate_scope=batch)": EPGRPO(gate_progress=False, gate_scope="batch"),
    "grpo|whiten": Pipeline((), GRPO(), (Whiten(),)),
    "overlong(20480, 4096) | grpo | top_entropy(0.2) | clip(-2, +2.5)": Pipeline(
        (OverlongPenalty(20480, 4096),), GRPO(), (TopEntropy(), Clip(-2.0, 2.5))
    ),
    "mix(grpo, ep_grpo | whiten, 0.3)": Mix(GRPO(), Pipeline((), EPGRPO(), (Whiten(),)), 0.3),
    "mix(second=grpo, first=ep_grpo(num_buckets=5)) | whiten": Pipeline(
        (), Mix(EPGRPO(num_buckets=5), GRPO()), (Whiten(),)
    ),
    "ep_grpo(progress_weight=linear(0, 0.2, 200))": EPGRPO(progress_weight=Schedule(0, 0.2, 200)),
    "ep_grpo(num_buckets=cosine(start=2, end=10, steps=5))": EPGRPO(num_buckets=Schedule(2, 10, 5, "cosine")),
}


@pytest.mark.parametrize("text", BUILT)
def test_what_it_builds(text):
    built = az.make(text)
    assert built == BUILT[text]
    assert hash(built) == hash(BUILT[text])
    assert pickle.loads(pickle.dumps(built)) == built
    assert az.make(str(built)) == built  # what is printed can be typed


@pytest.mark.parametrize("name", [*az.names(), *az.presets()])
def test_every_estimator_reads_back(name):
    built = az.make(name)
    assert built == az.estimator(name)()
    assert str(built) == name
    assert az.make(f"{name} | whiten").name == f"{name} | whiten"


def test_an_instance_made_of_others_says_what_it_needs():
    built = az.make("mix(grpo, gae | top_entropy, 0.5)")
    assert built.needs == {"values", "entropies"}
    assert built.uses == {"token_rewards"}
    assert built.batch_statistics
    assert not az.make("overlong(3, 2) | grpo | clip(-1, 1)").batch_statistics
    batch = az.RolloutBatch(rewards=np.zeros(2), response_mask=np.ones((2, 2), bool), group_ids=np.zeros(2, int))
    with pytest.raises(ValueError, match=r"grpo \| top_entropy needs entropies, which the batch does not have"):
        az.compute_advantages(batch, "grpo | top_entropy")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", ValueError, "'' cannot be read at character 1: expected a name, and it ends here."),
        ("grpo |", ValueError, "at character 7: expected a name, and it ends here."),
        ("| grpo", ValueError, "at character 1: expected a name, not '|'."),
        ("grpo whiten", ValueError, "at character 6: expected | or the end, not 'whiten'."),
        ("grpo(eps=)", ValueError, "at character 10: expected a name, not ')'."),
        ("grpo(eps=1", ValueError, "at character 11: expected , or ), and it ends here."),
        ("grpo(eps 1)", ValueError, "at character 10: expected , or ), not '1'."),
        ("grpo(1=2)", ValueError, "what stands before = is a parameter's name"),
        ("grpo$", ValueError, "'$' is neither a name, a number nor one of | ( ) [ ] , =."),
        ("grpo | ep_grpo", ValueError, "has 2 estimators, grpo and ep_grpo; a pipeline has one"),
        ("top_entropy(0.2)", ValueError, "has no estimator; a pipeline has one"),
        ("whiten", ValueError, "has no estimator"),
        ("whiten | grpo", ValueError, "whiten changes advantages; it goes after the estimator."),
        ("grpo | overlong(4, 2)", ValueError, "overlong shapes rewards; it goes before the estimator."),
        ("grpo | whitne", LookupError, "is called 'whitne' (did you mean 'whiten'?); estimators are "),
        ("gropo", LookupError, "No estimator is called 'gropo' (did you mean 'grpo'?)"),
        ("grpo@vrl", LookupError, "No estimator is called 'grpo@vrl' (did you mean 'grpo@"),
        (
            "grpo(epss=1)",
            TypeError,
            "grpo has no parameter 'epss' (did you mean 'eps'?); it takes eps, ddof, singleton.",
        ),
        ("grpo(eps=1, eps=2)", TypeError, "grpo.eps is given twice."),
        ("grpo(0, eps=2)", TypeError, "grpo.eps is given twice."),
        ("grpo(1, 1, raw, 4)", TypeError, "grpo takes 3 parameters (eps, ddof, singleton), not 4."),
        ("grpo(eps=abc)", TypeError, "grpo.eps is 'abc'; expected a number."),
        ("grpo(eps=-1)", ValueError, "grpo.eps is -1.0; expected at least 0."),
        ("grpo(eps=ep_grpo(beta=1))", TypeError, "grpo.eps is a pipeline or a call; expected a number or a word."),
        ("overlong(4) | grpo", TypeError, "overlong needs cache_length; it takes max_length, cache_length, weight."),
        ("grpo | clip", TypeError, "clip needs low and high; it takes low, high."),
        ("mix(grpo)", TypeError, "mix needs second; it takes first, second, weight."),
        ("mix(grpo, whiten)", ValueError, "has no estimator; a pipeline has one"),
        ("mix(grpo, 3)", TypeError, "mix.second is 3; expected an estimator."),
        ("ep_grpo(progress_weight=linear(0, 1))", TypeError, "linear takes start, end and steps."),
        (
            "ep_grpo(progress_weight=linear(0, -1, 5))",
            ValueError,
            "ep_grpo.progress_weight is -1; expected at least 0.",
        ),
        ("ep_grpo(progress_weight=linear(0, 1, 0))", ValueError, "linear: steps is 0; expected a whole number of at"),
        ("ep_grpo(gate_progress=yes)", TypeError, "ep_grpo.gate_progress is 'yes'; expected true or false."),
    ],
)
def test_mistakes_are_named(text, error, words):
    with pytest.raises(error) as caught:
        az.make(text)
    assert words in str(caught.value.args[0])


def test_parameters_beside_a_spelling_are_refused():
    with pytest.raises(TypeError, match=r"eps: grpo \| whiten has its parameters already; write them inside"):
        az.make("grpo | whiten", eps=1.0)
    with pytest.raises(TypeError, match="3 is neither"):
        az.make(3)
    assert az.make("grpo", eps=1.0) == GRPO(eps=1.0)


def test_lists_are_split_outside_of_parentheses():
    text = "grpo, overlong(4, 2)|grpo ,, mix(grpo, ep_grpo, 0.3),gdpo(weights=[1, 2])"
    assert split(text) == ["grpo", "overlong(4, 2)|grpo", "mix(grpo, ep_grpo, 0.3)", "gdpo(weights=[1, 2])"]


@pytest.mark.parametrize("bad", [{"start": float("nan")}, {"steps": 0}, {"steps": 2.5}, {"shape": "square"}])
def test_a_schedule_of_nonsense_is_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        Schedule(**{"start": 0.0, "end": 1.0, "steps": 5} | bad)


def test_a_schedule_ends_where_it_says():
    for shape in ("linear", "cosine"):
        way = Schedule(0.1, 0.3, 7, shape)
        assert way(-1) == way(0) == 0.1
        assert way(7) == way(100) == 0.3
        assert all(way(i) < way(i + 1) for i in range(7))
    assert Schedule(0.0, 1.0, 4, "cosine")(2) == pytest.approx(0.5)
