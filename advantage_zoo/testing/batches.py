"""Rollouts as they occur, for Hypothesis: ragged, holed, unequal, tied, collapsed, shuffled, with rubbish in the padding.

Drawn as NumPy float64 and converted afterwards (advantage_zoo.testing.convert); drawing through JAX is many times slower.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch

REWARDS: dict[str, Callable[[np.random.Generator, int], NDArray[Any]]] = {
    "binary": lambda rng, n: rng.integers(0, 2, n).astype(float),
    "eighths": lambda rng, n: rng.integers(-16, 17, n) / 8,
    "ones": lambda rng, n: np.ones(n),
    "zeros": lambda rng, n: np.zeros(n),
    "equal": lambda rng, n: np.full(n, rng.random()),
}
ENTROPIES: dict[str, Callable[[np.random.Generator, tuple[int, int]], NDArray[Any]]] = {
    "continuous": lambda rng, shape: rng.gamma(0.7, 1.0, shape),
    "tied": lambda rng, shape: rng.integers(0, 3, shape) / 10,
    "equal": lambda rng, shape: np.full(shape, 0.1),
    "zero": lambda rng, shape: np.zeros(shape),
}
_RUBBISH = (0.0, np.nan, np.inf, -np.inf, 1e9)


@st.composite
def rollouts(draw: st.DrawFn, *, rewards: tuple[str, ...] = tuple(REWARDS), max_tokens: int = 8) -> RolloutBatch:
    """A padded NumPy batch in float64 with all three signals.

    Args:
        draw: Hypothesis'.
        rewards: Kinds of rewards that a group may have, of ``REWARDS``.
        max_tokens: Largest T.
    """
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    width = draw(st.integers(1, max_tokens))
    kinds = draw(st.lists(st.sampled_from(rewards), min_size=len(sizes), max_size=len(sizes)))
    entropy = draw(st.sampled_from(tuple(ENTROPIES)))
    moved = draw(st.booleans())
    holes, empties = draw(st.booleans()), draw(st.booleans())
    spare_groups = draw(st.integers(0, 2))
    rubbish = draw(st.sampled_from(_RUBBISH))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return make_batch(rng, sizes, width, kinds, entropy, moved, holes, empties, spare_groups, rubbish)


def make_batch(
    rng: np.random.Generator,
    sizes: list[int],
    width: int,
    kinds: list[str],
    entropy: str = "continuous",
    moved: bool = True,
    holes: bool = True,
    empties: bool = False,
    spare_groups: int = 0,
    rubbish: float = np.nan,
) -> RolloutBatch:
    """The batch that the drawn choices describe; ``moved`` is whether the policy has left its reference."""
    rows = sum(sizes)
    shape = (rows, width)
    reward = np.concatenate([REWARDS[kind](rng, size) for kind, size in zip(kinds, sizes, strict=True)])
    groups = np.repeat(np.arange(len(sizes)), sizes)
    lengths = rng.integers(0 if empties else 1, width + 1, rows)
    mask = np.arange(width)[None, :] < lengths[:, None]
    if holes:
        mask &= rng.random(shape) < 0.8
        if not empties:
            mask[:, 0] = True  # else a response may lose its only token to a hole
    order = rng.permutation(rows)
    labels = rng.permutation(len(sizes) + spare_groups)
    logprobs = -rng.gamma(0.7, 1.0, shape)
    signals = {
        "entropies": ENTROPIES[entropy](rng, shape),
        "logprobs": logprobs,
        "ref_logprobs": np.minimum(logprobs + rng.normal(0, 0.5, shape), 0.0) if moved else logprobs.copy(),
    }
    return RolloutBatch(
        rewards=reward[order],
        response_mask=mask,
        group_ids=labels[groups[order]],
        num_groups=len(labels),
        **{name: np.where(mask, x, rubbish) for name, x in signals.items()},
    )


def example_batches(count: int = 40, seed: int = 0, **fixed: Any) -> Iterator[RolloutBatch]:
    """The same kinds of batches without Hypothesis, always the same ones, all of one shape.

    For libraries that compile anew for each shape, and for estimators that are broken on purpose.
    """
    rng = np.random.default_rng(seed)
    sizes = [4, 3, 1]
    for _ in range(count):
        choices: dict[str, Any] = {
            "width": 12,
            "kinds": [str(kind) for kind in rng.choice(list(REWARDS), len(sizes), p=[0.5, 0.3, 0.06, 0.06, 0.08])],
            "entropy": str(rng.choice(list(ENTROPIES), p=[0.7, 0.1, 0.1, 0.1])),
            "moved": bool(rng.random() < 0.85),
            "holes": bool(rng.random() < 0.5),
            "empties": bool(rng.random() < 0.3),
            "spare_groups": 1,
            "rubbish": float(rng.choice(_RUBBISH)),
            **fixed,
        }
        yield make_batch(rng, sizes, **choices)
