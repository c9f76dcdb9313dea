"""The report's charts: bars of the three failures, matrices of agreement, and where the weight falls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advantage_zoo.compare import palette, tables
from advantage_zoo.compare.comparison import Comparison
from advantage_zoo.compare.metrics import Matrix, Profile, Share

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
    """Granularity, polarity and collapse; without measures where the rollouts can't tell."""
    return [_granularity(comparison), _polarity(comparison), _collapse(comparison)]


def _granularity(comparison: Comparison) -> Failure:
    alike = comparison.results[0].metrics.high_entropy_tokens
    meaning = "Decisive tokens should weigh more than trivial ones. "
    if alike is None:
        return Failure("Granularity", meaning + "The rollouts have no entropies, so it can't be told.", [])
    pivots = Measure("on pivots", "more is finer", _shares(comparison, "high_entropy_share"), alike)
    return Failure(
        "Granularity", meaning + "On pivots: share of |A| on the 20 % of tokens with the highest entropy.", [pivots]
    )


def _polarity(comparison: Comparison) -> Failure:
    first = comparison.results[0].metrics
    right, wrong = first.right_steps_punished.total, first.wrong_steps_rewarded.total
    meaning = "Right steps of failed responses should not be punished, wrong steps of successful ones not rewarded. "
    if not right and not wrong:
        return Failure("Polarity", meaning + "The rollouts have no labels of such steps, so it can't be told.", [])
    counts = (
        f"There are {right:,} and {wrong:,} of them. Punished, rewarded: the step's advantages sum to less, more than "
        "0. Blame: of the negative advantage in failed responses, the share on wrong steps."
    )
    blame = _shares(comparison, "blame_on_wrong_steps")
    measures = [
        Measure("right steps punished", "low is good", _shares(comparison, "right_steps_punished")),
        Measure("wrong steps rewarded", "low is good", _shares(comparison, "wrong_steps_rewarded")),
        Measure("blame on wrong steps", "high is good", blame, first.wrong_step_tokens),
    ]
    return Failure("Polarity", meaning + counts, measures)


def _collapse(comparison: Comparison) -> Failure:
    measures = [
        Measure("groups without signal", "low is good", _shares(comparison, "groups_without_signal")),
        Measure("tokens without signal", "low is good", _shares(comparison, "tokens_without_signal")),
    ]
    meaning = "A prompt whose responses are all right or all wrong should not be sampled for nothing. "
    return Failure("Collapse", meaning + "No signal: every advantage is exactly 0.", measures)


def _shares(comparison: Comparison, name: str) -> list[float | None]:
    values = [getattr(result.metrics, name) for result in comparison.results]
    return [value.value if isinstance(value, Share) else value for value in values]


def matrices(comparison: Comparison) -> list[tuple[str, str, list[list[Cell]]]]:
    """(title, legend, cells) of the pairwise cosine and sign agreement."""
    return [
        (
            "Cosine",
            "Cosine of the advantages over all valid tokens: 1 is the same direction, 0 unrelated, -1 opposite.",
            _matrix(comparison.cosine, tables.cosine),
        ),
        (
            "Sign agreement, %",
            "Share of tokens whose advantages have the same sign, 0 being a sign of its own.",
            _matrix(comparison.sign, lambda share: tables.percent(share).removesuffix(" %")),
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
    sorted_by = comparison.axes
    drawn = [result.profiles for result in comparison.results]
    tops = [max((_top(profiles[i]) for profiles in drawn), default=0) or 1.0 for i in range(len(sorted_by))]
    rows = [
        (
            result.key,
            result.positive_mass,
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
