"""verl's configuration: which estimator it asks for, with which parameters."""

from collections.abc import Mapping
from typing import Any

from advantage_zoo import binding
from advantage_zoo.adapting import from_config

RENAMED = {"zoo_grpo": "grpo", "zoo_gae": "gae"}
"""Ours of names for which verl never asks its registry (ray_trainer.py:218 and 235)."""

COLUMNS = {
    "logprobs": "old_log_probs",
    "ref_logprobs": "ref_log_prob",
    "rollout_logprobs": "rollout_log_probs",
    "baseline_rewards": "reward_baselines",
    "entropies": "entropy",
}
"""What verl calls a field; one that is not here has the same name there."""

SETTINGS = {
    "ref_logprobs": "set actor_rollout_ref.actor.use_kl_loss=True (with actor_rollout_ref.actor.kl_loss_coef=0 the "
    "loss stays as it is)",
    "entropies": "set algorithm.rollout_correction.bypass_mode=False; verl computes none in bypass mode",
    "values": "set critic.enable=True",
    "rollout_logprobs": "set actor_rollout_ref.rollout.calculate_log_probs=True",
    "sum_pi_squared": "set trainer.use_v1=False and actor_rollout_ref.actor.calculate_sum_pi_squared=True",
    "reward_components": "set +algorithm.gdpo_reward_keys to the names of rewards that your reward function returns",
    "baseline_rewards": "set algorithm.adv_estimator=remax; verl samples greedy baselines for its own estimator only",
}
"""What to do where a field is missing."""


def is_ours(name_or_enum: Any) -> bool:
    """Whether verl's own registry has nothing, or an estimator of ours, under this name."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    function = ADV_ESTIMATOR_REGISTRY.get(getattr(name_or_enum, "value", name_or_enum))
    return function is None or binding.is_ours(function)


def block_of(algorithm: Any, name: str) -> dict[str, Any]:
    """What stands under ``algorithm.<name>``, plain values; empty if nothing does.

    Raises:
        TypeError: It is no block.
    """
    from omegaconf import OmegaConf

    block = algorithm.get(name)
    block = OmegaConf.to_container(block, resolve=True) if OmegaConf.is_config(block) else block
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
    theirs = {"discount": algorithm.get("gamma"), "lam": algorithm.get("lam")}
    block = block_of(algorithm, name)
    try:
        return from_config(RENAMED.get(name, name), block, where=f"algorithm.{name}", defaults=theirs)
    except LookupError as error:
        raise LookupError(f"algorithm.adv_estimator={name}: {error.args[0]}") from error
