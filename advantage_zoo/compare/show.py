"""Responses in the terminal, token by token: a lane of colours for each estimator."""

from collections.abc import Iterable, Sequence

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from advantage_zoo.compare.comparison import Comparison, Result
from advantage_zoo.compare.palette import NEGATIVE, POSITIVE
from advantage_zoo.compare.selection import rows_of_groups, telling_failure
from advantage_zoo.compare.texts import readable, visible
from advantage_zoo.rollouts.rollouts import NO_STEP

PICTURE_LINES = 5
"""Lines of tokens that the picture below the tables takes at most; a response may have thousands."""


def picture(comparison: Comparison, console: Console) -> None:
    """One failed response of a mixed group."""
    row = telling_failure(comparison.rollouts, comparison.threshold)
    if row is None:
        return
    console.print(Text("A failed response, token by token", style="bold"))
    console.print(Text(f"prompt {comparison.rollouts.prompts[row]!r}, reward {comparison.rollouts.rewards[row]:g}"))
    left = _draw(comparison, row, console, PICTURE_LINES)
    if left:
        group = comparison.rollouts.groups[row]
        console.print(f"... and {left} more tokens; --show {group} and --report draw them.", style="dim")
    _legend(console)


def show_group(comparison: Comparison, group: int, console: Console) -> None:
    """Every response of a group."""
    rollouts = comparison.rollouts
    rows = rows_of_groups(rollouts)[group]
    console.print(Text(f"Group {group}: {len(rows)} responses to {rollouts.prompts[rows[0]]!r}\n", style="bold"))
    for row in rows:
        verdict = "successful" if rollouts.rewards[row] > comparison.threshold else "failed"
        tokens = len(rollouts.tokens[row])
        if rollouts.prompts[row] != rollouts.prompts[rows[0]]:
            console.print(Text(f"to {rollouts.prompts[row]!r}", style="bold"))
        console.print(Text(f"row {comparison.rows[row]}, {verdict}, reward {rollouts.rewards[row]:g}, {tokens} tokens"))
        _draw(comparison, row, console, None)
    _legend(console)


def _legend(console: Console) -> None:
    console.print(
        "Blue, + : more of this token; orange, - : less; ·: exactly 0; # and =: |A| at least half of the lane's "
        "largest. ~: not emitted by the policy. Steps: r right, x wrong, ? unknown.",
        style="dim",
        highlight=False,
    )


def _draw(comparison: Comparison, row: int, console: Console, most: int | None) -> int:
    """The response's tokens, steps and lanes, in at most so many lines of tokens; how many tokens are left."""
    rollouts = comparison.rollouts
    tokens = [visible(token) for token in readable(rollouts.tokens[row], rollouts.texts[row])]
    label = max(cell_len(name) for name in (*(result.key for result in comparison.results), "tokens")) + 2
    lines = list(lines_of([cell_len(token) for token in tokens], console.width - label)) if tokens else []
    for start, stop in lines[:most]:
        part = range(start, stop)
        console.print(Text("tokens".ljust(label)) + Text("".join(tokens[i] for i in part)), soft_wrap=True)
        if rollouts.step_index is not None and rollouts.step_correct is not None:
            index, correct = rollouts.step_index[row], rollouts.step_correct[row]
            marks = [_mark(index[i], correct).ljust(cell_len(tokens[i])) for i in part]
            console.print(Text("steps".ljust(label), style="dim") + Text("".join(marks)), soft_wrap=True)
        for result in comparison.results:
            console.print(_lane(comparison, result, row, tokens, part, label, console), soft_wrap=True)
        console.print()
    return len(tokens) - lines[most][0] if most is not None and len(lines) > most else 0


def _lane(
    comparison: Comparison,
    result: Result,
    row: int,
    tokens: Sequence[str],
    part: range,
    label: int,
    console: Console,
) -> Text:
    """An estimator's lane: the tokens on their colours, or signs in their place where there are none."""
    mask = comparison.rollouts.response_mask
    coloured = console.color_system in ("256", "truecolor") and not console.no_color  # in 16, tints are black or grey
    scale = float(np.abs(result.values[row]).max()) or 1.0
    lane = Text(result.key.ljust(label))
    for i in part:
        if mask is not None and not mask[row][i]:
            lane.append(tokens[i] if coloured else "~" * cell_len(tokens[i]), "dim italic")
        else:
            sign, style = _cell(float(result.values[row, i]) / scale)
            lane.append(*((tokens[i], style) if coloured else (sign * cell_len(tokens[i]), None)))
    return lane


def _mark(step: int, correct: Iterable[bool | None]) -> str:
    if step == NO_STEP:
        return " "
    known = list(correct)[step]
    return "?" if known is None else "r" if known else "x"


def _cell(strength: float) -> tuple[str, str]:
    """Sign and style for an advantage of ``strength`` in [-1, 1]."""
    if strength == 0:
        return "·", "dim"
    base = POSITIVE if strength > 0 else NEGATIVE
    # From a tint that is still told from none to the full colour; white letters on it.
    shade = 0.35 + 0.65 * abs(strength)
    r, g, b = (round(c * shade) for c in base)
    # The signs say the same without colour: doubled strokes are strong.
    weak, strong = ("+", "#") if strength > 0 else ("-", "=")
    return (strong if abs(strength) >= 0.5 else weak), f"white on rgb({r},{g},{b})"


def lines_of(widths: list[int], room: int) -> Iterable[tuple[int, int]]:
    """Ranges of cells that fit on a line."""
    start, used = 0, 0
    for i, width in enumerate(widths):
        if used + width > max(room, 20) and i > start:
            yield start, i
            start, used = i, 0
        used += width
    yield start, len(widths)
