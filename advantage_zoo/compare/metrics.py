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
            (ties with the last of them included). Weighing all tokens alike gives about 0.2.
        right_steps_punished: Of the right steps in failed responses, those whose summed advantage is negative.
        wrong_steps_rewarded: Of the wrong steps in successful responses, those whose summed advantage is positive.
        right_steps_rewarded: Of the right steps in failed responses, those whose summed advantage is positive.
        wrong_steps_punished: Of the wrong steps in successful responses, those whose summed advantage is negative.
        length_bias: Mean abs(A) a token on the longest quarter of the responses over that on the shortest quarter; 1 is
            none. ``None`` if all are equally long, or the shortest have no signal.
        length_correlation: Spearman's rank correlation of a response's length and its mean abs(A) a token.
        mean_abs: Mean of abs(A) over valid tokens, the scale that the estimator hands to the optimiser.
    """

    groups_without_signal: Share
    tokens_without_signal: Share
    high_entropy_share: float | None
    right_steps_punished: Share
    wrong_steps_rewarded: Share
    right_steps_rewarded: Share
    wrong_steps_punished: Share
    length_bias: float | None
    length_correlation: float | None
    mean_abs: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a share as its count, total and value."""
        out = asdict(self)
        for key, value in vars(self).items():
            if isinstance(value, Share):
                out[key] = {"count": value.count, "total": value.total, "share": value.value}
        return out


def measure(values: NDArray[Any], rollouts: Rollouts, batch: RolloutBatch, threshold: float) -> Metrics:
    """Metrics of advantages (B, T) on rollouts and their batch; success is a reward above ``threshold``."""
    mask = np.asarray(batch.response_mask)
    values = np.asarray(values, dtype=np.float64)
    size = np.where(mask, np.abs(values), 0.0)  # (B, T)
    alive = np.zeros(int(batch.num_groups or 1), dtype=bool)
    np.logical_or.at(alive, batch.group_ids, size.any(axis=1))
    lengths = mask.sum(axis=1)  # (B,)
    punished, rewarded = _step_signs(values, rollouts)
    failed, right = _step_facts(rollouts, threshold)
    right_failed, wrong_successful = failed & (right == 1), ~failed & (right == 0)
    return Metrics(
        groups_without_signal=Share(int((~alive).sum()), alive.size),
        tokens_without_signal=Share(int((mask & (size == 0)).sum()), int(mask.sum())),
        high_entropy_share=_high_entropy_share(size, mask, batch.entropies),
        right_steps_punished=_share(punished, right_failed),
        wrong_steps_rewarded=_share(rewarded, wrong_successful),
        right_steps_rewarded=_share(rewarded, right_failed),
        wrong_steps_punished=_share(punished, wrong_successful),
        length_bias=_length_bias(size, lengths),
        length_correlation=_length_correlation(size, lengths),
        mean_abs=float(size.sum() / max(int(mask.sum()), 1)),
    )


def agreement(values: list[NDArray[Any]], mask: NDArray[Any]) -> tuple[list[list[float | None]], list[list[float]]]:
    """Pairwise cosine (``None`` with a zero vector) and share of valid tokens of equal sign (0 is one, too)."""
    flat: list[NDArray[np.float64]] = [np.asarray(v, dtype=np.float64)[mask] for v in values]
    signs = [(v > 0).astype(int) - (v < 0).astype(int) for v in flat]
    norms = [float(np.linalg.norm(v)) for v in flat]
    cosine: list[list[float | None]] = [
        [float(a @ b / (n * m)) if n * m > 0 else None for b, m in zip(flat, norms, strict=True)]
        for a, n in zip(flat, norms, strict=True)
    ]
    sign = [[float((a == b).mean()) for b in signs] for a in signs]
    return cosine, sign


def step_advantages(values: NDArray[Any], rollouts: Rollouts) -> list[NDArray[np.float64]]:
    """Sum of A over the valid tokens of each step, one array a response."""
    sums: list[NDArray[np.float64]] = []
    mask = rollouts.response_mask
    for row, (index, correct) in enumerate(zip(rollouts.step_index or (), rollouts.step_correct or (), strict=True)):
        steps = np.asarray(index, dtype=int)
        counted = steps != NO_STEP
        if mask is not None:
            counted &= np.asarray(mask[row], dtype=bool)
        weights = np.asarray(values[row, : len(steps)], dtype=np.float64)[counted]
        total = np.zeros(len(correct))
        np.add.at(total, steps[counted], weights)
        sums.append(total)
    return sums


def _step_signs(values: NDArray[Any], rollouts: Rollouts) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Over all steps of all responses: negative, positive."""
    sums = np.concatenate([np.zeros(0), *step_advantages(values, rollouts)])
    return sums < 0, sums > 0


def _step_facts(rollouts: Rollouts, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Over all steps: whether the response failed; 1 right, 0 wrong, -1 unknown."""
    correct = rollouts.step_correct or ()
    failed = [reward <= threshold for reward, steps in zip(rollouts.rewards, correct, strict=False) for _ in steps]
    right = [-1 if known is None else int(known) for steps in correct for known in steps]
    return np.array(failed, dtype=bool), np.array(right, dtype=np.int8)


def _share(which: NDArray[np.bool_], among: NDArray[np.bool_]) -> Share:
    return Share(int((which & among).sum()), int(among.sum()))


def _high_entropy_share(size: NDArray[Any], mask: NDArray[Any], entropies: NDArray[Any] | None) -> float | None:
    if entropies is None or not size.any():
        return None
    valid = np.sort(entropies[mask])
    edge = valid[len(valid) - int(np.ceil(HIGH_ENTROPY * len(valid)))]
    return float(size[mask & (entropies >= edge)].sum() / size.sum())


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
