"""The work itself: estimators on whole batches of responses, and what is kept of it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.compare.landmarks import Landmarks
from advantage_zoo.compare.part import Part
from advantage_zoo.compare.tally import Agreement, Tally, tally
from advantage_zoo.compute import compute_advantages
from advantage_zoo.estimator import Estimator
from advantage_zoo.rollouts.ragged import Ragged

Keyed = tuple[str, Estimator]
"""What the user typed, and the instance."""


class ComparisonError(ValueError):
    """An estimator cannot be run on these rollouts; the message says which and why."""


@dataclass(frozen=True)
class Request:
    """What to do with every batch.

    Args:
        estimators: E of them.
        threshold: A response is successful if its reward is above this.
        step: The optimisation step that schedules are read at.
        keep: Rows whose advantages are wanted; ``None`` for all.
    """

    estimators: Sequence[Keyed]
    threshold: float
    step: int | None = None
    keep: Collection[int] | None = None


@dataclass(frozen=True, eq=False)
class Partial:
    """What came of some of the rollouts; that of others can be added.

    Args:
        tallies: One an estimator.
        agreement: Of all of them.
        diagnostics: One an estimator: sums over batches.
        batches: How many there were.
        kept: Of rows that are kept, (E, n) the advantages at their valid tokens.
        notes: What was warned of.
    """

    tallies: Sequence[Tally]
    agreement: Agreement
    diagnostics: Sequence[dict[str, float]]
    batches: int
    kept: dict[int, NDArray[np.float64]] = field(default_factory=dict[int, Any])
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Partial") -> "Partial":
        return Partial(
            [a + b for a, b in zip(self.tallies, other.tallies, strict=True)],
            self.agreement + other.agreement,
            [
                {name: a[name] + b[name] for name in a if name in b}
                for a, b in zip(self.diagnostics, other.diagnostics, strict=True)
            ],
            self.batches + other.batches,
            self.kept | other.kept,
            tuple(dict.fromkeys(self.notes + other.notes)),
        )


def work(
    ragged: Ragged,
    rows: NDArray[np.int64],
    lines: Landmarks,
    request: Request,
    advance: Callable[[int], None] = lambda _: None,
) -> Partial:
    """Run every estimator on each batch of ``ragged``, whose responses are ``rows`` of all, (B,)."""
    done: Partial | None = None
    for chosen in ragged.by_batch():
        part = Part(ragged.take(chosen), lines, request.threshold)
        one = _work(part, rows[chosen], request, advance)
        done = one if done is None else done + one
    assert done is not None, "there is at least one response"
    return done


def _work(part: Part, rows: NDArray[np.int64], request: Request, advance: Callable[[int], None]) -> Partial:
    values: list[NDArray[np.float64]] = []
    tallies: list[Tally] = []
    diagnostics: list[dict[str, float]] = []
    for key, estimator in request.estimators:
        try:
            flat, scalars = _computed(part, rows, estimator, request.step)
        except Exception as error:  # a plugin may raise anything; it must not take the others' tables down unexplained
            raise ComparisonError(f"{key} failed on these rollouts ({type(error).__name__}: {error})") from error
        with np.errstate(over="ignore", invalid="ignore"):  # a metric that overflows is null, not a warning
            tallies.append(tally(flat, part, rows))
        values.append(flat)
        diagnostics.append(scalars)
        advance(1)
    return Partial(tallies, Agreement.of(values), diagnostics, 1, _kept(values, part, rows, request.keep))


def _computed(
    part: Part, rows: NDArray[np.int64], estimator: Estimator, step: int | None
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Values at the valid tokens, (n,), and the diagnostics that are single numbers."""
    advantages = compute_advantages(part.batch, estimator, step=step)
    values = np.asarray(advantages.values, dtype=np.float64)
    broken = np.argwhere(~np.isfinite(values))
    if broken.size:
        row, token = broken[0]
        raise ValueError(f"{len(broken)} advantages are not finite, the first at row {rows[row]}, token {token}")
    diagnostics = {name: np.asarray(value) for name, value in advantages.diagnostics.items()}
    scalars = {name: float(x) for name, x in diagnostics.items() if x.ndim == 0 and x.dtype.kind in "biuf"}
    return values[np.asarray(part.batch.response_mask)], scalars


def _kept(
    values: Sequence[NDArray[np.float64]], part: Part, rows: NDArray[np.int64], keep: Collection[int] | None
) -> dict[int, NDArray[np.float64]]:
    if keep is not None and not len(keep):
        return {}
    ends = part.lengths.cumsum()
    wanted = {int(row): i for i, row in enumerate(rows) if keep is None or row in keep}
    stacked = np.stack(values) if wanted else np.zeros((0, 0))
    return {row: stacked[:, ends[i] - part.lengths[i] : ends[i]] for row, i in wanted.items()}
