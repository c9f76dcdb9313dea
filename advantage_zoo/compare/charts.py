"""The report's charts: bars of the three failures, matrices of agreement, and where the weight falls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from advantage_zoo.compare import palette, tables
from advantage_zoo.compare.comparison import Comparison
from advantage_zoo.compare.metrics import Matrix, Metrics, Share
from advantage_zoo.compare.profiles import Profile, axes, positive_mass, profile

HEIGHT = 28
"""Of either half of a profile, in the units of its picture; a bin is 10 wide."""


@dataclass(frozen=True)
class Measure:
    """A share that every estimator has, drawn as a bar.

    Args:
        title: Head of the column.
        good: Which way is good, in a word or two.
        values: One an estimator; ``None`` where it can't be told.
        reference: What weighing all tokens alike gives.
    """

    title: str
    good: str
    values: Sequence[float | None]
    reference: float | None = None


@dataclass(frozen=True)
class Failure:
    """One of the failures of uniform credit, and how it is measured."""

    title: str
    meaning: str
    measures: Sequence[Measure]


@dataclass(frozen=True)
class Cell:
    """A cell of a matrix: its text and the class of its colour."""

    text: str
    colour: str


@dataclass(frozen=True)
class ProfileChart:
    """Bars of one estimator along one axis, as (x, y, height, class, tooltip); and all that in words."""

    bars: Sequence[tuple[int, float, float, str, str]]
    width: int
    words: str


def failures(comparison: Comparison) -> list[Failure]:
    """Granularity, polarity and collapse, each with its bars; polarity only where steps are labelled."""
    all_metrics = [result.metrics for result in comparison.results]
    first = all_metrics[0]

    def share(name: str) -> list[float | None]:
        return [_share(getattr(metrics, name)) for metrics in all_metrics]

    found = [
        Failure(
            "Granularity",
            "Decisive tokens should weigh more than trivial ones.",
            [Measure("on pivots", "more is finer", share("high_entropy_share"), first.high_entropy_tokens)],
        ),
        Failure(
            "Polarity",
            "Right steps of failed responses should not be punished, wrong steps of successful ones not rewarded.",
            [
                Measure("right steps punished", "low is good", share("right_steps_punished")),
                Measure("wrong steps rewarded", "low is good", share("wrong_steps_rewarded")),
                Measure("blame on wrong steps", "high is good", share("blame_on_wrong_steps"), first.wrong_step_tokens),
            ],
        ),
        Failure(
            "Collapse",
            "A prompt whose responses are all right or all wrong should not be sampled for nothing.",
            [
                Measure("groups without signal", "low is good", share("groups_without_signal")),
                Measure("tokens without signal", "low is good", share("tokens_without_signal")),
            ],
        ),
    ]
    return [failure for failure in found if any(v is not None for m in failure.measures for v in m.values)]


def _share(value: Share | float | None) -> float | None:
    return value.value if isinstance(value, Share) else value


def labelled(metrics: Metrics) -> bool:
    """Whether there are steps to judge polarity by."""
    return bool(metrics.right_steps_punished.total or metrics.wrong_steps_rewarded.total)


def matrices(comparison: Comparison) -> list[tuple[str, str, list[list[Cell]]]]:
    """(title, legend, cells) of the pairwise cosine and sign agreement."""
    return [
        (
            "Cosine",
            "Cosine of the advantages over all valid tokens: 1 is the same direction, 0 unrelated, -1 opposite.",
            _matrix(comparison.cosine, tables.cosine),
        ),
        (
            "Sign agreement",
            "Share of tokens whose advantages have the same sign, 0 being a sign of its own.",
            _matrix(comparison.sign, tables.percent),
        ),
    ]


def _matrix(matrix: Matrix, text: Callable[[float | None], str]) -> list[list[Cell]]:
    return [
        [Cell(text(value), "z" if value is None else palette.level(round(value, 6), 1.0)) for value in row]
        for row in matrix
    ]


def profile_rows(
    comparison: Comparison,
) -> tuple[list[tuple[str, str]], list[tuple[str, float | None, list[ProfileChart]]]]:
    """Titles and scales of the axes; and for each estimator its name, share of positive mass, and a chart an axis."""
    batch = comparison.rollouts.batch()
    mask = np.asarray(batch.response_mask)
    sorted_by = axes(batch)
    drawn = [[profile(result.values, mask, axis) for axis in sorted_by] for result in comparison.results]
    tops = [max((_top(profiles[i]) for profiles in drawn), default=0) or 1.0 for i in range(len(sorted_by))]
    rows = [
        (
            result.key,
            positive_mass(result.values, mask),
            [_chart(p, axis.labels, top) for p, axis, top in zip(profiles, sorted_by, tops, strict=True)],
        )
        for result, profiles in zip(comparison.results, drawn, strict=True)
    ]
    scales = [
        f"from {axis.labels[0]} to {axis.labels[-1]}; full height {top:.1f} of the mean |A|"
        for axis, top in zip(sorted_by, tops, strict=True)
    ]
    return list(zip((axis.title for axis in sorted_by), scales, strict=True)), rows


def _top(p: Profile) -> float:
    return max((x for x in (*p.positive, *p.negative) if x is not None), default=0.0)


def _chart(p: Profile, labels: Sequence[str], top: float) -> ProfileChart:
    bars: list[tuple[int, float, float, str, str]] = []
    for i, (label, up, down) in enumerate(zip(labels, p.positive, p.negative, strict=True)):
        if up is None or down is None:
            continue
        tip = f"{label}: +{up:.2f} and -{down:.2f} of the mean |A|"
        bars.append((10 * i + 1, HEIGHT * (1 - up / top), HEIGHT * up / top, "up", tip))
        bars.append((10 * i + 1, float(HEIGHT), HEIGHT * down / top, "down", tip))
    return ProfileChart(bars, 10 * len(labels), "; ".join(dict.fromkeys(tip for *_, tip in bars)))
