"""Functions of frameworks too heavy to import: their own lines, found by name in their own file, and run."""

import ast
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def installed(package: str) -> Path:
    """Folder above an installed package's, whose modules are not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed; its dependencies need not be.", name=package)
    return Path(spec.submodule_search_locations[0]).parent


def checkout(variable: str) -> Path:
    """Root of a framework's sources, named by an environment variable."""
    if variable not in os.environ:
        raise ModuleNotFoundError(f"Set {variable} to the folder of the framework's sources.", name=variable)
    return Path(os.environ[variable])


def lines_of(path: Path, names: Iterable[str], scope: dict[str, Any]) -> dict[str, int]:
    """Run the definitions of ``names``, without decorators, in ``scope``; the line where each begins, by name."""
    found = {
        node.name: node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in set(names)
    }
    missing = set(names) - set(found)
    if missing:
        raise LookupError(f"{path} does not define {', '.join(sorted(missing))}.")
    for node in found.values():
        node.decorator_list.clear()
        exec(compile(ast.Module([node], []), str(path), "exec"), scope)
    return {name: node.lineno for name, node in found.items()}
