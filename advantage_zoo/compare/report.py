"""A comparison as one self-contained HTML page: the failures in charts, every response token by token, agreement.

The page loads nothing and runs nothing but its own script: a content security policy in its head lets the browser
refuse everything else. What comes from a file or a plugin is escaped by the templates, or packed (payload.py) and put
on the page as text.
"""

import base64
import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np

import advantage_zoo
from advantage_zoo.compare import charts, palette, tables
from advantage_zoo.compare.choosing import by_reason
from advantage_zoo.compare.comparison import Comparison, Result
from advantage_zoo.compare.payload import pack
from advantage_zoo.rollouts.rows import files_of

SCRIPTS = ("data.js", "groups.js", "tokens.js", "main.js")
"""Of the page, in the order in which they need each other."""


@dataclass(frozen=True)
class Page:
    """A table of the page: its legend, column heads and rows of texts."""

    title: str
    legend: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def render(comparison: Comparison, *, sources: Sequence[Path], command: str) -> str:
    """The page's HTML. Everything that comes from a file or a plugin is escaped: a response never executes.

    Args:
        comparison: What to show.
        sources: The files and folders that the rollouts come from.
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
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        source=", ".join(path.name for path in sources),
        facts=_facts(comparison),
        failures=charts.failures(comparison),
        tables=_tables(comparison),
        matrices=charts.matrices(comparison),
        profile_axes=axes,
        profile_rows=rows,
        height=charts.HEIGHT,
        percent=tables.percent,
        provenance=_provenance(comparison, sources, command),
        left_out=by_reason(comparison.left_out),
        notes=_notes(comparison.rollouts.metadata.get("notes", [])),
        payload=pack(comparison),
        light=list(palette.css(dark=False)),
        dark=list(palette.css(dark=True)),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def write_report(comparison: Comparison, path: Path, *, sources: Sequence[Path], command: str) -> None:
    """Write the page to ``path``.

    Raises:
        OSError: It can't be written there.
    """
    page = render(comparison, sources=sources, command=command)
    try:
        path.write_text(page, encoding="utf-8", errors="replace")  # a file's name may be no text
    except OSError as error:
        raise OSError(f"The report {path} can't be written ({error.strerror}); name another file.") from error


def _notes(noted: Any) -> list[str]:
    """What the reader of a dump noted; a file of somebody else's may have anything by that name."""
    return [str(note) for note in cast("list[Any]", noted)] if isinstance(noted, list) else [str(noted)]


def _facts(comparison: Comparison) -> dict[str, str]:
    totals = comparison.totals
    return {
        "groups": f"{totals.groups:,}",
        "responses": f"{totals.responses:,}",
        "tokens": f"{totals.tokens:,}",
        f"successful (reward above {comparison.threshold:g})": f"{100 * totals.solved:.1f} %",
        "mean reward": f"{totals.mean_reward:.3g}",
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


def _provenance(comparison: Comparison, sources: Sequence[Path], command: str) -> list[tuple[str, Any]]:
    hashes = [(f"SHA-256 of {path.name}", _sha256(path)) for source in sources for path in files_of(source)]
    rows: list[tuple[str, Any]] = [
        ("Command", command),
        *(("Folder" if source.is_dir() else "File", source.name) for source in sources),
        *hashes,
        ("advantage-zoo", advantage_zoo.__version__),
        ("NumPy", np.__version__),
        ("Python", platform.python_version()),
        ("Success threshold", f"reward above {comparison.threshold:g}"),
    ]
    if comparison.step is not None:
        rows.append(("Step", comparison.step))
    return rows + [(f"Rollouts: {key}", str(value)) for key, value in _leaves(comparison.rollouts.metadata)]


def _leaves(metadata: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, those of a mapping inside behind its name."""
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _leaves(cast("Mapping[str, Any]", value), f"{before}{key}, ")
        else:
            yield f"{before}{key}", value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
