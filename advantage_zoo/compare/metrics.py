"""What an estimator does to a batch of rollouts, in numbers. NumPy only; every definition is in its docstring.

Notation: B responses, T token slots, G groups; A the advantages (B, T); "valid" are the tokens of the response mask.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.rollouts import Rollouts
from advantage_zoo.rollouts.rollouts import NO_STEP

HIGH_ENTROPY = 0.2
"""Share of the valid tokens, those of highest entropy, that count as decision points (arXiv:2506.01939)."""


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


def measure(values: NDArray[Any], rollouts: Rollouts, batch: RolloutBatch, threshold: float) -> Metrics:
    """Metrics of advantages (B, T) on rollouts and their batch; success is a reward above ``threshold``."""
    mask = np.asarray(batch.response_mask)
    values = np.asarray(values, dtype=np.float64)
    size = np.where(mask, np.abs(values), 0.0)  # (B, T)
    alive = np.zeros(int(batch.num_groups or 1), dtype=bool)
    np.logical_or.at(alive, batch.group_ids, size.any(axis=1))
    lengths = mask.sum(axis=1)  # (B,)
    sums = _per_step(values, rollouts)
    punished, rewarded = sums < 0, sums > 0
    failed, right = _step_facts(rollouts, threshold)
    blame = _per_step(np.where(values < 0, -values, 0.0), rollouts)
    tokens = _per_step(np.ones_like(values), rollouts)
    pivots = _pivots(mask, batch.entropies)
    equal, alone = _equal_and_alone(batch, lengths > 0)
    right_failed, wrong_successful = failed & (right == 1), ~failed & (right == 0)
    return Metrics(
        groups_without_signal=Share(int((~alive).sum()), alive.size),
        tokens_without_signal=Share(int((mask & (size == 0)).sum()), int(mask.sum())),
        high_entropy_share=_weight_on(pivots, mask, size) if pivots is not None else None,
        high_entropy_tokens=_weight_on(pivots, mask, np.ones_like(size)) if pivots is not None else None,
        right_steps_punished=_share(punished, right_failed),
        wrong_steps_rewarded=_share(rewarded, wrong_successful),
        right_steps_rewarded=_share(rewarded, right_failed),
        wrong_steps_punished=_share(punished, wrong_successful),
        blame_on_wrong_steps=_weight_on(right == 0, failed & (right >= 0), blame),
        wrong_step_tokens=_weight_on(right == 0, failed & (right >= 0), tokens),
        length_bias=_length_bias(size, lengths),
        length_correlation=_length_correlation(size, lengths),
        mean_abs=float(size.sum() / max(int(mask.sum()), 1)),
        largest=float(size.max()),
        largest_equal=float(size[equal].max()) if equal.any() else None,
        largest_alone=float(size[alone].max()) if alone.any() else None,
    )


def agreement(values: list[NDArray[Any]], mask: NDArray[Any]) -> tuple[Matrix, Matrix]:
    """Pairwise cosine over valid tokens, ``None`` with a zero vector, and share of them of equal sign (0 is one)."""
    flat: list[NDArray[np.float64]] = [np.asarray(v, dtype=np.float64)[mask] for v in values]
    signs = [(v > 0).astype(int) - (v < 0).astype(int) for v in flat]
    units = [_unit(v) for v in flat]
    cosine: Matrix = [
        [None if a is None or b is None else float(np.clip(a @ b, -1.0, 1.0)) for b in units] for a in units
    ]
    sign: Matrix = [[float((a == b).mean()) if a.size else None for b in signs] for a in signs]
    return cosine, sign


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """``x`` at length 1; ``None`` if it is 0. By its largest element first: squares overflow and vanish early."""
    largest = float(np.abs(x).max(initial=0.0))
    if largest == 0:
        return None
    scaled = x / largest
    return scaled / np.linalg.norm(scaled)


def _per_step(values: NDArray[Any], rollouts: Rollouts) -> NDArray[np.float64]:
    """Sum of ``values`` (B, T) over the valid tokens of each step, over all steps of all responses."""
    sums: list[NDArray[np.float64]] = [np.zeros(0)]
    mask = rollouts.response_mask
    for row, (index, correct) in enumerate(zip(rollouts.step_index or (), rollouts.step_correct or (), strict=True)):
        steps = np.asarray(index, dtype=int)
        counted = steps != NO_STEP
        if mask is not None:
            counted &= np.asarray(mask[row], dtype=bool)
        total = np.zeros(len(correct))
        np.add.at(total, steps[counted], np.asarray(values[row, : len(steps)], dtype=np.float64)[counted])
        sums.append(total)
    return np.concatenate(sums)


def _weight_on(which: NDArray[np.bool_], among: NDArray[np.bool_], weight: NDArray[np.float64]) -> float | None:
    total = float(weight[among].sum())
    return float(weight[which & among].sum()) / total if total > 0 else None


def _step_facts(rollouts: Rollouts, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Over all steps: whether the response failed; 1 right, 0 wrong, -1 unknown."""
    correct = rollouts.step_correct or ()
    failed = [reward <= threshold for reward, steps in zip(rollouts.rewards, correct, strict=False) for _ in steps]
    right = [-1 if known is None else int(known) for steps in correct for known in steps]
    return np.array(failed, dtype=bool), np.array(right, dtype=np.int8)


def _equal_and_alone(batch: RolloutBatch, present: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(B,) the responses of groups of several with equal rewards, and those that are alone in theirs."""
    ids, rewards = np.asarray(batch.group_ids), np.asarray(batch.rewards)
    equal, alone = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
    for group in np.unique(ids[present]):
        rows = present & (ids == group)
        alone |= rows if rows.sum() == 1 else False
        equal |= rows if rows.sum() > 1 and np.unique(rewards[rows]).size == 1 else False
    return equal, alone


def _share(which: NDArray[np.bool_], among: NDArray[np.bool_]) -> Share:
    return Share(int((which & among).sum()), int(among.sum()))


def _pivots(mask: NDArray[Any], entropies: NDArray[Any] | None) -> NDArray[np.bool_] | None:
    """(B, T) the valid tokens of highest entropy, ties with the last of them included."""
    if entropies is None or not mask.any():
        return None
    valid = np.sort(entropies[mask])
    edge = valid[len(valid) - int(np.ceil(HIGH_ENTROPY * len(valid)))]
    return mask & (entropies >= edge)


def _length_bias(size: NDArray[Any], lengths: NDArray[Any]) -> float | None:
    present = lengths > 0
    if not present.any() or lengths[present].min() == lengths[present].max():
        return None
    low, high = np.quantile(lengths[present], [0.25, 0.75])
    short, long = present & (lengths <= low), present & (lengths >= high)
    on_short = size[short].sum() / lengths[short].sum()
    return float(size[long].sum() / lengths[long].sum() / on_short) if on_short > 0 else None


def _length_correlation(size: NDArray[Any], lengths: NDArray[Any]) -> float | None:
    present = lengths > 0
    a = _ranks(lengths[present])
    mean_size: NDArray[np.float64] = size[present].sum(axis=1) / lengths[present]
    b = _ranks(mean_size.round(12))  # equal up to rounding is equal
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(x: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks with ties at their mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
