"""Responses as flat arrays, one after the other: what estimators read, without the text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch

if TYPE_CHECKING:
    from advantage_zoo.rollouts.rollouts import Rollouts

A_TOKEN = ("logprobs", "ref_logprobs", "entropies", "response_mask", "step_index")
"""Columns with one entry a token that anything is computed from."""

_VERDICT = {None: -1, False: 0, True: 1}


@dataclass(frozen=True, eq=False, kw_only=True)
class Ragged:
    """B responses of N tokens in all, S reasoning steps in all.

    Args:
        rewards: (B,) outcome rewards.
        groups: (B,) which prompt each answers; no group has responses of two batches.
        batches: (B,) which batch, that is which training step, each belongs to.
        lengths: (B,) tokens of each.
        tokens: The columns of ``A_TOKEN`` that there are, (N,).
        step_counts: (B,) reasoning steps of each.
        step_correct: (S,) 1 right, 0 wrong, -1 unknown.
    """

    rewards: NDArray[np.float64]
    groups: NDArray[np.int64]
    batches: NDArray[np.int64]
    lengths: NDArray[np.int64]
    tokens: dict[str, NDArray[Any]]
    step_counts: NDArray[np.int64]
    step_correct: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))

    @classmethod
    def of(cls, rollouts: "Rollouts") -> "Ragged":
        """The rollouts without their text; without steps they are one batch."""
        rows = len(rollouts)
        kinds: dict[str, Any] = {"response_mask": np.bool_, "step_index": np.int32}
        tokens = {
            name: np.concatenate([np.asarray(entry, dtype=kinds.get(name, np.float32)) for entry in column])
            for name in A_TOKEN
            if (column := getattr(rollouts, name)) is not None
        }
        correct = rollouts.step_correct or [()] * rows
        return cls(
            rewards=np.asarray(rollouts.rewards, dtype=np.float64),
            groups=np.unique(np.asarray(rollouts.groups), return_inverse=True)[1].astype(np.int64),
            batches=np.zeros(rows, np.int64) if rollouts.steps is None else np.asarray(rollouts.steps, np.int64),
            lengths=np.array([len(entry) for entry in rollouts.tokens], dtype=np.int64),
            tokens=tokens,
            step_counts=np.array([len(entry) for entry in correct], dtype=np.int64),
            step_correct=np.array([_VERDICT[v] for entry in correct for v in entry], dtype=np.int8),
        )

    @classmethod
    def joined(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """One after the other; all have the same columns."""
        if len(parts) == 1:
            return parts[0]
        plain = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("rewards", "groups", "batches", "lengths", "step_counts", "step_correct")
        }
        return cls(tokens={k: np.concatenate([p.tokens[k] for p in parts]) for k in parts[0].tokens}, **plain)

    def __len__(self) -> int:
        return len(self.rewards)

    def take(self, rows: NDArray[np.int64]) -> "Ragged":
        """The responses at ``rows``, in this order."""
        if len(rows) == len(self) and bool((rows == np.arange(len(self))).all()):
            return self
        at, steps = _spans(self.lengths, rows), _spans(self.step_counts, rows)
        return Ragged(
            rewards=self.rewards[rows],
            groups=self.groups[rows],
            batches=self.batches[rows],
            lengths=self.lengths[rows],
            tokens={name: column[at] for name, column in self.tokens.items()},
            step_counts=self.step_counts[rows],
            step_correct=self.step_correct[steps],
        )

    def by_batch(self) -> Iterable[NDArray[np.int64]]:
        """The rows of each batch, batches in order."""
        if bool((self.batches == self.batches[0]).all()):
            return [np.arange(len(self))]
        order = np.argsort(self.batches, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.batches[order])) + 1)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(N,) True on tokens that the policy emitted."""
        found = self.tokens.get("response_mask")
        return np.ones(int(self.lengths.sum()), dtype=np.bool_) if found is None else found

    @property
    def valid(self) -> NDArray[np.int64]:
        """(B,) how many of these tokens each response has."""
        ends = np.concatenate([[0], self.lengths.cumsum()])
        return np.diff(np.concatenate([[0], self.mask.cumsum()])[ends])

    def batch(self) -> RolloutBatch:
        """Padded: (B, T) with T the longest response, at least 1; padding holds 0; groups renumbered from 0."""
        width = max(1, int(self.lengths.max()))
        filled = np.arange(width) < self.lengths[:, None]  # (B, T)

        def padded(column: NDArray[Any]) -> NDArray[Any]:
            out = np.zeros(filled.shape, dtype=column.dtype)
            out[filled] = column
            return out

        _, groups = np.unique(self.groups, return_inverse=True)
        signals: dict[str, Any] = {
            name: padded(column) for name, column in self.tokens.items() if column.dtype.kind == "f"
        }
        return RolloutBatch(
            rewards=self.rewards,
            response_mask=padded(self.mask),
            group_ids=groups,
            num_groups=int(groups.max()) + 1,
            **signals,
        )


def _spans(lengths: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the entries of ``rows`` in a flat column whose rows have ``lengths``."""
    starts = (lengths.cumsum() - lengths)[rows]
    chosen = lengths[rows]
    begins = chosen.cumsum() - chosen
    return np.repeat(starts - begins, chosen) + np.arange(int(chosen.sum()))
