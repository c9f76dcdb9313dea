"""The reward of a row: a column, or a weighted sum of some."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from advantage_zoo.rollouts.parquet import RolloutFileError


@dataclass(frozen=True)
class Reward:
    """``weights[0] * columns[0] + ...``; what a row lacks of several counts for nothing, as TRL does it."""

    columns: Sequence[str]
    weights: Sequence[float]

    @classmethod
    def parsed(cls, text: str) -> "Reward":
        """From ``right + 0.5*format``, or the name of one column.

        Raises:
            RolloutFileError: A weight is no number.
        """
        columns: list[str] = []
        weights: list[float] = []
        for term in text.split("+"):
            weight, times, column = term.rpartition("*")
            try:
                weights.append(float(weight) if times else 1.0)
            except ValueError:
                raise RolloutFileError(f"--columns reward={text}: {weight.strip()!r} is no number.") from None
            columns.append(column.strip())
        return cls(columns, weights)

    def of(self, row: Mapping[str, Any]) -> float:
        """The row's reward; NaN if it has none."""
        values = [_float(row.get(column)) for column in self.columns]
        known = [w * value for w, value in zip(self.weights, values, strict=True) if not math.isnan(value)]
        return sum(known) if known else math.nan

    def found(self, row: Mapping[str, Any]) -> str:
        """What the row has in the reward's columns, for messages."""
        return ", ".join(f"{row.get(column)!r:.40}" for column in self.columns)

    def __str__(self) -> str:
        return " + ".join(self.columns)


def trl_reward(
    rows: Sequence[Mapping[str, Any]], group: Callable[[Mapping[str, Any]], Hashable]
) -> tuple[Reward, list[str]]:
    """The reward of TRL's log, which has a column for each reward function, then others that a function logged.

    Its column ``advantage`` tells which they are: TRL's advantages are the reward, centred, by a factor for each group.

    Returns:
        The reward; and what to tell of it.

    Raises:
        RolloutFileError: No sum of the columns fits the advantages, as where rewards have weights.
    """
    between = list(rows[0])
    between = between[between.index("completion") + 1 :]
    others = ("step", "prompt", "advantage")  # where somebody has ordered the columns anew
    columns = [c for c in between if c not in others and any(_is_number(row.get(c)) for row in rows)]
    if not columns or "advantage" not in rows[0]:
        raise RolloutFileError(
            "The log has no rewards and no advantages; TRL's GRPO and RLOO trainers write them, its distillation "
            "trainer does not."
        )
    if len(columns) == 1:
        return Reward(columns, [1.0]), []
    several = [Reward(columns[:k], [1.0] * k) for k in range(1, len(columns) + 1)]
    fitting = [reward for reward in several if _explains(reward, rows, group)]
    if not fitting:
        weighted = " + ".join(f"0.5*{column}" for column in columns)
        raise RolloutFileError(
            f"No sum of {', '.join(columns)} gives the log's advantages, so the rewards have weights, or a prompt "
            f"stands in a step twice; name them, for instance --columns 'reward={weighted}'."
        )
    chosen = fitting[-1] if len(fitting) == len(several) else fitting[0]  # all fit where no group's rewards differ
    return chosen, [f"The reward is {chosen}; --columns reward=... takes another."]


def _float(value: Any) -> float:
    """The number that ``value`` is, infinity if no float is as large; NaN if it is none."""
    try:
        return float(value) if isinstance(value, int | float | Decimal) else math.nan
    except OverflowError:
        return math.inf


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and not math.isnan(_float(value))


def _explains(
    reward: Reward, rows: Sequence[Mapping[str, Any]], group: Callable[[Mapping[str, Any]], Hashable]
) -> bool:
    """Whether advantages are the centred reward times a positive number, in every group."""
    of_group: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        pair = reward.of(row), row.get("advantage")
        if _is_number(pair[1]) and math.isfinite(pair[0]):
            of_group[group(row)].append((pair[0], _float(pair[1])))
    for pairs in of_group.values():
        mean = sum(r for r, _ in pairs) / len(pairs)
        centred = [r - mean for r, _ in pairs]
        square = sum(r * r for r in centred)
        factor = sum(r * a for r, (_, a) in zip(centred, pairs, strict=True)) / square if square > 1e-12 else 0.0
        size = max(abs(a) for _, a in pairs)
        if any(abs(factor * r - a) > 1e-2 * max(size, 1e-3) for r, (_, a) in zip(centred, pairs, strict=True)):
            return False
        if factor < 0:
            return False
    return True
