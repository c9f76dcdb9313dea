"""What ``advantage-zoo doctor`` says of verl."""

import importlib
import os
from importlib.metadata import PackageNotFoundError, entry_points, version

from advantage_zoo.doctor import Finding
from advantage_zoo_verl.points import BINDING


def examine() -> list[Finding]:
    """verl, whether it loads the plugin, and every point that the adapter binds."""
    try:
        installed = version("verl")
    except PackageNotFoundError:
        return [Finding("verl", True, "not installed")]
    findings = [Finding("verl", True, f"{installed} (tested: {', '.join(BINDING.tested)})")]
    try:
        importlib.import_module("verl")
    except Exception as error:
        return [*findings, Finding("import verl", False, f"failed ({type(error).__name__}: {error}); mend verl first.")]
    return [*findings, _loading(installed), *BINDING.findings()]


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
