"""Hypothesis strategy of rollouts: what batches look like when nobody has tidied them."""

from collections.abc import Collection
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch

JUNK = (0.0, float("nan"), float("inf"), float("-inf"), 1e9)
"""What stands in masked slots."""

DEAD = (0.0, 1.0, 0.5, 0.81593, -3.3, 1 / 3)
"""Rewards of a group whose responses are all rewarded alike."""


EXTRAS = ("sum_pi_squared", "process_logprobs")
"""The extras that built-in estimators read."""


@st.composite
def rollouts(
    draw: st.DrawFn,
    *,
    rows: int | None = None,
    tokens: int | None = None,
    num_groups: int | None = None,
    max_rows: int = 7,
    max_tokens: int = 6,
    large_groups: bool = True,
    token_extras: Collection[str] = (),
    row_extras: Collection[str] = (),
) -> RolloutBatch:
    """Padded NumPy batches, float64, with every optional field, and the extras that a built-in estimator reads.

    Ragged and empty responses, holes in the mask, anything in masked slots, rows in any order, groups of one and of
    unequal sizes, ids without responses, dead groups, 0/1 and continuous rewards and ones far from 0, equal and zero
    entropies, a policy equal to its reference. Log-probabilities are multiples of 1/64 and entropies of 1/1000, so that
    differences are exact in float32, and cumulative entropies stand on a bucket's edge or clear of it.

    Args:
        draw: Hypothesis passes it.
        rows: Number of responses; drawn up to ``max_rows`` if not given.
        tokens: Number of token slots; drawn up to ``max_tokens`` if not given.
        num_groups: Static number of groups; drawn if not given.
        max_rows: Largest number of responses.
        max_tokens: Largest number of token slots.
        large_groups: Whether some batches, unless ``rows`` is given, are one or two groups of 8 to 16 responses.
        token_extras: Names of further extras, (B, T).
        row_extras: Names of further extras, (B,).
    """
    large = large_groups and not rows and draw(st.integers(0, 4)) == 4
    b = rows or draw(st.integers(8, 16) if large else st.integers(1, max_rows))
    t = tokens or draw(st.integers(1, max_tokens))
    used = min(num_groups or b, draw(st.integers(1, 2 if large else b)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    group_ids = np.array(draw(st.lists(st.integers(0, used - 1), min_size=b, max_size=b)))
    # It shrinks towards responses without padding, which are easier to read.
    lengths = t - np.array(draw(st.lists(st.just(0) | st.integers(0, t), min_size=b, max_size=b)))
    mask: NDArray[Any] = np.arange(t) < lengths[:, None]
    if draw(st.booleans()):
        mask &= rng.random((b, t)) < 0.7
    entropies = draw(st.sampled_from([_random_entropies, _equal_entropies, _some_zero]))(rng, b, t)
    logprobs = -rng.integers(0, 64 * 8, (b, t)) / 64
    shift = rng.integers(-64, 64, (b, t)) / 64
    ref_logprobs = np.minimum(logprobs + shift, 0.0) if draw(st.integers(0, 3)) else logprobs.copy()
    junk = draw(st.sampled_from(JUNK))
    rewards = _rewards(draw, rng, group_ids, used)
    return RolloutBatch(
        rewards=rewards,
        response_mask=mask,
        group_ids=group_ids,
        num_groups=num_groups or used + draw(st.sampled_from([0, 0, 2])),
        logprobs=np.where(mask, logprobs, junk),
        ref_logprobs=np.where(mask, ref_logprobs, junk),
        entropies=np.where(mask, entropies, junk),
        token_rewards=np.where(mask, rng.integers(-64, 64, (b, t)) / 64, junk),
        values=np.where(mask, rng.integers(-64, 64, (b, t)) / 64, junk),
        reward_components=np.stack([rewards, rng.integers(0, 2, b).astype(float)], axis=1),
        baseline_rewards=rng.integers(0, 2, b).astype(float),
        extras={
            "sum_pi_squared": np.where(mask, _sum_pi_squared(rng, logprobs), junk),
            "process_logprobs": np.where(mask, -rng.integers(0, 64 * 8, (b, t)) / 64, junk),
            **{name: np.where(mask, rng.integers(-64, 64, (b, t)) / 64, junk) for name in token_extras},
            **{name: rng.integers(-64, 64, b) / 64 for name in row_extras},
        },
    )


def one_batch(token_extras: Collection[str] = (), row_extras: Collection[str] = ()) -> RolloutBatch:
    """A batch as :func:`rollouts` draws them, always the same: three groups, ragged, with a hole."""
    rng = np.random.default_rng(0)
    mask = np.arange(4) < np.array([4, 2, 3, 1, 4, 3])[:, None]
    mask[4, 1] = False
    rewards, ids = np.array([1.0, 0.0, 0.5, 1.0, 1.0, 0.0]), np.array([0, 1, 0, 2, 2, 1])
    logprobs = -rng.integers(1, 64 * 8, mask.shape) / 64
    token = {
        "logprobs": logprobs,
        "ref_logprobs": np.minimum(logprobs + rng.integers(-64, 64, mask.shape) / 64, 0.0),
        "entropies": _random_entropies(rng, *mask.shape),
        **{name: rng.integers(-64, 64, mask.shape) / 64 for name in ("token_rewards", "values")},
    }
    extras = {
        "sum_pi_squared": _sum_pi_squared(rng, logprobs),
        "process_logprobs": -rng.integers(0, 64 * 8, mask.shape) / 64,
        **{name: rng.integers(-64, 64, mask.shape) / 64 for name in token_extras},
        **{name: rng.integers(-64, 64, len(ids)) / 64 for name in row_extras},
    }
    components = np.stack([rewards, rng.integers(0, 2, len(ids)).astype(float)], axis=1)
    return RolloutBatch(
        rewards=rewards,
        response_mask=mask,
        group_ids=ids,
        num_groups=4,
        reward_components=components,
        baseline_rewards=rng.integers(0, 2, len(ids)).astype(float),
        extras=extras,
        **token,
    )


def _sum_pi_squared(rng: np.random.Generator, logprobs: NDArray[Any]) -> NDArray[Any]:
    """Sum over the vocabulary of squared probabilities: the token's own, and at most the square of what is left."""
    pi = np.exp(logprobs)
    return pi**2 + (1 - pi) ** 2 * rng.integers(32, 65, logprobs.shape) / 64


def _rewards(draw: st.DrawFn, rng: np.random.Generator, group_ids: NDArray[Any], used: int) -> NDArray[Any]:
    rewards = np.zeros(len(group_ids))
    for group in range(used):
        member = group_ids == group
        count = int(member.sum())
        match draw(st.sampled_from(["binary", "real", "dead", "offset"])):
            case "binary":
                rewards[member] = rng.integers(0, 2, count)
            case "real":
                rewards[member] = rng.integers(-3000, 3000, count) / 1000
            case "dead":
                rewards[member] = draw(st.sampled_from(DEAD))
            case _:
                rewards[member] = 1000 + rng.integers(0, 8, count) / 8
    return rewards


def _random_entropies(rng: np.random.Generator, b: int, t: int) -> NDArray[Any]:
    return rng.integers(0, 3000, (b, t)) / 1000


def _equal_entropies(rng: np.random.Generator, b: int, t: int) -> NDArray[Any]:
    return np.full((b, t), rng.choice([0.1, 0.7, 1.0]))


def _some_zero(rng: np.random.Generator, b: int, t: int) -> NDArray[Any]:
    return _random_entropies(rng, b, t) * (rng.random((b, 1)) < 0.5)
