"""Several estimators on the same rollouts."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import OPTIONAL_FIELDS, RolloutBatch
from advantage_zoo.compare.metrics import Matrix, Metrics, agreement, measure
from advantage_zoo.compute import compute_advantages, make
from advantage_zoo.estimator import Estimator
from advantage_zoo.rollouts import Rollouts


class ComparisonError(ValueError):
    """An estimator cannot be run on these rollouts; the message says which and why."""


@dataclass(frozen=True, eq=False)
class Result:
    """What one estimator did.

    Args:
        key: What the user typed, ``plugin:name`` included.
        estimator: The instance, with its parameters.
        values: (B, T) advantages.
        metrics: Its numbers.
        diagnostics: Its own scalars; arrays with one entry a response are left to the Python API.
    """

    key: str
    estimator: Estimator
    values: NDArray[np.float64]
    metrics: Metrics
    diagnostics: dict[str, float]

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters by name."""
        return dataclasses.asdict(self.estimator)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Results of several estimators on the same rollouts, and how much they agree.

    Args:
        rollouts: The rollouts.
        threshold: A response is successful if its reward is above this.
        results: One for each estimator.
        cosine: Pairwise cosine of the advantages over valid tokens; ``None`` with an estimator that gave only zeros.
        sign: Pairwise share of valid tokens on which the signs are equal, 0 being one; ``None`` if no token is valid.
        step: The optimisation step that schedules were read at.
        left_out: Estimators that were not run, with the reason.
    """

    rollouts: Rollouts
    threshold: float
    results: Sequence[Result]
    cosine: Matrix
    sign: Matrix
    step: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: numbers are finite or null."""
        return {
            "rollouts": {
                "responses": len(self.rollouts),
                "groups": len(set(self.rollouts.groups)),
                "tokens": sum(len(tokens) for tokens in self.rollouts.tokens),
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


def missing_inputs(rollouts: Rollouts, needs: Iterable[str]) -> list[str]:
    """The fields among ``needs`` that these rollouts do not have."""
    needs = set(needs)
    never = never_in_a_file(needs)
    return sorted(name for name in needs if name in never or getattr(rollouts, name) is None)


def never_in_a_file(needs: Iterable[str]) -> list[str]:
    """The fields among ``needs`` that no rollout file has a column for."""
    columns = {f.name for f in dataclasses.fields(Rollouts)} & set(OPTIONAL_FIELDS)
    return sorted(set(needs) - columns)


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
        advance: Called with 1 after each estimator, for a progress bar.

    Raises:
        ComparisonError: An estimator lacks an input, failed, or gave a number that is not finite; or two have one key.
        LookupError: No estimator has this name.
    """
    batch = rollouts.batch()
    results: list[Result] = []
    for given in estimators:
        key, chosen = given if isinstance(given, tuple) else _keyed(given)
        if key in [result.key for result in results]:
            raise ComparisonError(f"{key} is compared twice; give each instance a key: (key, instance).")
        missing = missing_inputs(rollouts, chosen.needs)
        if missing:
            raise ComparisonError(f"{key} needs {' and '.join(missing)}, which the rollouts do not have.")
        try:
            values, scalars = _computed(batch, chosen, step)
        except Exception as error:  # a plugin may raise anything; it must not take the others' tables down unexplained
            raise ComparisonError(f"{key} failed on these rollouts ({type(error).__name__}: {error})") from error
        with np.errstate(over="ignore", invalid="ignore"):  # a metric that overflows is null, not a warning
            metrics = measure(values, rollouts, batch, threshold)
        results.append(Result(key, chosen, values, metrics, scalars))
        advance(1)
    cosine, sign = agreement([result.values for result in results], np.asarray(batch.response_mask))
    return Comparison(rollouts, threshold, results, cosine, sign, step, dict(left_out or {}))


def _keyed(which: str | Estimator) -> tuple[str, Estimator]:
    return (which if isinstance(which, str) else which.name), make(which)


def _computed(batch: RolloutBatch, chosen: Estimator, step: int | None) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Values (B, T) and the diagnostics that are single numbers."""
    advantages = compute_advantages(batch, chosen, step=step)
    values = np.asarray(advantages.values, dtype=np.float64)
    broken = np.argwhere(~np.isfinite(values))
    if broken.size:
        row, token = broken[0]
        raise ValueError(f"{len(broken)} advantages are not finite, the first at row {row}, token {token}")
    diagnostics = {name: np.asarray(value) for name, value in advantages.diagnostics.items()}
    scalars = {name: float(x) for name, x in diagnostics.items() if x.ndim == 0 and x.dtype.kind in "biuf"}
    return values, scalars
