"""What is known of the rollouts before an estimator runs: a few numbers a response, and the landmarks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.compare.landmarks import Landmarks, landmarks, ranks_of, wanted
from advantage_zoo.rollouts.ragged import Ragged
from advantage_zoo.validation import waste


@dataclass(frozen=True, eq=False)
class Survey:
    """B responses.

    Args:
        rewards: (B,).
        groups: (B,) any integers; no group has responses of two batches.
        batches: (B,) which training step each belongs to.
        lengths: (B,) tokens of each.
        valid: (B,) valid tokens of each.
        lines: Where the metrics draw their lines.
    """

    rewards: NDArray[np.float64]
    groups: NDArray[np.int64]
    batches: NDArray[np.int64]
    lengths: NDArray[np.int64]
    valid: NDArray[np.int64]
    lines: Landmarks

    @classmethod
    def of(cls, ragged: Ragged) -> "Survey":
        """Of responses that are all at hand."""
        mask, valid = ragged.mask, ragged.valid
        entropies = ragged.tokens.get("entropies")
        known = entropies is not None and bool(mask.any())
        ranks = ranks_of(entropies[mask], wanted(int(valid.sum()))) if known and entropies is not None else None
        return cls(ragged.rewards, ragged.groups, ragged.batches, ragged.lengths, valid, landmarks(valid, ranks))

    def __len__(self) -> int:
        return len(self.rewards)

    def totals(self, threshold: float) -> "Totals":
        """The numbers of the heading."""
        return Totals(
            responses=len(self),
            groups=len(np.unique(self.groups)),
            batches=len(np.unique(self.batches)),
            tokens=int(self.lengths.sum()),
            solved=float((self.rewards > threshold).mean()),
            mean_reward=float(self.rewards.mean()),
        )

    def waste(self) -> list[str]:
        """Sentences on what teaches nothing, as :func:`advantage_zoo.validate` has them."""
        ids, sizes = np.unique(self.groups[self.valid > 0], return_counts=True)
        return waste(ids[sizes == 1].tolist(), len(ids), np.flatnonzero(self.valid == 0).tolist(), len(self))


@dataclass(frozen=True)
class Totals:
    """How much was compared: counts, the share of responses that are successful, and the mean reward."""

    responses: int
    groups: int
    batches: int
    tokens: int
    solved: float
    mean_reward: float
