"""What an estimator does to rollouts, in numbers; every definition is in its docstring.

Notation: A are the advantages; "valid" are the tokens of the response mask.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Matrix = list[list[float | None]]
"""One number for each pair of estimators."""


@dataclass(frozen=True)
class Share:
    """``count`` of ``total``."""

    count: int
    total: int

    @property
    def value(self) -> float | None:
        """The share, ``None`` of nothing."""
        return self.count / self.total if self.total else None


@dataclass(frozen=True)
class Metrics:
    """One estimator's numbers; ``None`` where the rollouts can't tell.

    Args:
        groups_without_signal: Groups all of whose valid tokens have an advantage of exactly 0.
        tokens_without_signal: Valid tokens with an advantage of exactly 0.
        high_entropy_share: Share of the sum of abs(A) that falls on the 20 % of valid tokens with the highest entropy
            (ties with the last of them included). ``None`` without entropies, or if A is 0 everywhere.
        high_entropy_tokens: Share of the valid tokens that these are, 0.2 but for ties: what weighing all alike gives.
        right_steps_punished: Of the right steps in failed responses, those whose summed advantage is negative.
        wrong_steps_rewarded: Of the wrong steps in successful responses, those whose summed advantage is positive.
        right_steps_rewarded: Of the right steps in failed responses, those whose summed advantage is positive.
        wrong_steps_punished: Of the wrong steps in successful responses, those whose summed advantage is negative.
        blame_on_wrong_steps: Share of the negative advantage of failed responses' steps that falls on wrong steps.
        wrong_step_tokens: Share of the tokens of these steps that belong to wrong ones: what blaming all alike gives.
        length_bias: Mean abs(A) a token on the longest quarter of the responses (valid tokens at or above the upper
            quartile, ties included) over that on the shortest quarter; 1 is none. ``None`` if all are equally long, or
            the shortest have no signal.
        length_correlation: Spearman's rank correlation of a response's length and its mean abs(A) a token.
        mean_abs: Mean of abs(A) over valid tokens, the scale that the estimator hands to the optimiser.
        largest: Largest abs(A).
        largest_equal: Largest abs(A) in groups of several responses with equal rewards; ``None`` without such a group.
        largest_alone: Largest abs(A) in groups of one response; ``None`` without such a group.
    """

    groups_without_signal: Share
    tokens_without_signal: Share
    high_entropy_share: float | None
    high_entropy_tokens: float | None
    right_steps_punished: Share
    wrong_steps_rewarded: Share
    right_steps_rewarded: Share
    wrong_steps_punished: Share
    blame_on_wrong_steps: float | None
    wrong_step_tokens: float | None
    length_bias: float | None
    length_correlation: float | None
    mean_abs: float
    largest: float
    largest_equal: float | None
    largest_alone: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, finite or ``None``; a share as its count, total and value."""
        out = asdict(self)
        for key, value in vars(self).items():
            if isinstance(value, Share):
                out[key] = {"count": value.count, "total": value.total, "share": value.value}
            elif value is not None and not np.isfinite(value):
                out[key] = None
        return out


@dataclass(frozen=True)
class Profile:
    """Where one estimator puts its weight, in units of its own mean abs(A) a token, so that estimators compare.

    Args:
        positive: Mean of max(A, 0) a token, for each bin of an axis; ``None`` of a bin without tokens.
        negative: Mean of max(-A, 0) a token, likewise.
    """

    positive: Sequence[float | None]
    negative: Sequence[float | None]
