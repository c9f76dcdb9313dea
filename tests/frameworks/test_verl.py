"""Presets and estimators against verl's own functions, in an environment where verl is installed."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("verl")

from golden.calls_verl import CALLS, call, core_algos
from golden.common import (
    TOLERANCE,
    assert_close,
    cancelling_batches,
    compare_on_random_batches,
    complete,
    torch_float32,
    values_of,
)

from advantage_zoo.binding import is_ours

RNG = np.random.default_rng(0)


def batch(rewards, ids, tokens=3):
    return complete(rewards, np.ones((len(rewards), tokens)), ids, RNG)


def only(which, *fields):
    return {name: which[name] for name in ("rewards", "response_mask", "group_ids", *fields)}


def asked(estimator, which, *fields, **params):
    return call(estimator, only(which, *fields), **params)


@pytest.mark.parametrize("label", CALLS)
def test_the_preset_gives_what_verl_gives(label):
    compare_on_random_batches(label, CALLS[label])


@pytest.mark.parametrize("array", [np.asarray, torch_float32])
def test_components_that_cancel_leave_the_same_rounding(array):
    theirs = CALLS["gdpo@verl"]
    for number, which in enumerate(map(theirs.prepared, cancelling_batches())):
        assert_close(values_of("gdpo@verl", which, array), theirs.theirs(which), TOLERANCE, f"batch {number}")


@pytest.mark.parametrize(("lam", "tokens", "bound"), [(1.0, 256, 1e-6), (1.0, 4096, 3e-6), (0.95, 4096, 1e-6)])
def test_gae_of_long_responses(lam, tokens, bound):
    """Where nothing is discounted, verl's float32 sum, one token after the other, drifts with the length."""
    rng = np.random.default_rng(0)
    which = complete(rng.integers(0, 2, 8), np.ones((8, tokens)), np.arange(8) // 2, rng)
    which["values"] = rng.standard_normal((8, tokens)).astype(np.float32).astype(float)
    theirs = asked("gae", which, "values", gamma=1.0, lam=lam)
    assert_close(values_of("gae@verl", only(which, "values"), lam=lam), theirs, bound, f"{tokens} tokens")


def test_every_estimator_of_verl_is_called():
    theirs = {name for name, function in core_algos.ADV_ESTIMATOR_REGISTRY.items() if not is_ours(function)}
    assert {one.name for one in CALLS.values()} == theirs


def test_one_right_of_four():
    which = batch([1, 0, 0, 0], [0, 0, 0, 0])
    expected = {"grpo": (1.499997, -0.499999), "reinforce_plus_plus_baseline": (1.658312, -0.552771)}
    for estimator, (right, wrong) in expected.items():
        np.testing.assert_allclose(asked(estimator, which)[:2, 0], [right, wrong], atol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "raw"), [("grpo", True), ("grpo_vectorized", True), ("rloo", True), ("rloo_vectorized", False)]
)
def test_groups_of_one(estimator, raw):
    got = asked(estimator, batch([1, 0.3], [0, 1]))[:, 0]
    np.testing.assert_allclose(got, [1, 0.3] if raw else [0, 0], atol=1e-6)


def test_equal_rewards_leave_noise():
    """The mean's rounding over 1e-6, which is a matter of the order in which the sum is taken."""
    which = batch([0.81593] * 64, [0] * 64)
    found = [np.abs(asked(estimator, which)).max() for estimator in ("grpo", "grpo_vectorized")]
    np.testing.assert_allclose(found, [0.0562, 0.2629], atol=1e-4)
    np.testing.assert_allclose(np.abs(values_of("grpo@verl", only(which))).max(), found[0], atol=1e-6)
    assert np.abs(values_of("grpo", which)).max() == 0


def test_whitening_refuses_one_token():
    with pytest.raises(ValueError, match="The sum of the mask is one"):
        asked("gae", batch([1.0], [0], 1), "values", gamma=1.0, lam=1.0)
    assert values_of("gae@verl", only(batch([1.0], [0], 1), "values")) == 0
