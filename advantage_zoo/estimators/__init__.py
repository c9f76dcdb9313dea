"""The built-in estimators. To add one: write its file, and add its line here."""

from collections.abc import Callable
from typing import Any

from advantage_zoo.estimator import Estimator
from advantage_zoo.estimators.dapo import DAPO as DAPO
from advantage_zoo.estimators.dr_grpo import DrGRPO as DrGRPO
from advantage_zoo.estimators.ep_grpo import EPGRPO as EPGRPO
from advantage_zoo.estimators.grpo import GRPO as GRPO
from advantage_zoo.hookspecs import hookimpl


@hookimpl
def advantage_zoo_register_estimators(register: Callable[[Any], None]) -> None:
    """Register every estimator imported above: built-ins take the way that plugins take."""
    for value in globals().values():
        if isinstance(value, type) and issubclass(value, Estimator) and value is not Estimator:
            register(value)
