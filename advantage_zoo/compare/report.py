"""A comparison as one self-contained HTML page: the failures in charts, every response token by token, agreement.

The page loads nothing and runs nothing but its own script: a content security policy in its head lets the browser
refuse everything else. What comes from a file or a plugin is escaped by the templates, or packed (payload.py) and put
on the page as text.
"""

import base64
import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import advantage_zoo
from advantage_zoo.compare import charts, palette, tables
from advantage_zoo.compare.choosing import by_reason
from advantage_zoo.compare.comparison import Comparison, Result
from advantage_zoo.compare.payload import pack

SCRIPTS = ("data.js", "groups.js", "tokens.js", "main.js")
"""Of the page, in the order in which they need each other."""


@dataclass(frozen=True)
class Page:
    """A table of the page: its legend, column heads and rows of texts."""

    title: str
    legend: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def render(comparison: Comparison, *, source: Path, command: str) -> str:
    """The page's HTML. Everything that comes from a file or a plugin is escaped: a response never executes.

    Args:
        comparison: What to show.
        source: The file or folder that the rollouts come from.
        command: The command line that made it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("advantage_zoo.compare"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = "\n".join(
        (resources.files("advantage_zoo.compare") / "templates" / name).read_text("utf-8") for name in SCRIPTS
    )
    axes, rows = charts.profile_rows(comparison)
    first = comparison.results[0]
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        source=source.name,
        facts=_facts(comparison),
        failures=charts.failures(comparison),
        labelled=charts.labelled(first.metrics),
        signal_legend=tables.signal_legend(first),
        polarity_legend=tables.polarity_legend(first),
        tables=_tables(comparison),
        matrices=charts.matrices(comparison),
        profile_axes=axes,
        profile_rows=rows,
        height=charts.HEIGHT,
        percent=tables.percent,
        provenance=_provenance(comparison, source, command),
        left_out=by_reason(comparison.left_out),
        notes=comparison.rollouts.metadata.get("notes", ()),
        payload=pack(comparison),
        light=list(palette.css(dark=False)),
        dark=list(palette.css(dark=True)),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def write_report(comparison: Comparison, path: Path, *, source: Path, command: str) -> None:
    """Write the page to ``path``."""
    path.write_text(render(comparison, source=source, command=command), encoding="utf-8")


def _facts(comparison: Comparison) -> dict[str, str]:
    rollouts = comparison.rollouts
    solved = float(np.mean([reward > comparison.threshold for reward in rollouts.rewards]))
    return {
        "groups": f"{len(set(rollouts.groups)):,}",
        "responses": f"{len(rollouts):,}",
        "tokens": f"{sum(map(len, rollouts.tokens)):,}",
        f"successful (reward above {comparison.threshold:g})": f"{100 * solved:.1f} %",
        "mean reward": f"{float(np.mean(rollouts.rewards)):.3g}",
    }


def _tables(comparison: Comparison) -> list[Page]:
    results = comparison.results
    scale = [
        (r.key, *map(tables.number, (r.metrics.mean_abs, r.metrics.length_bias, r.metrics.length_correlation)))
        for r in results
    ]
    legend = (
        "Mean |A| a token is the scale handed to the optimiser. Length bias: |A| a token on the longest quarter of the "
        "responses over that on the shortest (none: 1). Length correlation: Spearman's, of length and |A| a token."
    )
    pages = [Page("Scale and length", legend, ("mean |A|", "length bias", "length correlation"), scale)]
    first = results[0].metrics
    if first.largest_equal is not None or first.largest_alone is not None:
        pages.append(_extremes(results))
    scalars = [(r.key, name, f"{value:.4g}") for r in results for name, value in r.diagnostics.items()]
    if scalars:
        pages.append(Page("Diagnostics", "What an estimator reports of itself.", ("diagnostic", "value"), scalars))
    return pages


def _extremes(results: Sequence[Result]) -> Page:
    columns = ("anywhere", "in groups of equal rewards", "in groups of one")
    rows = [
        (r.key, *map(tables.number, (r.metrics.largest, r.metrics.largest_equal, r.metrics.largest_alone)))
        for r in results
    ]
    return Page("Largest |A|", tables.EXTREMES, columns, rows)


def _provenance(comparison: Comparison, source: Path, command: str) -> list[tuple[str, Any]]:
    files = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]
    hashes = [(f"SHA-256 of {path.name}", hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    rows: list[tuple[str, Any]] = [
        ("Command", command),
        ("Folder" if source.is_dir() else "File", source.name),
        *hashes,
        ("advantage-zoo", advantage_zoo.__version__),
        ("NumPy", np.__version__),
        ("Python", platform.python_version()),
        ("Success threshold", f"reward above {comparison.threshold:g}"),
    ]
    if comparison.step is not None:
        rows.append(("Step", comparison.step))
    return rows + [(f"Rollouts: {key}", str(value)) for key, value in comparison.rollouts.metadata.items()]
