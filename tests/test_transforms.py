"""DAPO's overlong penalty against Eq. 13, and together with dynamic sampling."""

import numpy as np
import pytest

import advantage_zoo as az


def batch_of(lengths, rewards, dtype=np.float64, **fields):
    width = max(*lengths, 1)
    return az.RolloutBatch(
        rewards=np.asarray(rewards, dtype=dtype),
        response_mask=np.arange(width)[None, :] < np.asarray(lengths)[:, None],
        group_ids=np.zeros(len(lengths), dtype=int),
        **fields,
    )


def equation_13(length, max_length, cache):
    if length <= max_length - cache:
        return 0.0
    if length <= max_length:
        return ((max_length - cache) - length) / cache
    return -1.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0])
def test_the_penalty_is_equation_13(dtype, weight):
    lengths = list(range(15))
    batch = batch_of(lengths, [1] * 15, dtype)
    shaped = az.transforms.OverlongPenalty(max_length=10, cache_length=4, weight=weight)(batch)
    np.testing.assert_allclose(shaped.rewards, [1 + weight * equation_13(n, 10, 4) for n in lengths], atol=1e-7)
    assert shaped.rewards.dtype == (np.float64 if dtype is np.int64 else dtype)
    assert shaped.extras["task_rewards"] is batch.rewards


def test_a_hole_is_no_length():
    batch = batch_of([6], [1.0])
    batch.response_mask[0, 2] = False
    shaped = az.transforms.OverlongPenalty(max_length=6, cache_length=2)(batch)
    assert shaped.rewards[0] == 0.5  # five emitted tokens


def test_dynamic_sampling_asks_the_task():
    """An all-right group stays all right, however its lengths shape its rewards; twice shaped is asked the same."""
    penalty = az.transforms.OverlongPenalty(max_length=6, cache_length=5)
    batch = batch_of([1, 6, 6, 6], [1.0, 1.0, 1.0, 1.0])
    for shaped in (penalty(batch), penalty(penalty(batch))):
        result = az.compute_advantages(shaped, "dapo")
        assert not result.diagnostics["keep"].any()
        assert result.diagnostics["kept_groups"] == 0
        assert result.values.any()  # the shaped rewards differ, and that is what GRPO's advantage is of
    naive = az.RolloutBatch(
        rewards=penalty(batch).rewards, response_mask=batch.response_mask, group_ids=batch.group_ids
    )
    assert az.compute_advantages(naive, "dapo").diagnostics["keep"].all()


def test_a_reward_that_is_not_finite_is_still_refused():
    shaped = az.transforms.OverlongPenalty(max_length=6, cache_length=5)(batch_of([1, 2], [np.nan, 0.0]))
    with pytest.raises(ValueError, match=r"rewards\[0\] \(row 0\) is nan"):
        az.compute_advantages(shaped, "dapo")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"max_length": 4, "cache_length": 5}, ValueError, "cache_length is 5; expected more than 0 and at most max_"),
        ({"max_length": 4, "cache_length": 0}, ValueError, "cache_length is 0; expected more than 0"),
        ({"max_length": 4.5, "cache_length": 2}, TypeError, "max_length is 4.5; expected a whole number of tokens"),
        ({"max_length": 4, "cache_length": 2, "weight": -1.0}, ValueError, "weight is -1.0; expected a finite number"),
        ({"max_length": 4, "cache_length": 2, "weight": "1"}, ValueError, "weight is '1'; expected a finite number"),
    ],
)
def test_bad_lengths_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        az.transforms.OverlongPenalty(**arguments)
