"""How the commands speak: results to standard output, one sentence to standard error for what is the user's to mend."""

import json
import math
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NoReturn, cast

import click


def fail(message: str) -> NoReturn:
    """One sentence on standard error, exit status 2."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(2)


def or_fail(action: Callable[[], Any]) -> Any:
    """The action's result; what is the user's to mend becomes one sentence."""
    try:
        return action()
    except (ValueError, TypeError, LookupError, OSError) as error:
        fail(sentence(error))


def sentence(error: Exception) -> str:
    """The error on one line; str() of a LookupError may be a quoted repr."""
    return " ".join(str(error.args[0] if isinstance(error, LookupError) and error.args else error).split())


@contextmanager
def warnings_as_notes() -> Generator[None]:
    """Warnings inside become a line each on standard error, without the place in the code."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
        click.echo(f"Note: {text}", err=True)


def standard_output() -> Any:
    """Standard output: as wide as the terminal, or COLUMNS, or 80; without colour when piped."""
    from rich.console import Console

    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a terminal that is not UTF-8 shows a ? rather than a traceback
    return Console(markup=False, highlight=False)


def print_json(value: Any) -> None:
    """JSON values, with null for a number that JSON has no word for."""
    click.echo(json.dumps(_finite(value), indent=2, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
