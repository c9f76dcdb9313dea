"""Binding a framework that has no place for us: named points in it, wrapped or filled once it has imported them.

An adapter lists its points in one table. The table is what is bound, what `advantage-zoo doctor` looks at, and what the
adapter's tests hold to the framework's releases. Nothing of the framework is imported that it does not import itself.
"""

import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from advantage_zoo.doctor import Finding

_MARK = "advantage_zoo"


@dataclass(frozen=True)
class Point:
    """A name in a framework: a function, which is wrapped, or a container, which is filled.

    Args:
        module: The framework's module.
        name: The name in it; ``Class.method`` for a method.
        parameters: What the wrapper asks of the function's signature: parameters by name, with spaces between.
        ours: ``module:function``, called with the original function and its arguments, or with the container.
    """

    module: str
    name: str
    parameters: str
    ours: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    def find(self, module: ModuleType) -> tuple[Any, str, Any]:
        """What holds the name, the last part of the name, and its value.

        Raises:
            AttributeError: The framework has no such name any more.
            TypeError: The function has lost a parameter.
        """
        *path, last = self.name.split(".")
        holder = functools.reduce(getattr, path, module)
        value = getattr(holder, last)
        if callable(value):
            lost = [name for name in self.parameters.split() if name not in inspect.signature(value).parameters]
            if lost:
                raise TypeError(f"it takes no {' and no '.join(lost)}")
        return holder, last, value

    def bind(self, module: ModuleType) -> None:
        """Wrap or fill it, once."""
        holder, last, value = self.find(module)
        if is_ours(value):
            return
        place, _, name = self.ours.partition(":")
        ours = getattr(importlib.import_module(place), name)
        if callable(value):
            setattr(holder, last, _around(value, ours))
        else:
            ours(value)


def mark(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, marked as ours."""
    setattr(function, _MARK, True)
    return function


def is_ours(value: Any) -> bool:
    """Whether a function in a framework is a wrapper of ours, or one that we put there."""
    return getattr(value, _MARK, False) is True


def _around(original: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def bound(*args: Any, **kwargs: Any) -> Any:
        return ours(original, *args, **kwargs)

    return mark(bound)


@dataclass(frozen=True, eq=False)
class Binding(MetaPathFinder):
    """The points of an adapter. As a finder, it finds what Python's own finds, and binds it once it has been executed.

    Args:
        framework: The framework's distribution.
        points: Where it is touched; a module that a release does not have is never bound.
        tested: The releases that the adapter's tests run.
    """

    framework: str
    points: tuple[Point, ...]
    tested: tuple[str, ...]
    problems: dict[Point, str] = field(default_factory=dict[Point, str])
    """Points that could not be bound, and why."""

    def bind(self) -> None:
        """Bind what has been imported already, and the rest when it is; calling it again changes nothing."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
            for name in sorted({point.module for point in self.points} & set(sys.modules)):
                self.bind_module(sys.modules[name])

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """The module's own spec, with a loader that binds; ``None`` for modules without a point."""
        known = any(point.module == fullname for point in self.points)
        spec: ModuleSpec | None = PathFinder.find_spec(fullname, path) if known else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.bind_module(module)

        spec.loader.exec_module = exec_module
        return spec

    def bind_module(self, module: ModuleType) -> None:
        """Bind every point of a module that has been imported; what fails is logged and remembered."""
        for point in self.points:
            if point.module == module.__name__:
                try:
                    point.bind(module)
                except Exception as error:  # those who use the framework without us go on
                    self.problems[point] = f"{point} could not be bound ({type(error).__name__}: {error})"
                    logging.getLogger(__name__).error("advantage-zoo: %s", self.problems[point])

    def refuse_if_unbound(self) -> None:
        """Stop a run that a point which has moved would spoil.

        Raises:
            RuntimeError: A point could not be bound.
        """
        if self.problems:
            raise RuntimeError(
                f"advantage-zoo {version('advantage-zoo')} does not fit {self.framework} {version(self.framework)}: "
                f"{'; '.join(self.problems.values())}. Releases that fit: {', '.join(self.tested)}."
            )

    def examine(self, *looks: "Callable[[str], Finding]") -> "list[Finding]":
        """What `advantage-zoo doctor` says: the installed release, what ``looks`` find of it, and each point."""
        from advantage_zoo.doctor import Finding

        try:
            installed = version(self.framework)
        except PackageNotFoundError:
            return [Finding(self.framework, True, "not installed")]
        found = [Finding(self.framework, True, f"{installed} (tested: {', '.join(self.tested)})")]
        self.bind()
        try:
            importlib.import_module(self.framework)
        except Exception as error:
            why = f"failed ({type(error).__name__}: {error}); mend {self.framework} first."
            return [*found, Finding(f"import {self.framework}", False, why)]
        return [*found, *(look(installed) for look in looks), *self.findings()]

    def findings(self) -> "list[Finding]":
        """What `advantage-zoo doctor` says of each point; this imports the framework's modules."""
        from advantage_zoo.doctor import Finding

        found: list[Finding] = []
        for point in self.points:
            try:
                there = find_spec(point.module) is not None
            except ModuleNotFoundError:  # not even the package that it was in
                there = False
            wrong = self._wrong(point) if there else ""
            fine = "as expected, and bound" if there else "not in this release"
            found.append(Finding(str(point), not wrong, wrong or fine))
        return found

    def _wrong(self, point: Point) -> str:
        try:
            _, _, value = point.find(importlib.import_module(point.module))
        except Exception as error:
            why = self.problems.get(point, f"{type(error).__name__}: {error}")
            return f"{why}; install what {self.framework} needs, or one of its releases {', '.join(self.tested)}."
        there = cast("list[Any]", list(value.values())) if isinstance(value, dict) else [value]  # pyright: ignore
        return "" if any(map(is_ours, there)) else "it is not bound in this process; see above why."
