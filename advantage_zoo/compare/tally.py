"""Sums and counts that the metrics are made of. Those of two parts of the rollouts merge into those of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.compare.metrics import Matrix, Metrics, Profile, Share
from advantage_zoo.compare.part import RIGHT, WRONG, Axis, Part

Numbers = dict[str, Any]
"""By name, each a number or an array."""


@dataclass(frozen=True, eq=False)
class Tally:
    """What is summed up of one estimator.

    Args:
        unit: A power of two near the largest abs(A), 0 if there is none: sums are in units of it, so that none
            overflows. What depends on it merges without rounding.
        sums: In that unit.
        counts: Integers.
        largest: Maxima of abs(A); a name is missing where there is nothing to take one of.
        sizes: (row, mean abs(A) a token) of the responses that have a valid token, as arrays.
    """

    unit: float
    sums: Numbers
    counts: Numbers
    largest: dict[str, float]
    sizes: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]] = field(default_factory=list[Any])

    def __add__(self, other: "Tally") -> "Tally":
        unit = max(self.unit, other.unit)
        return Tally(
            unit,
            _added(_scaled(self.sums, self.unit, unit), _scaled(other.sums, other.unit, unit)),
            _added(self.counts, other.counts),
            {k: max(self.largest.get(k, 0.0), other.largest.get(k, 0.0)) for k in {**self.largest, **other.largest}},
            [*self.sizes, *other.sizes],
        )

    def metrics(self, lengths: NDArray[np.int64]) -> Metrics:
        """The numbers; of all responses, whose valid tokens are ``lengths``, (B,)."""
        s, c, unit = self.sums, self.counts, self.unit
        tokens = int(c["tokens"])
        known = "pivots" in c and tokens > 0
        return Metrics(
            groups_without_signal=Share(int(c["dead_groups"]), int(c["groups"])),
            tokens_without_signal=Share(int(c["zeros"]), tokens),
            high_entropy_share=_part(s["on_pivots"], s["size"]) if known else None,
            high_entropy_tokens=_part(c["pivots"], tokens) if known else None,
            **{name: Share(int(c[name][0]), int(c[name][1])) for name in STEPS},
            blame_on_wrong_steps=_part(*s["blame"]),
            wrong_step_tokens=_part(*c["step_tokens"]),
            length_bias=_bias(*s["by_length"], *c["by_length"]) if "by_length" in c else None,
            length_correlation=_correlation(self.sizes, lengths),
            mean_abs=float(s["size"]) * unit / max(tokens, 1),
            largest=self.largest.get("all", 0.0),
            largest_equal=self.largest.get("equal"),
            largest_alone=self.largest.get("alone"),
        )

    def positive_mass(self) -> float | None:
        """Share of the sum of abs(A) that is positive; ``None`` if there is none."""
        return _part(self.sums["positive"], self.sums["size"])

    def profiles(self, axes: Sequence[Axis]) -> list[Profile]:
        """Where the weight falls, along each axis; zeros if the estimator gave nothing but zeros."""
        mean = float(self.sums["size"]) / max(int(self.counts["tokens"]), 1) or 1.0
        found: list[Profile] = []
        for i, _ in enumerate(axes):
            count = self.counts[f"axis {i}"]
            halves = [
                [float(t / n / mean) if n else None for t, n in zip(total, count, strict=True)]
                for total in self.sums[f"axis {i}"]
            ]
            found.append(Profile(*halves))
        return found


STEPS = ("right_steps_punished", "wrong_steps_rewarded", "right_steps_rewarded", "wrong_steps_punished")


def tally(values: NDArray[np.float64], part: Part, rows: NDArray[np.int64]) -> Tally:
    """Of one estimator's advantages at the valid tokens of a part, (n,), whose responses are ``rows`` of all, (B,)."""
    size = np.abs(values)
    largest = float(size.max(initial=0.0))
    unit = unit_of(largest)
    scaled = size / (unit or 1.0)
    count = len(part.ragged)
    by_row = np.bincount(part.rows, weights=scaled, minlength=count)  # (B,)
    groups, number = np.asarray(part.batch.group_ids), int(part.batch.num_groups or 0)
    alive = np.bincount(groups, weights=by_row > 0, minlength=number) > 0  # (G,)
    sums: Numbers = {"size": by_row.sum(), "positive": scaled[values > 0].sum()}
    counts: Numbers = {
        "tokens": len(values),
        "zeros": int((size == 0).sum()),
        "groups": number,
        "dead_groups": int((~alive).sum()),
    }
    if part.pivots is not None:
        sums["on_pivots"], counts["pivots"] = scaled[part.pivots].sum(), int(part.pivots.sum())
    if part.short_and_long is not None:
        sums["by_length"] = np.array([by_row[which].sum() for which in part.short_and_long])
        counts["by_length"] = np.array([part.lengths[which].sum() for which in part.short_and_long])
    _along_axes(np.where(values > 0, scaled, 0.0), scaled, part, sums, counts)
    _on_steps(values, scaled, part, sums, counts)
    present = part.lengths > 0
    means = by_row[present] / part.lengths[present] * unit
    return Tally(unit, sums, counts, _maxima(size, part, largest), [(rows[present], means)])


def unit_of(largest: float) -> float:
    """The power of two by which no number up to ``largest`` is above 2; 0 of 0."""
    return float(np.ldexp(1.0, int(np.frexp(largest)[1]) - 1)) if largest else 0.0


def _maxima(size: NDArray[np.float64], part: Part, largest: float) -> dict[str, float]:
    found = {"all": largest}
    for name, rows in zip(("equal", "alone"), part.equal_and_alone, strict=True):
        if rows.any():
            found[name] = float(size[rows[part.rows]].max(initial=0.0))
    return found


def _along_axes(up: NDArray[np.float64], size: NDArray[np.float64], part: Part, sums: Numbers, counts: Numbers) -> None:
    for i, (bins, axis) in enumerate(zip(part.bins, part.axes, strict=True)):
        number = len(axis.labels)
        positive, both = (np.bincount(bins, weights=x, minlength=number) for x in (up, size))
        sums[f"axis {i}"] = np.stack([positive, np.clip(both - positive, 0, None)])
        counts[f"axis {i}"] = np.bincount(bins, minlength=number)


def _on_steps(
    values: NDArray[np.float64], size: NDArray[np.float64], part: Part, sums: Numbers, counts: Numbers
) -> None:
    """Steps rewarded and punished, and where the blame of failed responses falls."""
    correct, failed = part.ragged.step_correct, part.failed
    if not len(correct):
        sums["blame"] = np.zeros(2)
        counts |= {"step_tokens": np.zeros(2, dtype=np.int64), **{name: np.zeros(2, dtype=np.int64) for name in STEPS}}
        return
    total = part.a_step(values)  # (S,)
    among = {"right": failed & (correct == RIGHT), "wrong": ~failed & (correct == WRONG)}
    got = {"punished": total < 0, "rewarded": total > 0}
    for name in STEPS:
        kind, _, fate = name.split("_")
        counts[name] = np.array([(among[kind] & got[fate]).sum(), among[kind].sum()])
    known, wrong = failed & (correct >= 0), failed & (correct == WRONG)
    blame, tokens = part.a_step(np.where(values < 0, size, 0.0)), part.a_step(np.ones_like(size))
    sums["blame"] = np.array([blame[wrong].sum(), blame[known].sum()])
    counts["step_tokens"] = np.array([tokens[wrong].sum(), tokens[known].sum()]).astype(np.int64)


def _scaled(sums: Mapping[str, Any], unit: float, new: float) -> Numbers:
    return dict(sums) if unit in (new, 0.0) else {name: x * (unit / new) for name, x in sums.items()}


def _added(a: Numbers, b: Numbers) -> Numbers:
    return {name: a[name] + b[name] for name in a}


def _part(some: float, all_of_it: float) -> float | None:
    return float(some / all_of_it) if all_of_it > 0 else None


def _bias(short: float, long: float, short_tokens: int, long_tokens: int) -> float | None:
    return float(long / long_tokens / (short / short_tokens)) if short > 0 else None


def _correlation(
    sizes: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], lengths: NDArray[np.int64]
) -> float | None:
    """Spearman's, of length and mean abs(A) a token."""
    rows = np.concatenate([rows for rows, _ in sizes])
    mean_size = np.concatenate([means for _, means in sizes])
    a, b = _ranks(lengths[rows]), _ranks(mean_size.round(12))  # equal up to rounding is equal
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(x: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks with ties at their mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


@dataclass(frozen=True, eq=False)
class Agreement:
    """What is summed up of each pair of E estimators.

    Args:
        units: (E,) powers of two, as of :class:`Tally`.
        dots: (E, E) sum of A_i A_j, in these units.
        same: (E, E) tokens at which the signs are equal, 0 being one.
        tokens: How many there are.
    """

    units: NDArray[np.float64]
    dots: NDArray[np.float64]
    same: NDArray[np.int64]
    tokens: int

    @classmethod
    def of(cls, values: Sequence[NDArray[np.float64]]) -> "Agreement":
        """Of the advantages of each estimator at the same valid tokens, (n,)."""
        units = np.array([unit_of(float(np.abs(a).max(initial=0.0))) for a in values])
        scaled = np.stack([a / (unit or 1.0) for a, unit in zip(values, units, strict=True)])  # (E, n)
        up, down = (scaled > 0).astype(np.float32), (scaled < 0).astype(np.float32)
        none = 1 - up - down
        same = _pairs(up) + _pairs(down) + _pairs(none)
        return cls(units, scaled @ scaled.T, same, scaled.shape[1])

    def __add__(self, other: "Agreement") -> "Agreement":
        units = np.maximum(self.units, other.units)
        safe = np.where(units > 0, units, 1.0)
        mine, theirs = (a.dots * np.outer(a.units / safe, a.units / safe) for a in (self, other))
        return Agreement(units, mine + theirs, self.same + other.same, self.tokens + other.tokens)

    def matrices(self) -> tuple[Matrix, Matrix]:
        """Pairwise cosine, ``None`` with an estimator that gave only zeros, and share of tokens of equal sign."""
        norm = np.sqrt(np.diag(self.dots))
        cosine: Matrix = [
            [
                float(np.clip(dot / (a * b), -1.0, 1.0)) if a > 0 and b > 0 else None
                for dot, b in zip(row, norm, strict=True)
            ]
            for row, a in zip(self.dots, norm, strict=True)
        ]
        share: Matrix = [[float(n / self.tokens) if self.tokens else None for n in row] for row in self.same]
        return cosine, share


def _pairs(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """(E, E) at how many tokens both are 1; float32 counts to 2**24."""
    most = 2**24
    counted = np.zeros((len(x), len(x)), dtype=np.int64)
    for i in range(0, x.shape[1], most):
        block = x[:, i : i + most]
        counted += (block @ block.T).astype(np.int64)
    return counted
