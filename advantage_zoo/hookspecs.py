"""The plugin interface: what a package implements to add estimators.

# acme/__init__.py
from advantage_zoo import hookimpl

@hookimpl
def advantage_zoo_register_estimators(register):
    register(MyEstimator)

# acme's pyproject.toml
[project.entry-points.advantage_zoo]
acme = "acme"
"""

from collections.abc import Callable
from typing import Any

import pluggy

PROJECT = "advantage_zoo"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def advantage_zoo_register_estimators(register: Callable[[Any], None]) -> None:
    """Call ``register`` with each :class:`advantage_zoo.Estimator` subclass that the plugin offers.

    It is called once, at the first look-up of a name, never at import.
    """
