"""What estimators say that advantages are made of: put together again, it is the advantage, at all parameters."""

import importlib
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import advantage_zoo as az
from advantage_zoo.flat import FlatBatch
from advantage_zoo.parameters import parameters_of
from advantage_zoo.testing import rollouts
from advantage_zoo.testing.strategies import one_batch

NAMES = tuple(name for name in az.names() if ":" not in name)


def share(part, whole):
    """``part / whole``, 0 where the whole is 0."""
    return np.where(whole == 0, 0.0, part / np.where(whole == 0, 1.0, whole))


def total(*names):
    return lambda t, e: sum(t[name] for name in names)


def less(name, baseline):
    return lambda t, e: t[name] - t[baseline]


def over(x, deviation, mean=None):
    """``x`` less the mean, over the deviation plus eps; what is not among the terms is not there."""

    def put_together(t, e):
        d = x(t, e) - t.get(mean, 0.0)
        # The raw reward of a group of one is divided by 1, and by nothing else.
        eps = np.where(t["raw"] & (t.get(deviation) == 1), 0.0, e.eps) if deviation in t else 0.0
        return share(d, t[deviation] + eps) if deviation in t else d

    return put_together


def of_gdpo(t, e):
    parts = sum(x for name, x in t.items() if name.startswith("component"))
    return over(lambda *_: parts, "batch deviation", "batch mean")(t, e)


def of_passk(t, e):
    fails, fails_with = t["none of k is right"], t["the same, this one drawn"]
    return share(fails - fails_with, np.sqrt(fails * (1 - fails)))


TOGETHER = {
    "dapo": over(less("reward", "group mean"), "group deviation"),
    "dr_grpo": less("reward", "group mean"),
    "entropy_advantage": total("outcome", "bonus"),
    "ep_grpo": total("outcome", "progress"),
    "erpo": total("outcome", "progress"),
    "gae": over(total("error", "later errors"), "batch deviation", "batch mean"),
    "gdpo": of_gdpo,
    "gpg": lambda t, e: t["alpha"] * (t["reward"] - t["group mean"]),
    "grpo": over(less("reward", "group mean"), "group deviation"),
    "grpo_s": over(total("outcome", "entropy share"), "deviation", "mean"),
    "gtpo": over(total("outcome", "entropy share"), "set deviation", "set mean"),
    "lite_ppo": over(less("reward", "group mean"), "batch deviation"),
    "maxrl": lambda t, e: share(t["reward"] - t["group mean"], t["divisor"]),
    "opo": less("reward", "mean by length"),
    "otb": less("return", "baseline"),
    "passk": of_passk,
    "passk_leader": lambda t, e: np.maximum(over(less("reward", "best of the others"), "group deviation")(t, e), 0),
    "prime": over(total("outcome", "process"), "batch deviation", "batch mean"),
    "qae": over(less("reward", "group quantile"), "group deviation"),
    "reinforce_pp": over(total("return"), "batch deviation", "batch mean"),
    "reinforce_pp_baseline": over(less("reward", "group mean"), "batch deviation", "batch mean"),
    "remax": less("reward", "greedy reward"),
    "rl_zvp": total("outcome", "entropy"),
    "rloo": less("reward", "mean of the others"),
}
SUMS_ALONE = {"reinforce": "the return is all there is"}


def explained(estimator, batch):
    """(N,) each."""
    flat = FlatBatch(batch, estimator.needs, estimator.uses)
    rows = len(batch.rewards)
    terms = {name: np.asarray(x, dtype=float) for name, x in estimator.explain(flat).items()}
    assert terms
    terms = {name: flat.to_tokens(x) if x.shape == (rows,) else x for name, x in terms.items()}
    return {**terms, "raw": flat.to_tokens(flat.alone & (getattr(estimator, "singleton", "") == "raw"))}


def test_every_estimator_explains_itself_or_has_nothing_to_explain():
    assert {name for name in NAMES if az.estimator(name).explains()} == set(TOGETHER)
    assert set(NAMES) - set(TOGETHER) == set(SUMS_ALONE)


@pytest.mark.parametrize("name", [*TOGETHER, "ep_grpo@literal"])
def test_the_terms_recombine_to_the_advantage(name):
    plain = name.partition("@")[0]
    params = importlib.import_module(f"oracles.{plain}").PARAMS

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(rollouts(), params)
    def check(batch, given_params):
        wanted = {} if "@" in name else given_params
        estimator = az.estimator(name)(**wanted)
        values = az.compute_advantages(batch, estimator).values.ravel()
        mask = batch.response_mask.ravel()
        terms = explained(estimator, batch)
        together = TOGETHER[plain](terms, estimator)
        # What is left of rewards of 1,000 has lost three digits; an eps of 0 gives them back as many times over.
        largest = max(1.0, np.abs(values).max(initial=0))
        np.testing.assert_allclose(together[mask], values[mask], atol=1e-6 * largest, rtol=1e-6, err_msg=str(terms))

    check()


ONE = one_batch()


@pytest.mark.parametrize("name", [name for name in TOGETHER if "singleton" in parameters_of(az.estimator(name))])
@pytest.mark.parametrize("singleton", ["zero", "raw"])
def test_a_group_of_one_is_explained(name, singleton):
    """Beside one of equal rewards, so that what is counted of the batch is not 1."""
    rows = len(ONE.rewards)
    rewards = np.array([0.75, 0.5, 0.5, *np.linspace(0, 1, rows - 3)])
    groups = np.array([0, 1, 1, *[2] * (rows - 3)])
    batch = replace(ONE, rewards=rewards, group_ids=groups, num_groups=3, reward_components=rewards[:, None] * [1, 0.5])
    estimator = az.make(name, singleton=singleton)
    values, mask = az.compute_advantages(batch, estimator).values.ravel(), batch.response_mask.ravel()
    together = TOGETHER[name](explained(estimator, batch), estimator)
    np.testing.assert_allclose(together[mask], values[mask], atol=1e-6, rtol=1e-6)


def test_ep_grpos_gate_and_buckets_are_told(xp):
    estimator = az.make("ep_grpo", num_buckets=4)
    assert ONE.num_groups > 1
    terms = estimator.explain(FlatBatch(xp.batch(ONE), estimator.needs, estimator.uses))
    assert list(terms) == ["gate", "bucket", "outcome", "progress"]
    mask, gate, bucket = ONE.response_mask.ravel(), xp.asnumpy(terms["gate"]), xp.asnumpy(terms["bucket"])
    assert set(bucket[mask]) == {0, 1, 2, 3}
    assert np.all((gate[mask] > 0) & (gate[mask] < 1))
    grpo = xp.asnumpy(az.compute_advantages(xp.batch(ONE), "grpo").values).ravel()
    np.testing.assert_allclose(xp.asnumpy(terms["outcome"])[mask], (gate * grpo)[mask], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["ep_grpo", "erpo"])
def test_a_response_ends_in_the_last_bucket_of_its_group(name):
    estimator = az.make(name)
    terms = estimator.explain(FlatBatch(ONE, estimator.needs, estimator.uses))
    assert list(terms) == ["gate", "bucket", "outcome", "progress"]
    buckets = terms["bucket"].reshape(ONE.response_mask.shape)
    for row, mask in enumerate(ONE.response_mask):
        assert buckets[row][mask].min() >= 0
        assert buckets[row][mask][-1] == estimator.num_buckets - 1


def test_components_are_numbered_from_one():
    estimator, batch = az.make("gdpo"), replace(ONE, reward_components=np.ones((len(ONE.rewards), 3)))
    terms = estimator.explain(FlatBatch(batch, estimator.needs, estimator.uses))
    assert [name for name in terms if "component" in name] == ["component 1", "component 2", "component 3"]


@dataclass(frozen=True)
class Doubled(az.estimators.GRPO):
    name: ClassVar[str] = "doubled"

    def compute(self, batch):
        return az.Advantages(2 * super().compute(batch).values)


@dataclass(frozen=True)
class Told(Doubled):
    name: ClassVar[str] = "told"

    def explain(self, batch):
        return {"mine": batch.rewards}


def test_another_formula_does_not_inherit_what_the_first_was_made_of():
    assert az.estimators.GRPO.explains()
    assert not Doubled.explains()
    assert Told.explains()
    assert not any(az.estimator(name).explains() for name in az.presets() if name != "ep_grpo@literal")


def test_explaining_is_not_for_numpy_alone(xp):
    batch = xp.batch(ONE, "float64")
    for name in TOGETHER:
        estimator = az.estimator(name)()
        terms = estimator.explain(FlatBatch(batch, estimator.needs, estimator.uses))
        plain = estimator.explain(FlatBatch(ONE, estimator.needs, estimator.uses))
        for key, x in terms.items():
            there = np.isfinite(np.asarray(plain[key], dtype=float))
            np.testing.assert_allclose(xp.asnumpy(x)[there], plain[key][there], rtol=1e-9, atol=1e-12, err_msg=name)
