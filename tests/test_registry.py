"""Names, parameters and what is said when they are wrong. Plugins from wheels are tested in tests/wheel/."""

import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import numpy as np
import pytest

import advantage_zoo as az
from advantage_zoo.registry import BUILTIN, Registry


@pytest.fixture
def batch():
    return az.RolloutBatch(
        rewards=np.array([1.0, 0.0, 0.0, 0.0]), response_mask=np.ones((4, 2), bool), group_ids=np.zeros(4, int)
    )


def test_builtins_are_there_sorted(monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")
    assert az.names() == tuple(sorted(az.names()))
    assert {"grpo", "dr_grpo", "dapo", "ep_grpo"} <= set(az.names())
    assert az.estimator("ep_grpo").needs == {"entropies", "logprobs", "ref_logprobs"}


@pytest.mark.parametrize(
    ("typo", "meant"), [("gpro", "grpo"), ("ep_gro", "ep_grpo"), ("DAPO", "dapo"), ("grp", "grpo"), ("zzzz", None)]
)
def test_unknown_name_tells_the_nearest(typo, meant):
    with pytest.raises(LookupError) as failed:
        az.estimator(typo)
    assert repr(typo) in str(failed.value)
    assert "dr_grpo" in str(failed.value)  # all are listed
    if meant:
        assert f"did you mean {meant!r}" in str(failed.value)


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"epsilon": 1.0}, TypeError, r"grpo has no parameter 'epsilon' \(did you mean 'eps'\?\)"),
        ({"eps": "small"}, TypeError, "grpo.eps is 'small'; expected a number"),
        ({"eps": True}, TypeError, "grpo.eps is True; expected a number"),
        ({"eps": -1.0}, ValueError, r"grpo.eps is -1.0; expected at least 0"),
        ({"eps": float("nan")}, ValueError, "grpo.eps is nan; expected a finite number"),
        ({"ddof": 2}, ValueError, "grpo.ddof is 2; expected at most 1"),
        ({"ddof": 1.0}, TypeError, "grpo.ddof is 1.0; expected a whole number"),
        ({"singleton": "zeros"}, ValueError, r"grpo.singleton is 'zeros' \(did you mean 'zero'\?\); expected one of"),
    ],
)
def test_bad_parameters_are_refused_by_name(batch, params, error, words):
    with pytest.raises(error, match=words):
        az.compute_advantages(batch, "grpo", **params)


def test_numbers_of_numpy_and_ints_for_floats_are_taken():
    made = az.estimators.GRPO(eps=np.float32(0.5), ddof=np.int64(0))
    assert (made.eps, made.ddof) == (0.5, 0)
    assert type(made.eps) is float
    assert az.estimators.GRPO(eps=0).eps == 0.0


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "ep_grpo"])
def test_instances_are_values(name):
    made = az.estimator(name)()
    assert made == az.estimator(name)()
    assert hash(made) == hash(az.estimator(name)())
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(FrozenInstanceError):
        made.eps = 1.0


def test_an_instance_has_its_parameters_already(batch):
    with pytest.raises(TypeError, match="eps: grpo has its parameters already; write them inside"):
        az.compute_advantages(batch, az.estimators.GRPO(), eps=1.0)
    with pytest.raises(TypeError, match="neither an estimator's name nor an instance"):
        az.compute_advantages(batch, az.estimators.GRPO)


def test_a_missing_input_is_named(batch):
    with pytest.raises(ValueError, match="ep_grpo needs entropies and logprobs and ref_logprobs, which the batch"):
        az.compute_advantages(batch, "ep_grpo")


@dataclass(frozen=True)
class Peeking(az.Estimator):
    name: ClassVar[str] = "peeking"

    def compute(self, batch):
        return az.Advantages(batch.entropies)


@dataclass(frozen=True)
class Misshapen(az.Estimator):
    name: ClassVar[str] = "misshapen"

    def compute(self, batch):
        return az.Advantages(batch.rewards)


def test_what_an_estimator_did_not_declare_it_does_not_get(batch):
    with pytest.raises(AttributeError, match="entropies was not handed over: name it in the estimator's needs"):
        az.compute_advantages(batch, Peeking())


def test_values_of_a_wrong_shape_are_refused(batch):
    with pytest.raises(ValueError, match=r"misshapen returned values of shape \(4,\); expected one a token, \(8,\)"):
        az.compute_advantages(batch, Misshapen())


def test_extras_reach_an_estimator_that_names_them(batch):
    @dataclass(frozen=True)
    class Weighted(az.Estimator):
        name: ClassVar[str] = "weighted"
        needs: ClassVar[frozenset[str]] = frozenset({"difficulty"})

        def compute(self, batch):
            return az.Advantages(batch.to_tokens(batch.rewards * batch.difficulty))

    with pytest.raises(ValueError, match="weighted needs difficulty"):
        az.compute_advantages(batch, Weighted())
    hard = az.RolloutBatch(
        rewards=batch.rewards,
        response_mask=batch.response_mask,
        group_ids=batch.group_ids,
        extras={"difficulty": np.array([2.0, 1.0, 1.0, 1.0])},
    )
    assert az.compute_advantages(hard, Weighted()).values[0, 0] == 2.0


def test_two_plugins_a_builtin_and_one_name():
    """Three plugins claim one name: none has it plainly, each has it qualified, in any order of arrival."""
    found = Registry()
    found.add(BUILTIN, [az.estimators.GRPO])
    for plugin in ("a", "b", "c"):
        found.add(plugin, [Peeking])
    assert [entry.key for entry in found.listed()] == ["a:peeking", "b:peeking", "c:peeking", "grpo"]
    assert found.clashes == {"peeking": ["a:peeking", "b:peeking", "c:peeking"]}


def test_a_plugin_cannot_offer_one_name_twice():
    found = Registry()

    @dataclass(frozen=True)
    class Other(Peeking):
        name: ClassVar[str] = "peeking"

    found.add("a", [Peeking, Misshapen, Peeking])  # the same class again does no harm
    assert [entry.key for entry in found.listed()] == ["misshapen", "peeking"]
    assert not found.problems
    found.add("b", [Misshapen, Other, Peeking])
    assert found.entries["b:peeking"].cls is Other
    assert "b:peeking" in found.problems


class EntryPoint:
    """What importlib.metadata finds of a package that is installed."""

    def __init__(self, name, loads):
        self.name, self.value, self.loads = name, f"{name}:plugin", loads

    def load(self):
        return self.loads


@pytest.fixture
def installed(monkeypatch):
    """Stand-ins for installed plugins, and a registry that has not been loaded yet."""
    import importlib.metadata

    from advantage_zoo import registry

    def install(**plugins):
        points = [EntryPoint(name, plugin) for name, plugin in plugins.items()]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
        monkeypatch.setattr(registry, "_loaded", {})

    return install


class Hooked:
    __hash__ = None  # a plugin may be any object

    @az.hookimpl
    def advantage_zoo_register_estimators(self, register):
        register(Misshapen)


class Hookless:
    pass


def test_a_plugin_may_be_any_object(installed):
    installed(odd=Hooked(), mute=Hookless())
    assert az.estimator("misshapen") is Misshapen
    assert az.estimator("grpo") is az.estimators.GRPO
    with pytest.raises(LookupError, match="Plugin mute: it implements no hook advantage_zoo_register_estimators"):
        az.estimator("mute:anything")


@pytest.mark.parametrize("offered", ["a string", az.Estimator, Misshapen()])
def test_what_is_no_estimator_class_is_not_registered(installed, offered):
    class Plugin:
        @az.hookimpl
        def advantage_zoo_register_estimators(self, register):
            register(offered)

    installed(acme=Plugin())
    with pytest.raises(LookupError, match="Plugin acme: failed to register its estimators"):
        az.estimator("misshapen")
