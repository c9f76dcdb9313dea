"""`advantage-zoo doctor`: what the adapters say of the frameworks that are installed here.

An adapter offers a function without arguments that returns findings, as an entry point of group
``advantage_zoo.doctors`` named after its framework.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from rich.console import Console
from rich.text import Text

from advantage_zoo.printing import new_table, print_table
from advantage_zoo.registry import BUILTIN, PRESETS, registry

GROUP = "advantage_zoo.doctors"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: What it is, in a few words.
        ok: Whether it is as expected; a framework that is not installed is.
        detail: What was found; if it is not ok, a sentence that says what to do.
    """

    what: str
    ok: bool
    detail: str


def examine() -> dict[str, list[Finding]]:
    """Findings by framework, those about advantage-zoo itself first; an adapter that fails is a finding, too."""
    found = {"advantage-zoo": _own()}
    for point in sorted(entry_points(group=GROUP)):
        try:
            found[point.name] = list(point.load()())
        except (Exception, SystemExit) as error:  # an adapter may be of another version, or a plugin's
            problem = f"{point.value} failed ({type(error).__name__}: {error}); is its package complete?"
            found[point.name] = [Finding("adapter", False, problem)]
    return found


def healthy(found: dict[str, list[Finding]]) -> bool:
    """Whether every finding is as expected."""
    return all(finding.ok for findings in found.values() for finding in findings)


def print_findings(found: dict[str, list[Finding]], console: Console) -> None:
    """A table, a row a finding, and what is wrong once more below it."""
    table = new_table("Doctor")
    for column in ("of", "what", "", "found"):
        table.add_column(column)
    for framework, findings in found.items():
        for finding in findings:
            mark = Text("ok", style="green") if finding.ok else Text("wrong", style="bold red")
            table.add_row(framework, finding.what, mark, finding.detail)
    print_table(console, table)
    wrong = sum(not finding.ok for findings in found.values() for finding in findings)
    console.print(f"{wrong} of these to mend." if wrong else "Nothing is wrong.")


def to_dict(found: dict[str, list[Finding]]) -> dict[str, Any]:
    """Plain JSON values."""
    return {framework: [vars(finding) for finding in findings] for framework, findings in found.items()}


def _own() -> list[Finding]:
    from advantage_zoo import __version__

    known = registry()
    count = sum("@" not in entry.key for entry in known.listed())
    plugins = sorted({entry.plugin for entry in known.listed()} - {BUILTIN, PRESETS})
    return [
        Finding("version", True, f"{__version__} on Python {platform.python_version()}"),
        Finding("registry", True, f"{count} estimators; plugins: {', '.join(plugins) or 'none'}"),
        *(Finding(f"plugin {plugin}", False, problem) for plugin, problem in known.problems.items()),
    ]
