"""A comparison as one self-contained HTML page: tables, and a token heat map of a few responses."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import advantage_zoo
from advantage_zoo.compare import tables
from advantage_zoo.compare.comparison import Comparison, Result
from advantage_zoo.compare.selection import telling_responses
from advantage_zoo.rollouts.rollouts import NO_STEP

MAX_TOKENS = 400
"""Tokens of a response that are drawn: every lane has a cell for each, and a response may have thousands."""


@dataclass(frozen=True)
class Page:
    """A table of the page: its legend, column heads and rows of texts."""

    title: str
    legend: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def render(comparison: Comparison, *, source: Path, command: str) -> str:
    """The page's HTML. Everything that comes from a file or a plugin is escaped: a response never executes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("advantage_zoo.compare"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        summary=_summary(comparison),
        tables=_tables(comparison),
        responses=[
            _response(comparison, title, row)
            for title, row in telling_responses(comparison.rollouts, comparison.threshold)
        ],
        provenance=_provenance(comparison, source, command),
        positive=",".join(map(str, tables.POSITIVE)),
        negative=",".join(map(str, tables.NEGATIVE)),
    )


def write_report(comparison: Comparison, path: Path, *, source: Path, command: str) -> None:
    """Write the page to ``path``."""
    path.write_text(render(comparison, source=source, command=command), encoding="utf-8")


def _summary(comparison: Comparison) -> dict[str, str]:
    rollouts = comparison.rollouts
    solved = float(np.mean([reward > comparison.threshold for reward in rollouts.rewards]))
    return {
        "prompts": f"{len(set(rollouts.groups)):,}",
        "responses": f"{len(rollouts):,}",
        "tokens": f"{sum(map(len, rollouts.tokens)):,}",
        "successful": f"{100 * solved:.1f} %",
    }


def _signal(results: Sequence[Result]) -> Page:
    columns = ("groups without signal", "tokens without signal", "|A| on pivots", "length bias", "mean |A|")
    rows = [
        (
            result.key,
            tables.percent(result.metrics.groups_without_signal),
            tables.percent(result.metrics.tokens_without_signal),
            tables.percent(result.metrics.high_entropy_share),
            tables.number(result.metrics.length_bias),
            tables.number(result.metrics.mean_abs),
        )
        for result in results
    ]
    return Page("Signal", tables.signal_legend(results[0]), columns, rows)


def _polarity(results: Sequence[Result]) -> Page:
    columns = (
        "right steps in failed responses, punished",
        "wrong steps in successful ones, rewarded",
        "blame on wrong steps",
    )
    rows = [
        (
            result.key,
            tables.percent(result.metrics.right_steps_punished),
            tables.percent(result.metrics.wrong_steps_rewarded),
            tables.percent(result.metrics.blame_on_wrong_steps),
        )
        for result in results
    ]
    return Page("Polarity", tables.polarity_legend(results[0]), columns, rows)


def _extremes(results: Sequence[Result]) -> Page:
    columns = ("anywhere", "in groups of equal rewards", "in groups of one")
    rows = [
        (r.key, *map(tables.number, (r.metrics.largest, r.metrics.largest_equal, r.metrics.largest_alone)))
        for r in results
    ]
    return Page("Largest |A|", tables.EXTREMES, columns, rows)


def _tables(comparison: Comparison) -> list[Page]:
    results = comparison.results
    first = results[0].metrics
    pages = [_signal(results)]
    if first.right_steps_punished.total or first.wrong_steps_rewarded.total:
        pages.append(_polarity(results))
    if first.largest_equal is not None or first.largest_alone is not None:
        pages.append(_extremes(results))
    names = [result.key for result in results]
    cosine = [[key, *map(tables.cosine, row)] for key, row in zip(names, comparison.cosine, strict=True)]
    sign = [[key, *map(tables.percent, row)] for key, row in zip(names, comparison.sign, strict=True)]
    pages.append(Page("Cosine", "Cosine of the advantages over all valid tokens.", names, cosine))
    pages.append(Page("Sign agreement", "Share of tokens whose advantages have the same sign.", names, sign))
    scalars = [(r.key, name, f"{value:.4g}") for r in results for name, value in r.diagnostics.items()]
    if scalars:
        pages.append(Page("Diagnostics", "What an estimator reports of itself.", ("diagnostic", "value"), scalars))
    return pages


def _response(comparison: Comparison, title: str, row: int) -> dict[str, Any]:
    """One response: its tokens, and for each estimator a lane of (sign, strength, tooltip)."""
    rollouts = comparison.rollouts
    total = len(rollouts.tokens[row])
    count = min(total, MAX_TOKENS)
    index = rollouts.step_index[row] if rollouts.step_index is not None else [NO_STEP] * count
    correct = rollouts.step_correct[row] if rollouts.step_correct is not None else ()
    tokens = [
        {
            "text": tables.visible(token),
            "step": "none"
            if index[i] == NO_STEP
            else {True: "right", False: "wrong", None: "unknown"}[correct[index[i]]],
            "first": index[i] != NO_STEP and (i == 0 or index[i] != index[i - 1]),
            "facts": _facts(comparison, row, i),
        }
        for i, token in enumerate(rollouts.tokens[row][:count])
    ]
    lanes: list[dict[str, Any]] = []
    for result in comparison.results:
        values = result.values[row, :count]
        scale = float(np.abs(values).max(initial=0.0))
        cells = [{"value": float(a), "strength": round(abs(float(a)) / (scale or 1.0), 3)} for a in values]
        lanes.append({"name": result.key, "scale": f"{scale:.3g}", "cells": cells})
    return {
        "title": title,
        "prompt": rollouts.prompts[row],
        "reward": f"{rollouts.rewards[row]:g}",
        "row": row,
        "group": rollouts.groups[row],
        "tokens": tokens,
        "total": total,
        "lanes": lanes,
    }


def _facts(comparison: Comparison, row: int, i: int) -> str:
    rollouts = comparison.rollouts
    facts = [f"token {i}: {tables.visible(rollouts.tokens[row][i])}"]
    if rollouts.response_mask is not None and not rollouts.response_mask[row][i]:
        return "\n".join([*facts, "not emitted by the policy"])
    if rollouts.entropies is not None:
        facts.append(f"entropy {float(rollouts.entropies[row][i]):.3f} nats")
    if rollouts.logprobs is not None and rollouts.ref_logprobs is not None:
        ratio = float(rollouts.logprobs[row][i]) - float(rollouts.ref_logprobs[row][i])
        facts.append(f"log-ratio to the reference {ratio:+.3f} nats")
    return "\n".join(facts)


def _provenance(comparison: Comparison, source: Path, command: str) -> list[tuple[str, str]]:
    parameters = (
        f"{result.key}({', '.join(f'{k}={v!r}' for k, v in result.parameters.items())})"
        for result in comparison.results
    )
    rows = [
        ("Command", command),
        ("File", source.name),
        ("SHA-256", hashlib.sha256(source.read_bytes()).hexdigest()),
        ("advantage-zoo", advantage_zoo.__version__),
        ("NumPy", np.__version__),
        ("Success threshold", f"reward above {comparison.threshold:g}"),
        ("Estimators", "\n".join(parameters)),
    ]
    return rows + [(f"Rollouts: {key}", str(value)) for key, value in comparison.rollouts.metadata.items()]
