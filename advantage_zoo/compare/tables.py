"""A comparison in the terminal: tables that explain themselves, and one response drawn token by token."""

from collections.abc import Iterable

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from advantage_zoo.compare.comparison import Comparison, Result
from advantage_zoo.compare.metrics import Share
from advantage_zoo.compare.show import lines_of, picture
from advantage_zoo.printing import new_table, print_table

MANY = 8
"""Estimators of which not every pair is printed; --json and --report have all."""


def percent(share: Share | float | None) -> str:
    """``12.3 %``; a dash where there is nothing to tell."""
    value = share.value if isinstance(share, Share) else share
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Two decimals, three digits where these would say little, or a dash."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.2f}" if value == 0 or 0.05 <= abs(value) < 1e4 else f"{value:.3g}"


def cosine(value: float | None) -> str:
    """Two decimals, or a dash; no minus before nothing."""
    return "-" if value is None else f"{value:.2f}".replace("-0.00", "0.00")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Every table, then the picture."""
    totals = comparison.totals
    console.print(
        f"{totals.responses} responses to {totals.groups} prompts, {totals.tokens:,} tokens, "
        f"{100 * totals.solved:.1f} % of the responses successful\n"
    )
    _print(console, signal_table(comparison), signal_legend(comparison.results[0]))
    if any(r.metrics.right_steps_punished.total or r.metrics.wrong_steps_rewarded.total for r in comparison.results):
        _print(console, polarity_table(comparison), polarity_legend(comparison.results[0]))
    if any(shown is not None for shown in _edges(comparison.results[0])):
        _print(console, extremes_table(comparison), EXTREMES)
    if len(comparison.results) > 1:
        for table in agreement_tables(comparison, console.width):
            print_table(console, table, wrap=False)
        console.print(agreement_legend() + "\n", style="dim", highlight=False)
    if any(result.diagnostics for result in comparison.results):
        _print(
            console, diagnostics_table(comparison), "What an estimator reports of itself; docs/estimators/ explains."
        )
    picture(comparison, console)


def signal_legend(result: Result) -> str:
    """What the columns of the first table mean."""
    return (
        "No signal: every advantage is exactly 0. On pivots: share of |A| on the 20 % of tokens with the highest "
        f"entropy (all tokens alike: {percent(result.metrics.high_entropy_tokens)}). Length bias: |A| a token on the "
        "longest quarter of responses over that on the shortest (none: 1)."
    )


def polarity_legend(result: Result) -> str:
    """What the columns of the polarity table mean."""
    m = result.metrics
    return (
        f"{m.right_steps_punished.total} right steps stand in failed responses, {m.wrong_steps_rewarded.total} wrong "
        "steps in successful ones. Punished, rewarded: the step's advantages sum to less, more than 0; low is good. "
        "Blame: of the negative advantage in failed responses, the share on wrong steps; high is good (all alike: "
        f"{percent(m.wrong_step_tokens)})."
    )


EXTREMES = (
    "Where rewards say nothing: in a group of equal rewards a formula may give one rounding error divided by its eps, "
    "and in a group of one the raw reward."
)


def agreement_legend() -> str:
    """What the cells of the agreement table mean."""
    return (
        "Cosine of the advantages over all valid tokens (1: the same direction), and under it the share of tokens "
        "whose advantages have the same sign, 0 being one."
    )


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
    failed, successful = "right steps\nin failed ones,\npunished", "wrong steps in\nsuccessful ones,\nrewarded"
    table = _table("Polarity", failed, successful, "blame on\nwrong steps")
    for result in comparison.results:
        m = result.metrics
        cells = (m.right_steps_punished, m.wrong_steps_rewarded, m.blame_on_wrong_steps)
        table.add_row(result.key, *map(percent, cells))
    return table


def _edges(result: Result) -> tuple[float | None, float | None]:
    return result.metrics.largest_equal, result.metrics.largest_alone


def extremes_table(comparison: Comparison) -> Table:
    """The largest advantages, and those where there is nothing to tell responses apart."""
    table = _table("Largest |A|", "anywhere", "in groups of\nequal rewards", "in groups\nof one")
    for result in comparison.results:
        table.add_row(result.key, *map(number, (result.metrics.largest, *_edges(result))))
    return table


def agreement_tables(comparison: Comparison, width: int) -> Iterable[Table]:
    """Pairwise cosine and sign agreement, in as many tables as it takes to fit ``width``; of many, with the first."""
    names = [result.key for result in comparison.results]
    if len(names) > MANY:
        table = _table(f"Agreement with {names[0]}", "cosine", "same sign")
        for name, cosines, signs in zip(names[1:], comparison.cosine[1:], comparison.sign[1:], strict=True):
            table.add_row(name, cosine(cosines[0]), percent(signs[0]))
        yield table
        return
    label = max(map(cell_len, ("estimator", *names)))
    for start, stop in lines_of([max(cell_len(name), len("100.0 %")) + 3 for name in names], width - label - 2):
        table = _table("Agreement" if start == 0 else "Agreement, continued", *names[start:stop])
        for name, cosines, signs in zip(names, comparison.cosine, comparison.sign, strict=True):
            pairs = zip(cosines[start:stop], signs[start:stop], strict=True)
            table.add_row(name, *(f"{cosine(c)}\n{percent(s)}" for c, s in pairs))
        yield table


def diagnostics_table(comparison: Comparison) -> Table:
    """The estimators' own scalars."""
    table = new_table("Diagnostics")
    table.add_column("estimator", no_wrap=True)
    table.add_column("diagnostic", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    for result in comparison.results:
        for i, (name, value) in enumerate(result.diagnostics.items()):
            table.add_row("" if i else result.key, name, f"{value:.4g}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = new_table(title)
    table.add_column("estimator", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _print(console: Console, table: Table, legend: str) -> None:
    print_table(console, table, wrap=False)
    console.print(legend + "\n", style="dim", highlight=False)
