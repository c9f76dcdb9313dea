"""What is settled before the first step: the estimator, and which of TRL's settings go with it."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from accelerate.utils import is_peft_model
from torch import nn
from trl import GRPOConfig
from trl.trainer.utils import get_config_model_id

from advantage_zoo import Estimator
from advantage_zoo.adapting import from_config
from advantage_zoo.batch import OPTIONAL_FIELDS

SCORES = frozenset({"logprobs", "entropies", "ref_logprobs"})
"""Fields that a forward pass brings."""

TRLS_OWN = {"group": "grpo@trl", "batch": "lite_ppo@trl", "none": "dr_grpo@trl"}
"""What TRL itself computes, by ``scale_rewards``."""

ABSENT = {
    "baseline_rewards": "the reward of a greedy response, and TRL samples every one; rloo has a baseline without it",
    "values": "a critic's values, and GRPOTrainer has no critic",
    "token_rewards": "a reward a token, and TRL's reward functions give one a response",
}
"""Why TRL cannot supply a field."""


def settle(which: str | Estimator, given: Mapping[str, Any] | None, args: GRPOConfig) -> Estimator:
    """The estimator, refused if TRL cannot give it what it needs; ``reward_weights`` become the weights of GDPO.

    Raises:
        LookupError: A name is no estimator's.
        TypeError: A parameter is unknown.
        ValueError: A parameter is out of range, or a field is needed that TRL does not have.
    """
    estimator = from_config(which, given, where="estimator_args")  # pyright: ignore[reportArgumentType]
    for name in sorted((estimator.needs & set(OPTIONAL_FIELDS)) - SCORES - {"reward_components"}):
        raise ValueError(
            f"advantage_estimator: {estimator.name} needs {name}, {ABSENT[name]}. Choose another estimator."
        )
    if "reward_components" not in estimator.needs or set(args.reward_weights or [1]) <= {1}:
        return estimator
    weights = tuple(float(weight) for weight in args.reward_weights or ())
    if vars(estimator).get("weights") == ():
        return replace(estimator, weights=weights)  # pyright: ignore[reportCallIssue]
    if vars(estimator).get("weights") == weights:
        return estimator
    raise ValueError(
        f"reward_weights is {args.reward_weights}, and {estimator} weighs the reward functions itself; leave "
        "reward_weights unset, and write the weights into the estimator, as in gdpo(weights=[2, 1])."
    )


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """What GRPOTrainer was given, with ``args`` as TRL makes them if there are none."""
    if given.get("args") is not None:
        return dict(given)
    model = given["model"]
    origin = model if isinstance(model, str) else get_config_model_id(model.config)
    return {**given, "args": GRPOConfig(f"{origin.split('/')[-1]}-GRPO")}


def check_origin(estimator: Estimator, given: Mapping[str, Any]) -> None:
    """Refuse a policy made in memory, where the reference would have to be loaded from where it came from.

    Raises:
        ValueError: It is such a policy, and the estimator needs a reference.
    """
    model = given["model"]
    if "ref_logprobs" not in estimator.needs or isinstance(model, str) or given.get("peft_config") is not None:
        return
    if not is_peft_model(model) and not get_config_model_id(model.config):
        raise ValueError(
            f"advantage_estimator: {estimator.name} needs ref_logprobs, and TRL loads the reference from where the "
            "model came from, but model.config._name_or_path is ''; save the model and load it with from_pretrained, "
            "or give its path."
        )


def say_what_has_no_effect(estimator: Estimator, args: GRPOConfig) -> None:
    """Warn of settings of TRL's own advantages, which the estimator replaces."""
    summed = args.multi_objective_aggregation == "sum_then_normalize"
    own = TRLS_OWN[args.scale_rewards] if summed else "gdpo@trl"
    changed = [f'scale_rewards="{args.scale_rewards}"'] if args.scale_rewards != "group" else []
    changed += [] if summed else [f'multi_objective_aggregation="{args.multi_objective_aggregation}"']
    if changed and estimator.name != own:
        warnings.warn(
            f"{' and '.join(changed)} have no effect: {estimator.name} takes the place of TRL's advantages, which are "
            f'{own} with these settings. Leave them unset, or choose advantage_estimator="{own}".',
            stacklevel=3,
        )


def warn_of_dropout(estimator: Estimator, model: nn.Module, args: GRPOConfig) -> None:
    """Warn if dropout would make noise of the difference between policy and reference."""
    active = [name for name, part in model.named_modules() if isinstance(part, nn.Dropout) and part.p > 0]
    if "ref_logprobs" in estimator.needs and active and not args.disable_dropout:
        warnings.warn(
            f"{len(active)} modules of the policy have dropout ({active[0]} is the first), and TRL scores the policy "
            f"with it: {estimator.name} would take that noise for a difference from the reference. Set "
            "disable_dropout=True.",
            stacklevel=3,
        )
