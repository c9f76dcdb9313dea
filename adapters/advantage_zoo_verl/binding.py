"""Where this adapter touches verl: each of POINTS is bound as soon as verl has imported its module."""

import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """A name in verl that is bound: a function is wrapped, a dictionary is filled.

    Args:
        module: verl's module.
        name: The name in it; ``Class.method`` for a method.
        parameters: What the wrapper asks of a function's signature, by name.
        ours: What stands in for it, or fills it: ``module:function`` of this package.
    """

    module: str
    name: str
    parameters: tuple[str, ...]
    ours: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    def find(self, module: ModuleType) -> tuple[Any, str, Any]:
        """What holds the name, the last part of the name, and its value.

        Raises:
            AttributeError: verl has no such name any more.
            TypeError: The function has lost a parameter.
        """
        *path, last = self.name.split(".")
        holder = functools.reduce(getattr, path, module)
        value = getattr(holder, last)
        if callable(value):
            lost = [name for name in self.parameters if name not in inspect.signature(value).parameters]
            if lost:
                raise TypeError(f"{self} takes no {' and no '.join(lost)}")
        return holder, last, value

    def bind(self, module: ModuleType) -> None:
        """Wrap or fill it, once."""
        holder, last, value = self.find(module)
        place, _, name = self.ours.partition(":")
        ours = getattr(importlib.import_module(f"{__package__}.{place}"), name)
        if not callable(value):
            ours(value)
        elif not is_bound(value):
            setattr(holder, last, _around(value, ours))


POINTS = (
    Point("verl.utils.config", "validate_config", ("config",), "checking:validate_config"),
    Point("verl.trainer.ppo.core_algos", "ADV_ESTIMATOR_REGISTRY", (), "training:register"),
    Point("verl.trainer.ppo.core_algos", "get_adv_estimator_fn", ("name_or_enum",), "training:get_adv_estimator_fn"),
    Point("verl.trainer.ppo.metric_utils", "compute_data_metrics", ("batch",), "training:compute_data_metrics"),
    Point("verl.trainer.ppo.ray_trainer", "compute_advantage", ("data", "config"), "training:compute_advantage"),
    Point(
        "verl.trainer.ppo.ray_trainer",
        "RayPPOTrainer._compute_old_log_prob",
        ("self", "batch"),
        "training:compute_old_log_prob_v0",
    ),
    Point(
        "verl.trainer.ppo.v1.trainer_base",
        "PPOTrainer._compute_advantage",
        ("self", "batch", "metrics"),
        "training:compute_advantage_v1",
    ),
)
"""Every place that the adapter touches. Modules that a release does not have are never imported, and never bound."""

_MARK = "advantage_zoo"
MODULES = frozenset(point.module for point in POINTS)
problems: dict[Point, str] = {}
"""Points that could not be bound, and why: a run with an estimator of ours stops with these."""


def _around(original: Any, ours: Any) -> Any:
    @functools.wraps(original)
    def bound(*args: Any, **kwargs: Any) -> Any:
        return ours(original, *args, **kwargs)

    return mark(bound)


def mark(function: Any) -> Any:
    """The function, marked as ours."""
    setattr(function, _MARK, True)
    return function


def is_bound(value: Any) -> bool:
    """Whether a function of verl has been wrapped, or is one of ours."""
    return getattr(value, _MARK, False)


def bind_module(module: ModuleType) -> None:
    """Bind every point of a module that has just been imported; what fails is logged and remembered."""
    for point in POINTS:
        if point.module == module.__name__:
            try:
                point.bind(module)
            except Exception as error:
                problems[point] = f"{point} could not be bound ({type(error).__name__}: {error})"
                logger.error("advantage-zoo: %s", problems[point])


def refuse_if_unbound() -> None:
    """Stop a run that a point which moved would spoil.

    Raises:
        RuntimeError: A point could not be bound.
    """
    if problems:
        from importlib.metadata import version

        raise RuntimeError(
            f"advantage-zoo {version('advantage-zoo')} does not fit verl {version('verl')}: "
            f"{'; '.join(problems.values())}. Use a release of verl that docs/adapters/verl.md names."
        )


class _AfterImport(MetaPathFinder):
    """Finds what Python's own finder finds, and binds it once it has been executed."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        spec: ModuleSpec | None = PathFinder.find_spec(fullname, path) if fullname in MODULES else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            bind_module(module)

        spec.loader.exec_module = exec_module
        return spec


def bind() -> None:
    """Bind what verl has imported already, and the rest when it does; calling it again changes nothing."""
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())
        for name in sorted(MODULES & set(sys.modules)):
            bind_module(sys.modules[name])
