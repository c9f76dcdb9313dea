"""verl's configuration: which estimator it asks for, with which parameters."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import advantage_zoo.binding as binding

RENAMED = {"zoo_grpo": "grpo", "zoo_gae": "gae"}
"""Ours of names for which verl never asks its registry (ray_trainer.py:218 and 235)."""

THEIRS = {"discount": "gamma", "lam": "lam"}
"""Parameters that verl has settings for, which hold where the estimator's block does not set them."""


def is_ours(name_or_enum: Any) -> bool:
    """Whether verl's own registry has nothing, or an estimator of ours, under this name."""
    from verl.trainer.ppo import core_algos

    name = getattr(name_or_enum, "value", name_or_enum)
    function = core_algos.ADV_ESTIMATOR_REGISTRY.get(name)
    return function is None or binding.is_ours(function)


def block_of(algorithm: Any, name: str) -> dict[str, Any]:
    """What stands under ``algorithm.<name>``, plain values; empty if nothing does.

    Raises:
        TypeError: It is no block.
    """
    from omegaconf import DictConfig, OmegaConf

    block = algorithm.get(name)
    if isinstance(block, DictConfig):
        block = OmegaConf.to_container(block, resolve=True)
    if block is not None and not isinstance(block, Mapping):
        raise TypeError(
            f"algorithm.{name} is {block!r}; expected a block of settings, as in +algorithm.{name}.KEY=VALUE."
        )
    return {str(key): value for key, value in (block or {}).items()}


def resolve(name: str, algorithm: Any) -> Any:
    """The estimator that ``algorithm.adv_estimator=name`` asks for.

    Raises:
        LookupError: There is none of this name.
        TypeError: A parameter is unknown or of the wrong type.
        ValueError: The spelling or a value cannot be read, or is out of range.
    """
    from advantage_zoo.adapting import from_config
    from advantage_zoo.registry import registry

    which, params = RENAMED.get(name, name), block_of(algorithm, name)
    entry = registry().entries.get(which)
    if entry is not None:
        known = {f.name for f in fields(entry.cls)}
        ruled = {ours: algorithm.get(theirs) for ours, theirs in THEIRS.items() if ours in known}
        params = {key: value for key, value in ruled.items() if value is not None} | params
    try:
        return from_config(which, params, where=f"algorithm.{name}" if entry else "algorithm.adv_estimator")
    except LookupError as error:
        raise LookupError(f"algorithm.adv_estimator={name}: {error.args[0]}") from error
