"""Where the metrics draw their lines: quantiles of entropy and length over everything that is compared.

They are exact, and found without holding the tokens: a first pass counts entropies by the upper half of their bits, a
second one counts, of the few halves in which a quantile lies, the lower halves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HIGH_ENTROPY = 0.2
"""Share of the valid tokens, those of highest entropy, that count as decision points (arXiv:2506.01939)."""

TENTHS, FIFTHS = 10, 5
_HALF = 2**16


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Lines between tokens, and between responses.

    Args:
        pivot: Entropy, in nats, of the last of the 20 % of valid tokens with the highest; ``None`` if unknown.
        entropy_edges: (11,) tenths of the valid tokens by entropy; ``None`` if unknown.
        length_edges: (6,) fifths of the responses that have a valid token, by valid tokens; ``None`` without any.
        quartiles: Of the same; ``None`` if all are equally long.
    """

    pivot: float | None
    entropy_edges: NDArray[np.float64] | None
    length_edges: NDArray[np.float64] | None
    quartiles: tuple[float, float] | None


def landmarks(lengths: NDArray[np.int64], entropies: "Ranks | None") -> Landmarks:
    """From the valid tokens of each response (B,), and the entropies at the ranks that :func:`wanted` names."""
    present = lengths[lengths > 0].astype(np.float64)
    if not present.size:
        return Landmarks(None, None, None, None)
    low, high = np.quantile(present, [0.25, 0.75])
    pivot, edges = None, None
    if entropies is not None:
        count = int(present.sum())
        pivot = entropies[_pivot_rank(count)]
        places = np.linspace(0, 1, TENTHS + 1) * (count - 1)
        pairs = [(entropies[int(np.floor(p))], entropies[int(np.ceil(p))]) for p in places]
        edges = np.array([a + (b - a) * (p % 1) for (a, b), p in zip(pairs, places, strict=True)])
    return Landmarks(
        pivot,
        edges,
        np.quantile(present, np.linspace(0, 1, FIFTHS + 1)),
        None if present.min() == present.max() else (float(low), float(high)),
    )


def wanted(count: int) -> list[int]:
    """Ranks, from 0, among ``count`` valid tokens that the lines are made of."""
    places = np.linspace(0, 1, TENTHS + 1) * (count - 1)
    return sorted({_pivot_rank(count), *np.floor(places).astype(int).tolist(), *np.ceil(places).astype(int).tolist()})


def _pivot_rank(count: int) -> int:
    return count - int(np.ceil(HIGH_ENTROPY * count))


Ranks = dict[int, float]
"""The number at each rank of a sorted sequence."""


def upper_counts(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """(65536,) how many of ``x`` have each upper half."""
    return np.bincount(_keys(x) >> 16, minlength=_HALF)


def lower_counts(x: NDArray[np.float32], halves: Sequence[int]) -> NDArray[np.int64]:
    """(len(halves), 65536) of the numbers with each of these upper halves, how many have each lower half."""
    keys = _keys(x)
    place = np.full(_HALF, len(halves), dtype=np.int64)
    place[list(halves)] = np.arange(len(halves))
    at = place[keys >> 16]
    inside = at < len(halves)
    flat = at[inside] * _HALF + (keys[inside] & (_HALF - 1))
    return np.bincount(flat, minlength=len(halves) * _HALF).reshape(-1, _HALF)


def halves_of(ranks: Sequence[int], upper: NDArray[np.int64]) -> list[int]:
    """The upper halves that hold the numbers at ``ranks``."""
    return sorted(set(np.searchsorted(upper.cumsum(), ranks, side="right").tolist()))


def at_ranks(ranks: Sequence[int], upper: NDArray[np.int64], lower: NDArray[np.int64]) -> Ranks:
    """The numbers at ``ranks``, from the counts of both passes."""
    halves, ends = halves_of(ranks, upper), upper.cumsum()
    found: Ranks = {}
    for rank in ranks:
        half = int(np.searchsorted(ends, rank, side="right"))
        inside = rank - int(ends[half] - upper[half])
        low = int(np.searchsorted(lower[halves.index(half)].cumsum(), inside, side="right"))
        found[rank] = _number(half * _HALF + low)
    return found


def ranks_of(x: NDArray[np.float32], ranks: Sequence[int]) -> Ranks:
    """The numbers at ``ranks`` of numbers that are all at hand."""
    upper = upper_counts(x)
    return at_ranks(ranks, upper, lower_counts(x, halves_of(ranks, upper)))


def _keys(x: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Integers that are ordered as the numbers are; -0 and 0 are one."""
    bits = (x + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(2**31))


def _number(key: int) -> float:
    bits = key & (2**31 - 1) if key >> 31 else ~key & (2**32 - 1)
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])
