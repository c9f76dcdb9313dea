"""What ``advantage-zoo doctor`` says of verl."""

import os
from importlib.metadata import entry_points

from advantage_zoo.doctor import Finding
from advantage_zoo_verl.points import BINDING

ADVICE = "set VERL_USE_EXTERNAL_MODULES=advantage_zoo_verl"


def examine() -> list[Finding]:
    """verl, whether it loads the plugin, and every point that the adapter binds."""
    return BINDING.examine(_loading)


def _loading(installed: str) -> Finding:
    """Whether verl loads the plugin by itself, in every process."""
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    ours = {point.name for point in entry_points(group="verl.plugins") if point.value == "advantage_zoo_verl"}
    if "advantage_zoo_verl" in os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(","):
        return Finding("plugin", True, "loaded through VERL_USE_EXTERNAL_MODULES")
    if tuple(int(part) for part in installed.split(".")[:2]) < (0, 9):
        why = f"verl {installed} does not look for plugins; {ADVICE}, on every node."
    elif not ours:
        why = f"advantage-zoo's entry point is not installed; install it anew, or {ADVICE}."
    elif policy != "auto" and not ours & {name.strip() for name in policy.split(",")}:
        why = f"VERL_USE_EXTERNAL_PLUGINS={policy} leaves it out; add {', '.join(ours)}, or {ADVICE}."
    else:
        return Finding("plugin", True, "loaded through the entry point in verl.plugins")
    return Finding("plugin", False, why)
