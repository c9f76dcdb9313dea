"""A batch as the tallies see it: its valid tokens one after the other, and on which side of each line they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.compare.landmarks import FIFTHS, TENTHS, Landmarks
from advantage_zoo.rollouts.ragged import Ragged
from advantage_zoo.rollouts.rollouts import NO_STEP

WRONG, RIGHT = 0, 1


@dataclass(frozen=True)
class Axis:
    """A way to sort the valid tokens into bins.

    Args:
        title: What they are sorted by.
        labels: One for each bin.
    """

    title: str
    labels: Sequence[str]


def axes(lines: Landmarks) -> list[Axis]:
    """Entropy (where known) in tenths of the tokens, position in tenths of the response, length in fifths of responses.

    Tokens of equal entropy and responses of equal length share a bin, so bins may be unequal or empty.
    """
    if lines.length_edges is None:
        return []
    found: list[Axis] = []
    if lines.entropy_edges is not None:
        found.append(Axis("entropy", [f"{a:.2g}-{b:.2g} nats" for a, b in pairwise(lines.entropy_edges)]))
    tenths = [f"{100 * i // TENTHS}-{100 * (i + 1) // TENTHS} %" for i in range(TENTHS)]
    found.append(Axis("position", tenths))
    fifths = [f"{a:.0f}-{b:.0f} tokens" for a, b in pairwise(lines.length_edges)]
    found.append(Axis("length of the response", fifths))
    return found


@dataclass(frozen=True, eq=False)
class Part:
    """B responses of n valid tokens, among them every response of each of their groups.

    Args:
        ragged: The responses.
        lines: The landmarks.
        threshold: A response is successful if its reward is above this.
    """

    ragged: Ragged
    lines: Landmarks
    threshold: float

    @cached_property
    def batch(self) -> RolloutBatch:
        """What estimators are given."""
        return self.ragged.batch()

    @cached_property
    def axes(self) -> list[Axis]:
        """What tokens are sorted by."""
        return axes(self.lines)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(n,) which response a valid token belongs to."""
        return np.repeat(np.arange(len(self.ragged)), self.ragged.lengths)[self.ragged.mask]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(B,) valid tokens of each response."""
        return np.bincount(self.rows, minlength=len(self.ragged))

    @cached_property
    def pivots(self) -> NDArray[np.bool_] | None:
        """(n,) the valid tokens of highest entropy, ties with the last of them included."""
        return None if self.lines.pivot is None else self._entropies >= self.lines.pivot

    @cached_property
    def bins(self) -> list[NDArray[np.int64]]:
        """(n,) for each of :func:`axes`: the bin of each valid token."""
        if self.lines.length_edges is None:
            return []
        begins = self.lengths.cumsum() - self.lengths
        places = (np.arange(len(self.rows)) - begins[self.rows]) / self.lengths[self.rows]
        found = [np.minimum((places * TENTHS).astype(np.int64), TENTHS - 1)]
        found.append(_bins(self.lengths, self.lines.length_edges, FIFTHS)[self.rows])
        if self.lines.entropy_edges is not None:
            found.insert(0, _bins(self._entropies, self.lines.entropy_edges, TENTHS))
        return found

    @property
    def _entropies(self) -> NDArray[np.float32]:
        return self.ragged.tokens["entropies"][self.ragged.mask]

    @cached_property
    def short_and_long(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """(B,) twice: the shortest and the longest quarter, ties included; ``None`` if all are equally long."""
        if self.lines.quartiles is None:
            return None
        low, high = self.lines.quartiles
        return (self.lengths > 0) & (self.lengths <= low), self.lengths >= high

    @cached_property
    def equal_and_alone(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(B,) twice: responses of groups of several with equal rewards, and those that are alone in theirs."""
        ids, rewards, present = np.asarray(self.batch.group_ids), self.ragged.rewards, self.lengths > 0
        count = int(self.batch.num_groups or 0)
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(low, ids[present], rewards[present])
        np.maximum.at(high, ids[present], rewards[present])
        sizes = np.bincount(ids[present], minlength=count)
        return present & ((sizes > 1) & (low == high))[ids], present & (sizes == 1)[ids]

    @cached_property
    def steps(self) -> NDArray[np.int64]:
        """(n,) which reasoning step, counted through all responses, a valid token belongs to; S for none."""
        index = self.ragged.tokens.get("step_index")
        total = len(self.ragged.step_correct)
        if index is None:
            return np.full(len(self.rows), total)
        index, counts = index[self.ragged.mask], self.ragged.step_counts
        begins = counts.cumsum() - counts
        return np.where(index == NO_STEP, total, begins[self.rows] + index)

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """(S,) whether the step stands in a failed response."""
        return np.repeat(self.ragged.rewards <= self.threshold, self.ragged.step_counts)

    def a_step(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """(n,) to (S,): sum over each step."""
        total = len(self.ragged.step_correct)
        return np.bincount(self.steps, weights=x, minlength=total + 1)[:total].astype(np.float64)


def _bins(x: NDArray[Any], edges: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, x, side="right") - 1, 0, count - 1)
