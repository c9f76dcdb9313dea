"""The numbers of each token that the report shows: signals, advantages, and what these are made of."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.compare.comparison import Comparison, ComparisonError, Result
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True, eq=False)
class Column:
    """Numbers by one name.

    Args:
        name: What they are.
        values: (B, T), or (B,) where all valid tokens of a response have the same.
        parts: What they are made of, where the estimator tells.
    """

    name: str
    values: NDArray[np.float64]
    parts: list["Column"] = field(default_factory=list["Column"])

    @property
    def a_token(self) -> int:
        """How many numbers of a token these are, parts included."""
        return (self.values.ndim == 2) + sum(part.a_token for part in self.parts)


def signals(batch: RolloutBatch) -> list[Column]:
    """What is known of the tokens, in nats."""
    found: list[Column] = []
    if batch.entropies is not None:
        found.append(_column("entropy", batch.entropies, batch))
    if batch.logprobs is not None:
        found.append(_column("log-probability", batch.logprobs, batch))
    if batch.logprobs is not None and batch.ref_logprobs is not None:
        with np.errstate(invalid="ignore"):  # masked tokens may hold infinities
            ratio = np.asarray(batch.logprobs, dtype=np.float64) - np.asarray(batch.ref_logprobs, dtype=np.float64)
        found.append(_column("log-ratio to the reference", ratio, batch))
    return found


def lanes(comparison: Comparison, batch: RolloutBatch) -> list[Column]:
    """Advantages of each estimator, with the parts that it explains them by.

    What takes statistics over a batch explains nothing unless ``batch`` is one, and whole.
    """
    whole = comparison.totals.batches == 1 and comparison.totals.responses == len(comparison.rollouts)
    return [
        Column(
            result.key,
            _spared(result.values, batch),
            _parts(result, batch, comparison.step) if whole or not result.estimator.batch_statistics else [],
        )
        for result in comparison.results
    ]


def _parts(result: Result, batch: RolloutBatch, step: int | None) -> list[Column]:
    estimator = result.estimator.at(step)
    if not estimator.explains():
        return []
    try:
        explained = estimator.explain(FlatBatch(batch, estimator.needs, estimator.uses))
        return [_finite(_column(name, x, batch)) for name, x in explained.items()]
    except Exception as error:  # a plugin may raise anything
        raise ComparisonError(f"{result.key}.explain failed ({type(error).__name__}: {error})") from error


def _finite(column: Column) -> Column:
    if not np.isfinite(column.values).all():
        raise ValueError(f"{column.name} is not finite everywhere")
    return column


def _column(name: str, x: Any, batch: RolloutBatch) -> Column:
    """``x`` is (B, T), flat, or (B,)."""
    values = np.asarray(x, dtype=np.float64)
    rows, width = np.asarray(batch.response_mask).shape
    if values.shape == (rows,):
        return Column(name, values)
    return Column(name, _spared(values.reshape(rows, width), batch))


def _spared(values: NDArray[np.float64], batch: RolloutBatch) -> NDArray[np.float64]:
    """``values`` (B, T) with 0 at masked tokens; (B,) if no response's valid tokens differ."""
    mask = np.asarray(batch.response_mask)
    values = np.where(mask, values, 0.0)
    first = np.take_along_axis(values, mask.argmax(axis=1)[:, None], axis=1)
    return first[:, 0] if bool(((values == first) | ~mask).all()) else values
