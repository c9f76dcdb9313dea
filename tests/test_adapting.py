"""What the adapters share: estimators from a framework's configuration, and what they log."""

import numpy as np
import pytest

import advantage_zoo as az
from advantage_zoo.adapting import describe, from_config, needs_groups, refuse, replaced, scalars
from advantage_zoo.parameters import Schedule

EPGRPO = az.estimators.EPGRPO


@pytest.mark.parametrize(
    ("which", "params", "made"),
    [
        ("grpo", None, az.estimators.GRPO()),
        ("grpo@openrlhf", {"clip_range": [-1, 1]}, az.make("grpo@openrlhf(clip_range=[-1, 1])")),
        ("grpo | clip(-1, 1)", {}, az.make("grpo | clip(-1, 1)")),
        ("ep_grpo", {"num_buckets": 5, "gate_progress": False}, EPGRPO(num_buckets=5, gate_progress=False)),
        ("ep_grpo", {"num_buckets": "5", "gate_progress": "false"}, EPGRPO(num_buckets=5, gate_progress=False)),
        ("ep_grpo", {"gate_scope": "batch", "eps": 0}, EPGRPO(gate_scope="batch", eps=0.0)),
        ("ep_grpo", {"beta": "linear(0.1, 1, 20)"}, EPGRPO(beta=Schedule(0.1, 1, 20))),
        ("ep_grpo", {"progress_warmup_steps": 200}, EPGRPO(progress_weight=Schedule(0, 0.2, 200))),
        (
            "ep_grpo",
            {"progress_warmup_steps": "3", "progress_weight": "0.5"},
            EPGRPO(progress_weight=Schedule(0, 0.5, 3)),
        ),
        ("ep_grpo", {"progress_warmup_steps": 0}, EPGRPO()),
        ("ep_grpo@literal", {"progress_warmup_steps": 2}, az.make("ep_grpo@literal(progress_weight=linear(0,0.2,2))")),
        ("reinforce_pp@openrlhf", {"clip_range": "[-5, 5]"}, az.make("reinforce_pp@openrlhf(clip_range=[-5, 5])")),
    ],
)
def test_what_a_configuration_makes(which, params, made):
    assert from_config(which, params, where="algorithm.block") == made


@pytest.mark.parametrize(
    ("which", "params", "made"),
    [
        ("gae", {}, "gae(discount=0.5)"),
        ("gae()", {}, "gae(discount=0.5)"),
        ("gae ( )", {"lam": 0.25}, "gae(discount=0.5, lam=0.25)"),
        ("gae", {"discount": 0.75}, "gae(discount=0.75)"),
        ("gae", {"discount": 0.25, "lam": 0.9}, "gae(discount=0.25, lam=0.9)"),
        ("gae@verl", {}, "gae@verl(discount=0.5)"),
        ("gae(lam=0.25)", {}, "gae(lam=0.25)"),
        ("gae | whiten", {}, "gae | whiten"),
        ("grpo", {}, "grpo"),
    ],
)
def test_a_frameworks_own_settings_hold_for_an_estimator_that_says_nothing_else(which, params, made):
    settings = {"discount": 0.5, "lam": None}
    assert from_config(which, params, where="algorithm.block", defaults=settings) == az.make(made)


@pytest.mark.parametrize(
    ("which", "params", "error", "message"),
    [
        (
            "ep_grpo",
            {"num_bucket": 5},
            TypeError,
            "a.b.num_bucket: ep_grpo has no parameter 'num_bucket' (did you mean",
        ),
        ("ep_grpo", {"progress_warmup_step": 5}, TypeError, "(did you mean 'progress_warmup_steps'?)"),
        ("grpo", {5: "eps"}, TypeError, "a.b.5: grpo has no parameter '5'; it takes"),
        ("grpo", {"progress_warmup_steps": 5}, TypeError, "grpo has no parameter 'progress_warmup_steps'"),
        ("ep_grpo", {"num_buckets": "five"}, TypeError, "a.b: ep_grpo.num_buckets is 'five'; expected a whole number."),
        ("ep_grpo", {"num_buckets": 0}, ValueError, "a.b: ep_grpo.num_buckets is 0; expected at least 1."),
        ("ep_grpo", {"eps": "1 2"}, ValueError, "a.b: '1 2' cannot be read at character 3"),
        (
            "ep_grpo",
            {"progress_warmup_steps": -1},
            ValueError,
            "a.b: progress_warmup_steps is -1; expected a number of",
        ),
        ("ep_grpo", {"progress_warmup_steps": True}, ValueError, "progress_warmup_steps is True"),
        ("ep_grpo", {"progress_warmup_steps": "soon"}, ValueError, "progress_warmup_steps is 'soon'"),
        (
            "ep_grpo",
            {"progress_warmup_steps": 2, "progress_weight": "linear(0, 1, 5)"},
            ValueError,
            "progress_weight follows linear(0, 1, 5) and progress_warmup_steps is 2; give one of the two.",
        ),
        ("grpo | whiten", {"eps": 1}, TypeError, "a.b: grpo | whiten has its parameters inside; write eps there"),
        ("grpo(eps=1)", {"ddof": 0}, TypeError, "a.b: grpo(eps=1) has its parameters inside; write ddof there"),
        ("ep_grop", {}, LookupError, "did you mean 'ep_grpo'"),
    ],
)
def test_what_a_configuration_gets_wrong(which, params, error, message):
    with pytest.raises(error) as caught:
        from_config(which, params, where="a.b")
    assert message in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    refuse([])
    with pytest.raises(ValueError, match=r"^a\.b: One is missing\. Two is lost\.$"):
        refuse(iter(["One is missing.", "Two is lost."]), "a.b: ")


def test_what_is_replaced_is_put_back_whatever_happens():
    class Theirs:
        scale = 1

        def __init__(self):
            self.step = 5

    theirs, seen = Theirs(), []

    def fail():
        seen.append((theirs.scale, theirs.step, theirs.more))
        raise KeyError

    with pytest.raises(KeyError), replaced(theirs, scale=2, step=6, more=7):
        fail()
    assert seen == [(2, 6, 7)]
    assert vars(theirs) == {"step": 5}
    Theirs.scale = 3
    assert theirs.scale == 3  # still the class's own


@pytest.mark.parametrize("which", ["ep_grpo", "overlong(20, 4) | mix(grpo, ep_grpo@literal, 0.3) | whiten", "remax"])
def test_the_description_leaves_no_parameter_out_and_can_be_typed(which):
    estimator = az.make(which)
    text = describe(estimator)
    assert text.endswith(f" (advantage-zoo {az.__version__})")
    assert az.make(text.rpartition(" (")[0]) == estimator
    if "ep_grpo" in which:
        assert "progress_floor=" in text
        assert "gate_progress=true" in text


def test_only_scalars_are_logged_and_none_is_read():
    batch = az.RolloutBatch(
        rewards=np.array([1.0, 0.0]),
        response_mask=np.ones((2, 2), bool),
        group_ids=np.zeros(2, int),
        **{name: -np.ones((2, 2)) for name in ("logprobs", "ref_logprobs", "entropies")},
    )
    advantages = az.compute_advantages(batch, "ep_grpo")
    logged = scalars(advantages, "advantage/ep_grpo")
    assert "advantage/ep_grpo/zero_variance_groups" in logged
    assert {key.rpartition("/")[2] for key in logged} <= set(advantages.diagnostics)
    assert all(x is advantages.diagnostics[key.rpartition("/")[2]] for key, x in logged.items())
    row = az.Advantages(np.zeros(2), {"one": np.float64(1.0), "of_rows": np.zeros(2)})
    assert set(scalars(row, "p")) == {"p/one"}


@pytest.mark.parametrize("step", ["2", -3, 1.5, True])
def test_a_step_is_a_whole_number_from_0(step):
    batch = az.RolloutBatch(
        rewards=np.array([1.0, 0.0]), response_mask=np.ones((2, 2), bool), group_ids=np.zeros(2, int)
    )
    with pytest.raises(ValueError, match=rf"step is {step!r}; expected the number of the optimisation step"):
        az.compute_advantages(batch, "grpo", step=step)
    assert az.compute_advantages(batch, "grpo", step=np.int64(3)).values.shape == (2, 2)


@pytest.mark.parametrize(
    ("which", "needs"),
    [
        ("grpo", True),
        ("ep_grpo", True),
        ("passk", True),
        ("grpo(singleton=raise)", True),
        ("dr_grpo | whiten", True),
        ("mix(grpo, ep_grpo, 0.5)", True),
        ("gdpo", True),
        ("grpo(singleton=raw)", False),  # plain REINFORCE, which the user has asked for
        ("grpo@verl", False),
        ("reinforce", False),
        ("reinforce_pp", False),
        ("gae", False),
        ("remax", False),
        ("mix(grpo, reinforce, 0.5)", False),
    ],
)
def test_which_estimators_need_more_than_one_response_a_prompt(which, needs):
    assert needs_groups(az.make(which), components=2) == needs


ONE_A_PROMPT = {"gae", "gtpo", "reinforce", "reinforce_pp", "remax", "rl_zvp"}
"""Which learn from a prompt with one response."""


@pytest.mark.parametrize("name", [name for name in az.names() if hasattr(az.estimators, az.estimator(name).__name__)])
def test_all_others_need_several(name):
    assert needs_groups(az.make(name)) == (name not in ONE_A_PROMPT)
