"""A comparison in the terminal: tables that explain themselves, and one response drawn token by token."""

from collections.abc import Iterable

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advantage_zoo.compare.comparison import Comparison, Result
from advantage_zoo.compare.metrics import Share
from advantage_zoo.compare.selection import telling_failure
from advantage_zoo.rollouts.rollouts import NO_STEP

POSITIVE, NEGATIVE = (33, 102, 172), (179, 88, 6)
"""Blue and orange: told apart by colour-blind readers, too."""


def percent(share: Share | float | None) -> str:
    """``12.3 %``; a dash where there is nothing to tell."""
    value = share.value if isinstance(share, Share) else share
    return "-" if value is None else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "-" if value is None else f"{value:.2f}"


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Every table, then the picture."""
    rollouts = comparison.rollouts
    groups = len(set(rollouts.groups))
    solved = np.mean([reward > comparison.threshold for reward in rollouts.rewards])
    console.print(
        f"{len(rollouts)} responses to {groups} prompts, {sum(map(len, rollouts.tokens)):,} tokens, "
        f"{100 * solved:.1f} % of the responses successful\n"
    )
    _print(console, signal_table(comparison), signal_legend())
    if any(r.metrics.right_steps_punished.total or r.metrics.wrong_steps_rewarded.total for r in comparison.results):
        _print(console, polarity_table(comparison), polarity_legend(comparison.results[0]))
    if len(comparison.results) > 1:
        _print(console, agreement_table(comparison), agreement_legend())
    if any(result.diagnostics for result in comparison.results):
        _print(
            console, diagnostics_table(comparison), "What an estimator reports of itself; docs/estimators/ explains."
        )
    picture(comparison, console)


def signal_legend() -> str:
    """What the columns of the first table mean."""
    return (
        "No signal: every advantage is exactly 0. On pivots: share of |A| on the 20 % of tokens with the highest "
        "entropy (all alike: about 20 %). Length bias: |A| a token on the longest quarter over the shortest (none: 1)."
    )


def polarity_legend(result: Result) -> str:
    """What the columns of the polarity table mean."""
    return (
        f"{result.metrics.right_steps_punished.total} right steps stand in failed responses, "
        f"{result.metrics.wrong_steps_rewarded.total} wrong steps in successful ones. Punished, rewarded: the step's "
        "advantages sum to less, more than 0. Lower is better in both."
    )


def agreement_legend() -> str:
    """What the cells of the agreement table mean."""
    return "Cosine of the advantages, and share of tokens whose advantages have the same sign."


def signal_table(comparison: Comparison) -> Table:
    """Who gets a signal at all, and where it falls."""
    table = _table("Signal", "no signal:\ngroups", "no signal:\ntokens", "on\npivots", "length\nbias", "mean\n|A|")
    for result in comparison.results:
        m = result.metrics
        table.add_row(
            result.key,
            percent(m.groups_without_signal),
            percent(m.tokens_without_signal),
            percent(m.high_entropy_share),
            number(m.length_bias),
            number(m.mean_abs),
        )
    return table


def polarity_table(comparison: Comparison) -> Table:
    """Steps whose advantage points the wrong way."""
    table = _table(
        "Polarity", "right steps in failed\nresponses, punished", "wrong steps in successful\nones, rewarded"
    )
    for result in comparison.results:
        m = result.metrics
        table.add_row(result.key, percent(m.right_steps_punished), percent(m.wrong_steps_rewarded))
    return table


def agreement_table(comparison: Comparison) -> Table:
    """Pairwise cosine and sign agreement."""
    table = _table("Agreement", *(result.key for result in comparison.results))
    for result, cosines, signs in zip(comparison.results, comparison.cosine, comparison.sign, strict=True):
        cells = (f"{number(c)}\n{percent(s)}" for c, s in zip(cosines, signs, strict=True))
        table.add_row(result.key, *cells)
    return table


def diagnostics_table(comparison: Comparison) -> Table:
    """The estimators' own scalars."""
    table = Table(title="Diagnostics", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("estimator", no_wrap=True)
    table.add_column("diagnostic", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    for result in comparison.results:
        for i, (name, value) in enumerate(result.diagnostics.items()):
            table.add_row("" if i else result.key, name, f"{value:.4g}")
    return table


def picture(comparison: Comparison, console: Console) -> None:
    """One failed response of a mixed group: its tokens, its steps, and a lane of signs for each estimator."""
    rollouts = comparison.rollouts
    row = telling_failure(rollouts, comparison.threshold)
    if row is None:
        return
    console.print(Text("A failed response, token by token", style="bold"))
    console.print(Text(f"prompt {rollouts.prompts[row]!r}, reward {rollouts.rewards[row]:g}"))
    tokens = [visible(token) for token in rollouts.tokens[row]]
    names = ["", *(result.key for result in comparison.results)]
    label = max(cell_len(name) for name in (*names, "steps")) + 2
    for start, stop in _lines([max(cell_len(token), 1) for token in tokens], console.width - label):
        part = range(start, stop)
        console.print(Text("tokens".ljust(label)) + Text("".join(tokens[i] for i in part)), soft_wrap=True)
        if rollouts.step_index is not None and rollouts.step_correct is not None:
            index, correct = rollouts.step_index[row], rollouts.step_correct[row]
            marks = [_mark(index[i], correct).ljust(cell_len(tokens[i])) for i in part]
            console.print(Text("steps".ljust(label), style="dim") + Text("".join(marks)), soft_wrap=True)
        for result in comparison.results:
            lane = Text(result.key.ljust(label))
            scale = float(np.abs(result.values[row]).max()) or 1.0
            for i in part:
                lane.append(*_cell(float(result.values[row, i]) / scale, cell_len(tokens[i])))
            console.print(lane, soft_wrap=True)
        console.print()
    console.print(
        "+ more of this token, - less, · no signal; the stronger the colour, the larger |A| in this response. "
        "Steps: r right, x wrong.",
        style="dim",
    )


def visible(token: str) -> str:
    """The token with white space made visible and nothing that could move the cursor."""
    shown = token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(c if c.isprintable() else "�" for c in shown) or "∅"


def _mark(step: int, correct: Iterable[bool | None]) -> str:
    if step == NO_STEP:
        return " "
    known = list(correct)[step]
    return "?" if known is None else "r" if known else "x"


def _cell(strength: float, width: int) -> tuple[str, str]:
    """Glyph and style for an advantage of ``strength`` in [-1, 1]."""
    if strength == 0:
        return "·" * width, "dim"
    base = POSITIVE if strength > 0 else NEGATIVE
    # From a tint that is still told from none to the full colour; white letters on it.
    shade = 0.35 + 0.65 * abs(strength)
    r, g, b = (round(c * shade) for c in base)
    return ("+" if strength > 0 else "-") * width, f"white on rgb({r},{g},{b})"


def _lines(widths: list[int], room: int) -> Iterable[tuple[int, int]]:
    """Ranges of tokens that fit on a line."""
    start, used = 0, 0
    for i, width in enumerate(widths):
        if used + width > max(room, 20) and i > start:
            yield start, i
            start, used = i, 0
        used += width
    yield start, len(widths)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("estimator", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _print(console: Console, table: Table, legend: str) -> None:
    console.print(table)
    console.print(legend + "\n", style="dim", highlight=False)
