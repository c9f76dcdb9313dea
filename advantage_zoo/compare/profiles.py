"""Where an estimator puts its weight: positive and negative advantage by entropy, position and length of response."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch

TENTHS, FIFTHS = 10, 5


@dataclass(frozen=True, eq=False)
class Axis:
    """A way to sort the valid tokens into bins.

    Args:
        title: What they are sorted by.
        labels: One for each bin.
        bins: (B, T) bin of each token; what stands at masked tokens does not matter.
    """

    title: str
    labels: Sequence[str]
    bins: NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """One estimator along one axis, in units of its own mean abs(A) a token, so that estimators compare.

    Args:
        positive: Mean of max(A, 0) a token, for each bin; ``None`` of a bin without tokens.
        negative: Mean of max(-A, 0) a token, likewise.
    """

    positive: Sequence[float | None]
    negative: Sequence[float | None]


def axes(batch: RolloutBatch) -> list[Axis]:
    """Entropy (where known) in tenths of the tokens, position in tenths of the response, length in fifths of responses.

    Tokens of equal entropy and responses of equal length share a bin, so bins may be unequal or empty.
    """
    mask = np.asarray(batch.response_mask)
    if not mask.any():
        return []
    lengths = mask.sum(axis=1)
    found: list[Axis] = []
    if batch.entropies is not None:
        entropies = np.asarray(batch.entropies, dtype=np.float64)
        found.append(Axis("entropy", *_quantiles(entropies, entropies[mask], TENTHS, "{:.2g}-{:.2g} nats")))
    places = np.clip(mask.cumsum(axis=1) - 1, 0, None) / np.clip(lengths, 1, None)[:, None]
    labels = [f"{100 * i // TENTHS}-{100 * (i + 1) // TENTHS} %" for i in range(TENTHS)]
    found.append(Axis("position", labels, np.minimum((places * TENTHS).astype(np.int64), TENTHS - 1)))
    labels, bins = _quantiles(lengths.astype(float), lengths[lengths > 0].astype(float), FIFTHS, "{:.0f}-{:.0f} tokens")
    found.append(Axis("length of the response", labels, np.broadcast_to(bins[:, None], mask.shape)))
    return found


def profile(values: NDArray[np.float64], mask: NDArray[np.bool_], axis: Axis) -> Profile:
    """One estimator's advantages (B, T) along one axis; zeros if it gave nothing but zeros."""
    a, bins = values[mask], axis.bins[mask]
    largest = float(np.abs(a).max(initial=0.0))
    scaled = a / largest if largest else a  # so that no sum overflows
    unit = float(np.abs(scaled).mean()) or 1.0
    count = np.bincount(bins, minlength=len(axis.labels))

    def mean(part: NDArray[np.float64]) -> list[float | None]:
        total = np.bincount(bins, weights=part, minlength=len(axis.labels))
        return [float(t / n / unit) if n else None for t, n in zip(total, count, strict=True)]

    return Profile(mean(np.clip(scaled, 0, None)), mean(np.clip(-scaled, 0, None)))


def positive_mass(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> float | None:
    """Share of the sum of abs(A) that is positive; ``None`` if there is none."""
    largest = float(np.abs(values[mask]).max(initial=0.0))
    if largest == 0:
        return None
    scaled = values[mask] / largest
    return float(np.clip(scaled, 0, None).sum() / np.abs(scaled).sum())


def _quantiles(
    x: NDArray[np.float64], sample: NDArray[np.float64], count: int, label: str
) -> tuple[list[str], NDArray[np.int64]]:
    """Labels and bins of ``x`` by the quantiles of ``sample``."""
    edges = np.quantile(sample, np.linspace(0, 1, count + 1))
    bins = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, count - 1)
    return [label.format(low, high) for low, high in pairwise(edges)], bins.astype(np.int64)
