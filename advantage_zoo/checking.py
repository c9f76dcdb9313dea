"""`advantage-zoo check`: the conformance suite as a table of laws and libraries."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from advantage_zoo.estimator import Estimator
from advantage_zoo.printing import new_table, print_table
from advantage_zoo.progress import bar
from advantage_zoo.registry import registry
from advantage_zoo.spelling import construct
from advantage_zoo.suggestions import nearest
from advantage_zoo.testing import INVARIANTS, backend, cases, check_law


@dataclass(frozen=True)
class Outcome:
    """What a law's check said on a backend; ``broken`` is the message, or ``""``."""

    law: str
    backend: str
    broken: str


def run(
    which: str, backends: Sequence[str] | None, only: Sequence[str], row_fields: Sequence[str] = ()
) -> list[Outcome]:
    """Check every law that holds for the estimator, or only those named, on every library.

    Raises:
        LookupError: The estimator, a backend or a law does not exist; the module can't be imported.
        ImportError: A backend's library can't be imported.
    """
    unknown = [law for law in only if law not in INVARIANTS]
    if unknown:
        close = nearest(unknown[0].upper(), INVARIANTS)
        raise LookupError(f"No invariant is called {', '.join(unknown)}{close}; there are {', '.join(INVARIANTS)}.")
    instance, pairs = cases(find(which), backends)
    pairs = [(law, name) for law, name in pairs if not only or law.id in only]
    if not pairs:
        raise LookupError(
            f"{instance.name} does not claim {', '.join(only)}, or no library here has it to break: nothing to check."
        )
    outcomes: list[Outcome] = []
    with bar("checking", len(pairs)) as advance:
        for law, name in pairs:
            try:
                check_law(law, instance, backend(name), row_fields=row_fields)
                broken = ""
            except AssertionError as error:
                broken = str(error)
            outcomes.append(Outcome(law.id, name, broken))
            advance(1)
    return outcomes


def find(which: str) -> str | type[Estimator] | Estimator:
    """What ``package.module:Class`` or ``FILE.py:Class`` names, with parameters in parentheses if it has any given.

    Any other spelling as it stands.

    Raises:
        LookupError: The module can't be imported, or has no such class.
        TypeError: A parameter is unknown, missing or of the wrong type.
    """
    if which.endswith(".py"):
        raise LookupError(f"{which} is a file; name the class in it as well, for instance {which}:MyEstimator.")
    found = re.fullmatch(r"(.+?):([^\W\d]\w*)(\(.*\))?", which)
    if found is None or which.partition("(")[0] in registry().entries:
        return which
    place, name, arguments = found.groups()
    module = _load(Path(place)) if place.endswith(".py") else _imported(place)
    cls: Any = getattr(module, name, None)
    if not (isinstance(cls, type) and issubclass(cls, Estimator)):
        what = "no such name" if cls is None else "something else there"
        raise LookupError(f"{which}: expected a subclass of advantage_zoo.Estimator; {place} has {what}.")
    return construct(cls, name + (arguments or "")) if arguments or _required(cls) else cls


def _required(cls: type[Estimator]) -> bool:
    return any(f.default is MISSING for f in fields(cls))


def _imported(name: str) -> Any:
    sys.path.insert(0, "")  # as python -m does: what stands in the current folder can be checked
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the module's own code raises
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise _failed(name, error, f'python -c "import {name}"') from error
        raise LookupError(f"No module is called {missing!r}; it must be installed, or stand in this folder.") from error


def _load(path: Path) -> Any:
    if not path.is_file():
        raise LookupError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file's own code raises
        del sys.modules[path.stem]
        raise _failed(str(path), error, f"python {path}") from error
    return module


def _failed(place: str, error: Exception, shown_by: str) -> LookupError:
    return LookupError(f"{place} can't be imported ({type(error).__name__}: {error}); {shown_by} shows where.")


def to_dict(which: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Plain JSON values."""
    rows = [{"law": o.law, "library": o.backend, "holds": not o.broken, "message": o.broken} for o in outcomes]
    return {"estimator": which, "holds": not any(o.broken for o in outcomes), "laws": rows}


def _mark(broken: str | None) -> Text:
    """``None`` is a law that the library cannot break."""
    if broken is None:
        return Text("-", style="dim")
    return Text("broken", style="red") if broken else Text("holds")


def print_outcomes(which: str, outcomes: Sequence[Outcome], console: Console) -> None:
    """A row a law, a column a library; then what is broken, once a law."""
    libraries = list(dict.fromkeys(o.backend for o in outcomes))
    table = new_table(which)
    for column in ("law", *libraries):
        table.add_column(column, no_wrap=True)
    table.add_column("")
    broken = {(o.law, o.backend): o.broken for o in outcomes}
    for law in dict.fromkeys(o.law for o in outcomes):
        marks = [_mark(broken.get((law, name))) for name in libraries]
        table.add_row(law, *marks, INVARIANTS[law].law)
    print_table(console, table)
    shown = {o.law: o for o in reversed(outcomes) if o.broken}
    for outcome in reversed(list(shown.values())):
        console.print(outcome.broken + "\n", highlight=False)
    count = sum(bool(o.broken) for o in outcomes)
    console.print(f"{count} of {len(outcomes)} checks are broken." if count else f"All {len(outcomes)} checks hold.")
