"""The check before any model is loaded: every input of the estimator will be there, every setting has an effect."""

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any

from advantage_zoo.adapting import lacking, lonely, refuse
from advantage_zoo.parameters import parameters_of
from advantage_zoo.registry import registry
from advantage_zoo_verl.points import BINDING
from advantage_zoo_verl.settings import SETTINGS, block_of, is_ours, resolve


def validate_config(original: Callable[..., None], config: Any, *args: Any, **kwargs: Any) -> None:
    """After verl's own check, refuse what an estimator of ours would fail on later, or not hear of.

    Args:
        original: verl's check, which returns nothing.
        config: verl's whole configuration.
        *args: As verl's takes them.
        **kwargs: Likewise.

    Raises:
        LookupError: No estimator has this name.
        TypeError: A parameter is unknown or of the wrong type.
        ValueError: Inputs are missing or a setting would be lost; a sentence for each, which names what to set.
        RuntimeError: This release of verl is not as expected.
    """
    original(config, *args, **kwargs)
    name = config.algorithm.adv_estimator
    if not isinstance(name, str):
        raise TypeError(f"algorithm.adv_estimator is {name}; expected a name or a spelling, such as ep_grpo.")
    if not is_ours(name):
        from verl.trainer.ppo.core_algos import AdvantageEstimator

        unread = {name, "zoo"} & set(config.algorithm) if name in list(AdvantageEstimator) else ()
        for key in sorted(unread):
            raise ValueError(
                f"algorithm.{key} is not read, as algorithm.adv_estimator={name} is verl's own estimator; take it out, "
                f"or ask for ours with parentheses, algorithm.adv_estimator='{name}()'."
            )
        return
    BINDING.refuse_if_unbound()
    try:
        estimator = resolve(name, config.algorithm)
    except LookupError:
        if config.actor_rollout_ref.model.get("external_lib"):
            return  # which may register this very name with verl, in the process that trains
        raise
    refuse([*_missing(estimator, config), *_lost(name, estimator, config)], f"algorithm.adv_estimator={name}: ")


def _missing(estimator: Any, config: Any) -> Iterator[str]:
    actor, rollout, algorithm = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.algorithm
    legacy = not config.trainer.get("use_v1", False)
    bypass = (algorithm.get("rollout_correction") or {}).get("bypass_mode", False)
    components = algorithm.get("gdpo_reward_keys") or []
    there = {
        "ref_logprobs": algorithm.get("use_kl_in_reward", False) or actor.use_kl_loss,
        "entropies": not bypass,
        "values": config.critic.get("enable"),
        "rollout_logprobs": rollout.get("calculate_log_probs", False),
        "sum_pi_squared": legacy and actor.get("calculate_sum_pi_squared", False),
        "reward_components": components,
        "baseline_rewards": False,
    }
    yield from lacking(estimator, [name for name, given in there.items() if not given], SETTINGS)
    if legacy and bypass and (estimator.scheduled() or block_of(algorithm, "zoo")):
        yield "The legacy trainer does not tell its step in bypass mode; set trainer.use_v1=True."
    yield from lonely(estimator, "actor_rollout_ref.rollout.n", rollout.n, components=len(components) or 1)


def _lost(name: str, estimator: Any, config: Any) -> Iterator[str]:
    """Settings that the estimator would not hear of."""
    from verl.trainer.config import AlgoConfig

    algorithm, others = config.algorithm, registry().entries.keys() - {name}
    if not algorithm.get("norm_adv_by_std_in_grpo", True) and "dr_grpo" not in estimator.name:
        yield (
            "algorithm.norm_adv_by_std_in_grpo=False is for verl's own grpo alone; set it to True, or use "
            "algorithm.adv_estimator=dr_grpo."
        )
    if "reward_components" in estimator.needs and isinstance(algorithm.get("gdpo_reward_keys"), str):
        keys = algorithm.gdpo_reward_keys
        yield f"algorithm.gdpo_reward_keys is {keys!r}; expected a list of names, as in [{keys}]."
    for key in block_of(algorithm, "zoo").keys() - {"dump_rollouts"}:
        yield f"algorithm.zoo.{key} is no setting; there is algorithm.zoo.dump_rollouts."
    words = {part: word for word in re.split(r"[ |(),]+", name) for part in (word, *re.split("[@:]|^zoo_", word))}
    for key in sorted(set(algorithm) - {name, "zoo", "_target_"} - vars(AlgoConfig()).keys()):
        meant = [key] if key in others else difflib.get_close_matches(key.lower(), words, n=1, cutoff=0.75)
        if key in parameters_of(type(estimator)):
            yield f"algorithm.{key} is no setting of verl's; write +algorithm.{name}.{key}={algorithm[key]}."
        elif words.keys() & set(meant):
            place = f"algorithm.{name}" if name.isidentifier() else f"the name, as {words[meant[0]]}(key=value)"
            yield f"algorithm.{key} is not read; the parameters of {name} stand in {place}."
