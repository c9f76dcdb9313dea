"""What ``advantage-zoo doctor`` says of verl."""

import importlib
import os
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec

from advantage_zoo.doctor import Finding
from advantage_zoo_verl import binding

TESTED = ("0.9.1", "0.8.0", "0.7.1")
"""The releases of verl that the tests run."""


def examine() -> list[Finding]:
    """verl, whether it loads the plugin, and every point that the adapter binds."""
    try:
        installed = version("verl")
    except PackageNotFoundError:
        return [Finding("verl", True, "not installed")]
    tested = f"tested with {', '.join(TESTED)}"
    findings = [Finding("verl", True, f"{installed} ({tested})")]
    try:
        importlib.import_module("verl")
    except Exception as error:
        return [*findings, Finding("import verl", False, f"failed ({type(error).__name__}: {error}); mend verl first.")]
    return [*findings, _loading(installed), *map(_bound, binding.POINTS)]


def _loading(installed: str) -> Finding:
    """Whether verl loads the plugin by itself, in every process."""
    named = "advantage_zoo_verl" in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",")
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    ours = [point.name for point in entry_points(group="verl.plugins") if point.value == "advantage_zoo_verl"]
    discovers = tuple(int(part) for part in installed.split(".")[:2]) >= (0, 9)
    allowed = policy == "auto" or bool(set(ours) & {name.strip() for name in policy.split(",")})
    if named or (discovers and ours and allowed):
        how = "VERL_USE_EXTERNAL_MODULES" if named else "the entry point in verl.plugins"
        return Finding("plugin", True, f"loaded through {how}")
    advice = "set VERL_USE_EXTERNAL_MODULES=advantage_zoo_verl"
    if discovers and ours:
        return Finding(
            "plugin", False, f"VERL_USE_EXTERNAL_PLUGINS={policy} leaves it out; add {ours[0]}, or {advice}."
        )
    if discovers:
        return Finding("plugin", False, f"advantage-zoo's entry point is not installed; install it anew, or {advice}.")
    return Finding("plugin", False, f"verl {installed} does not look for plugins; {advice}, on every node.")


def _bound(point: binding.Point) -> Finding:
    try:
        if find_spec(point.module) is None:
            return Finding(str(point), True, "not in this release")
    except ModuleNotFoundError:
        return Finding(str(point), True, "not in this release")
    try:
        module = importlib.import_module(point.module)
        _, _, value = point.find(module)
    except Exception as error:
        wrong = binding.problems.get(point, f"{type(error).__name__}: {error}")
        return Finding(str(point), False, f"{wrong}; install what verl needs, or a release of verl that is tested.")
    if point in binding.problems:
        return Finding(str(point), False, binding.problems[point])
    here = value.get("ep_grpo") if isinstance(value, dict) else value
    if not binding.is_bound(here):
        return Finding(str(point), False, "not bound in this process; see the plugin's line above.")
    return Finding(str(point), True, "as expected, and bound")
