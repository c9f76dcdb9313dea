"""Presets against TRL's own statements, in an environment where TRL is installed."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

from golden import calls_trl
from golden.calls_trl import CALLS, Lines
from golden.common import (
    TOLERANCE,
    assert_close,
    cancelling_batches,
    compare_on_random_batches,
    complete,
    torch_float32,
    values_of,
)

RNG = np.random.default_rng(0)


def batch(rewards, ids):
    full = complete(rewards, np.ones((len(rewards), 2)), ids, RNG)
    return {name: full[name] for name in ("rewards", "response_mask", "group_ids")}


@pytest.mark.parametrize("label", CALLS)
def test_the_preset_gives_what_trl_gives(label):
    compare_on_random_batches(label, CALLS[label])


def scores_of(which):
    """(B, K) in float64."""
    score = np.zeros_like(which["reward_components"])
    for group in set(which["group_ids"].tolist()):
        rows = which["group_ids"] == group
        x = which["reward_components"][rows]
        score[rows] = (x - x.mean(0)) / (x.std(0, ddof=1) + 1e-4)
    return score


def test_components_that_cancel_leave_the_same_rounding():
    """To the bit on PyTorch; elsewhere but for the last bit of PyTorch's square root, over the batch's deviation."""
    theirs = CALLS["gdpo@trl"]
    for number, which in enumerate(map(theirs.prepared, cancelling_batches())):
        expected, score = theirs.theirs(which), scores_of(which)
        assert_close(values_of("gdpo@trl", which, torch_float32), expected, TOLERANCE, f"batch {number}")
        bound = 2**-23 * np.abs(score).max(0).sum() / (score.sum(1).std(ddof=1) + 1e-4)
        assert_close(values_of("gdpo@trl", which), expected, TOLERANCE + bound, f"batch {number}, NumPy")


def test_one_right_of_four():
    got = CALLS["grpo@trl"].theirs(batch([1, 0, 0, 0], [0, 0, 0, 0]))
    np.testing.assert_allclose(got[:2, 0], [1.4997, -0.4999], atol=1e-5)


@pytest.mark.parametrize("label", ["grpo@trl", "dr_grpo@trl", "rloo@trl"])
def test_groups_of_one_get_nothing(label):
    assert not CALLS[label].theirs(batch([1, 0.3], [0, 1])).any()


@pytest.mark.parametrize("size", [6, 7, 16, 20, 33, 64, 128])
def test_equal_rewards_leave_the_same_noise(size):
    """The mean's rounding over 1e-4."""
    which = batch([0.81593] * size, [0] * size)
    theirs = CALLS["grpo@trl"].theirs(which)
    np.testing.assert_allclose(values_of("grpo@trl", which), theirs, atol=1e-7)
    assert np.abs(theirs).max() < 0.002


def test_a_method_without_the_statements_is_refused(monkeypatch):
    monkeypatch.setattr(calls_trl, "FIRST", "nothing = of the kind")
    with pytest.raises(LookupError, match=r"GRPOTrainer\._generate_and_score_completions of TRL .* has no 'nothing"):
        Lines(calls_trl.grpo_trainer, calls_trl.grpo_trainer.GRPOTrainer)
