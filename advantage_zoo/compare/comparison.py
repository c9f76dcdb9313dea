"""Several estimators on the same rollouts, which a batch holds each: a training step, or all that there is."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.compare.metrics import Matrix, Metrics, Profile
from advantage_zoo.compare.part import Axis, axes
from advantage_zoo.compare.survey import Survey, Totals
from advantage_zoo.compare.work import ComparisonError, Keyed, Partial, Request, work
from advantage_zoo.compute import make
from advantage_zoo.estimator import Estimator
from advantage_zoo.rollouts import Rollouts
from advantage_zoo.rollouts.ragged import Ragged
from advantage_zoo.rollouts.rollouts import SIGNALS


@dataclass(frozen=True, eq=False)
class Result:
    """What one estimator did.

    Args:
        key: What the user typed, ``plugin:name`` included.
        estimator: The instance, with its parameters.
        values: (B, T) advantages of the comparison's ``rollouts``.
        metrics: Its numbers, of everything that was compared.
        diagnostics: Its own scalars, the mean over batches; arrays with one entry a response are left to the Python
            API.
        profiles: Where its weight falls, along each of the comparison's axes.
        positive_mass: Share of the sum of abs(A) that is positive; ``None`` if there is none.
    """

    key: str
    estimator: Estimator
    values: NDArray[np.float64]
    metrics: Metrics
    diagnostics: dict[str, float]
    profiles: Sequence[Profile]
    positive_mass: float | None

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters by name."""
        return dataclasses.asdict(self.estimator)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Results of several estimators on the same rollouts, and how much they agree.

    Args:
        rollouts: The rollouts; a sample of their groups, where there are too many to be shown.
        rows: Which of all the responses these are, counted from 0, file after file.
        totals: How much was compared.
        threshold: A response is successful if its reward is above this.
        results: One for each estimator.
        axes: Ways to sort the tokens, of the results' profiles.
        cosine: Pairwise cosine of the advantages over valid tokens; ``None`` with an estimator that gave only zeros.
        sign: Pairwise share of valid tokens on which the signs are equal, 0 being one; ``None`` if no token is valid.
        step: The optimisation step that schedules were read at.
        left_out: Estimators that were not run, with the reason.
    """

    rollouts: Rollouts
    rows: Sequence[int]
    totals: Totals
    threshold: float
    results: Sequence[Result]
    axes: Sequence[Axis]
    cosine: Matrix
    sign: Matrix
    step: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: numbers are finite or null."""
        return {
            "rollouts": {
                "responses": self.totals.responses,
                "groups": self.totals.groups,
                "tokens": self.totals.tokens,
                "metadata": dict(self.rollouts.metadata),
            },
            "threshold": self.threshold,
            "estimators": [
                {
                    "name": result.key,
                    "parameters": result.parameters,
                    "metrics": result.metrics.to_dict(),
                    "diagnostics": {k: v if np.isfinite(v) else None for k, v in result.diagnostics.items()},
                }
                for result in self.results
            ],
            "left_out": dict(self.left_out),
            "agreement": {
                "names": [result.key for result in self.results],
                "cosine": self.cosine,
                "sign": self.sign,
            },
        }


def missing_inputs(have: Collection[str], needs: Iterable[str]) -> list[str]:
    """The fields among ``needs`` that rollouts with the signals ``have`` do not have."""
    return sorted(set(needs) - set(have))


def never_in_a_file(needs: Iterable[str]) -> list[str]:
    """The fields among ``needs`` that no rollout file has a column for."""
    return sorted(set(needs) - set(SIGNALS))


def compare(
    rollouts: Rollouts,
    estimators: Iterable[str | Estimator | tuple[str, Estimator]],
    *,
    threshold: float = 0.5,
    step: int | None = None,
    left_out: Mapping[str, str] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Run estimators on the same rollouts and measure what each one does.

    Args:
        rollouts: The rollouts.
        estimators: Names, instances, or (key, instance) pairs where two instances of one class need keys to be told
            apart; in the order of the tables.
        threshold: A response is successful if its reward is above this.
        step: The optimisation step, from 0, for parameters that follow a schedule.
        left_out: Estimators that are not among them, with the reason, for the record.
        advance: Called with 1 after each estimator on each batch, for a progress bar.

    Raises:
        ComparisonError: An estimator lacks an input, failed, or gave a number that is not finite; or two have one key.
        LookupError: No estimator has this name.
    """
    chosen = keyed(estimators)
    for key, estimator in chosen:
        missing = missing_inputs(rollouts.fields, estimator.needs)
        if missing:
            raise ComparisonError(f"{key} needs {' and '.join(missing)}, which the rollouts do not have.")
    ragged = Ragged.of(rollouts)
    survey = Survey.of(ragged)
    request = Request(chosen, threshold, step)
    done = work(ragged, np.arange(len(ragged)), survey.lines, request, advance)
    return assembled(done, request, survey, rollouts, ragged, left_out or {})


def assembled(
    done: Partial,
    request: Request,
    survey: Survey,
    rollouts: Rollouts,
    ragged: Ragged,
    left_out: Mapping[str, str],
    rows: Sequence[int] | None = None,
) -> Comparison:
    """The comparison of everything surveyed, with the advantages of ``rollouts``.

    Args:
        done: What came of all of it.
        request: What was asked for.
        survey: Of all of it.
        rollouts: What is shown.
        ragged: The same, without text.
        left_out: Estimators that were not run.
        rows: Which of all the responses are shown; ``None`` for all.
    """
    mask = np.asarray(ragged.batch().response_mask)
    shown = range(len(rollouts)) if rows is None else rows
    values = np.zeros((len(request.estimators), *mask.shape))
    if len(request.estimators):
        values[:, mask] = np.concatenate([done.kept[row] for row in shown], axis=1)
    ways = axes(survey.lines)
    results: list[Result] = []
    for i, ((key, estimator), tallied, sums) in enumerate(
        zip(request.estimators, done.tallies, done.diagnostics, strict=True)
    ):
        with np.errstate(over="ignore", invalid="ignore"):
            metrics = tallied.metrics(survey.valid)
        scalars = {name: total / done.batches for name, total in sums.items()}
        results.append(
            Result(key, estimator, values[i], metrics, scalars, tallied.profiles(ways), tallied.positive_mass())
        )
    cosine, sign = done.agreement.matrices()
    totals = survey.totals(request.threshold)
    without = dict(left_out)
    return Comparison(rollouts, shown, totals, request.threshold, results, ways, cosine, sign, request.step, without)


def keyed(estimators: Iterable[str | Estimator | Keyed]) -> list[Keyed]:
    """(key, instance) pairs.

    Raises:
        ComparisonError: Two have one key.
    """
    pairs = [given if isinstance(given, tuple) else (_name(given), make(given)) for given in estimators]
    for i, (key, _) in enumerate(pairs):
        if key in [earlier for earlier, _ in pairs[:i]]:
            raise ComparisonError(f"{key} is compared twice; give each instance a key: (key, instance).")
    return pairs


def _name(which: str | Estimator) -> str:
    return which if isinstance(which, str) else which.name
