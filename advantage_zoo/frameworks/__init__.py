"""Estimators as frameworks compute them, called ``name@framework``.

A file a framework; to add one, write it and add it to ``MODULES``.
"""

from collections.abc import Callable
from typing import Any

from advantage_zoo.frameworks import ms_swift, nemo_rl, openrlhf, paper, rllm, skyrl, trl, verl
from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.hookspecs import hookimpl

MODULES = (ms_swift, nemo_rl, openrlhf, paper, rllm, skyrl, trl, verl)


@hookimpl
def advantage_zoo_register_estimators(register: Callable[[Any], None]) -> None:
    """Register every preset of the modules above."""
    for module in MODULES:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Preset) and value.__module__ == module.__name__:
                register(value)
