"""The points of OpenRLHF that the adapter relies on, and how they are wrapped once OpenRLHF has been imported.

No Ray hook is needed: Ray ships the class of an actor by value, so that what is wrapped in the driver arrives with it.
The trainer's actors call :func:`install` where they arrive, for the classes that they find there by name. The user's
own ``worker_process_setup_hook`` stays as it is.
"""

import functools
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple


class Point(NamedTuple):
    """A function that OpenRLHF has."""

    module: str
    name: str
    takes: tuple[str, ...]
    """Parameters that it is relied on to have."""
    wrapper: str = ""
    """What wraps it, as module:function of this package; nothing, if it is called or relied on as it stands."""


TRAINER = "openrlhf.trainer.ppo_trainer"
MAKER = "openrlhf.trainer.ppo_utils.experience_maker"
ACTOR = "openrlhf.trainer.ray.ppo_actor"
POINTS = (
    Point(MAKER, "RemoteExperienceMaker._flatten_results", ("refs", "duplicate_factor"), "training:part_entropies"),
    Point(MAKER, "RemoteExperienceMaker.compute_advantages_and_returns", ("experiences",), "training:overwrite"),
    Point(TRAINER, "BasePPOTrainer.train_step", ("rollout_samples", "global_step")),
    Point(TRAINER, "PPOTrainer.train_step", (), "training:count_and_log"),  # Ray made a copy of what it inherits
    Point(TRAINER, "PPOTrainer.__init__", ("strategy",), "patching:install_on_arrival"),
    Point(f"{TRAINER}_async", "TrainingActor.train_step", (), "training:count_and_log"),
    Point(f"{TRAINER}_async", "TrainingActor.__init__", ("strategy",), "patching:install_on_arrival"),
    Point(ACTOR, "PolicyModelActor.forward", ("sequences", "action_mask"), "training:keep_entropies"),
    Point("openrlhf.models.actor", "Actor.forward", ("action_mask", "return_output", "return_entropy")),
)
COMMAND_LINE = "openrlhf.cli"
"""Importing this package, which only the command line does, widens argparse."""
PARSER = (
    Point("argparse", "ArgumentParser.add_argument", (), "arguments:widen"),
    Point("argparse", "ArgumentParser.parse_known_args", ("args", "namespace"), "arguments:resolve_after"),
)


def install() -> None:
    """Wrap the points in modules that are there, and in others as soon as they have been imported. Idempotent."""
    for module in {*(point.module for point in POINTS), COMMAND_LINE}:
        if module in sys.modules:
            wrap(module)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def wrap(module: str) -> None:
    """Wrap the points of a module; one that is not there is left to :func:`missing`, which says so where it matters."""
    for point in PARSER if module == COMMAND_LINE else [p for p in POINTS if p.module == module]:
        class_name, _, method = point.name.partition(".")
        owner = getattr(import_module(point.module), class_name, None)
        if hasattr(owner, "__ray_metadata__"):  # what Ray ships when an actor is made of it
            owner = owner.__ray_metadata__.modified_class  # pyright: ignore[reportOptionalMemberAccess]
        real = getattr(owner, method, None)
        if real is None or not point.wrapper or hasattr(real, "advantage_zoo"):
            continue
        file, _, function = point.wrapper.partition(":")
        wrapper = getattr(import_module(f"advantage_zoo_openrlhf.{file}"), function)
        wrapped: Any = functools.update_wrapper(wrapper(real), real)
        wrapped.advantage_zoo = True
        setattr(owner, method, wrapped)


def install_on_arrival(init: Any) -> Any:
    """``__init__`` of an actor: what was wrapped in the driver is wrapped in the actor's process, too."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it is one
        install()
        init(self, *args, **kwargs)

    return __init__


def missing() -> list[Point]:
    """Points that the installed OpenRLHF does not have; its source is read, nothing of it is executed."""
    return [point for point in POINTS if not set(point.takes) <= _parameters(point)]


def _parameters(point: Point) -> set[str]:
    import ast
    from importlib.util import find_spec
    from pathlib import Path

    root = find_spec(point.module.partition(".")[0])
    places = root.submodule_search_locations if root else None
    file = Path(next(iter(places or [""])), *point.module.split(".")[1:]).with_suffix(".py")
    node: Any = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    for name in point.name.split("."):
        node = next((child for child in node.body if getattr(child, "name", None) == name), ast.Module([], []))
    return {argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]} if hasattr(node, "args") else set()


class _Finder:
    """Finds no module itself; has a point's module wrapped as soon as it has been executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != COMMAND_LINE and not any(point.module == name and point.wrapper for point in POINTS):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            wrap(name)

        spec.loader.exec_module = exec_module
        return spec
