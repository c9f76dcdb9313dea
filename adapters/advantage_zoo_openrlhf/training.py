"""What is wrapped while OpenRLHF trains: where old log-probabilities, advantages and logs are made.

Notation: B sequences, A token slots after the first. OpenRLHF's masks, log-probabilities and entropies are (B, A),
aligned with ``sequences[:, 1:]``: the prompt included, not masked in, padded on the right in each micro-batch.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch

from advantage_zoo import Advantages, Estimator, RolloutBatch, compute_advantages, validate
from advantage_zoo.adapting import scalars
from advantage_zoo.batch import OPTIONAL_FIELDS, TOKEN_FIELDS
from advantage_zoo_openrlhf.flags import ESTIMATOR, Flags

STAND_IN = "reinforce"
"""OpenRLHF's estimator under whose name it shapes the rewards, before its advantages are overwritten: the one without a
baseline, so that its metric ``return`` is the reward with the penalties."""


class Scored(NamedTuple):
    """What the policy's forward pass returns if entropies are wanted; both (B, A), nats."""

    logprobs: torch.Tensor
    entropies: torch.Tensor


def chosen(args: Any) -> Estimator | None:
    """The zoo's estimator, which the command line put there; None if the run has one of OpenRLHF's own."""
    return getattr(args, "zoo", None)


class _Asked:
    """OpenRLHF's ``Actor``, asked for entropies where it is called for log-probabilities."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.actor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        logprobs, output = self.actor(*args, **kwargs, return_output=True, return_entropy=True)
        self.entropies = output.entropy[:, -logprobs.shape[1] :].float().cpu()
        return logprobs


def keep_entropies(forward: Any, policy: Any, *args: Any, **kwargs: Any) -> torch.Tensor | Scored:
    """``PolicyModelActor.forward``: the pass that gives the old log-probabilities gives the entropies, too."""
    estimator = chosen(policy.strategy.args)
    if estimator is None or "entropies" not in estimator.needs | estimator.uses:
        return forward(policy, *args, **kwargs)
    actor, asked = policy.actor, _Asked(policy.actor)
    try:
        policy.actor = asked
        logprobs = forward(policy, *args, **kwargs)
    finally:
        policy.actor = actor
    return Scored(logprobs, asked.entropies)


def part_entropies(flatten: Any, maker: Any, refs: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """``RemoteExperienceMaker._flatten_results``: hands on the log-probabilities and keeps the entropies."""
    results = flatten(maker, refs, *args, **kwargs)
    if not results or not isinstance(results[0], Scored):
        return results
    maker.zoo_entropies = [result.entropies for result in results]
    return [result.logprobs for result in results]


def overwrite(compute: Any, maker: Any, experiences: list[Any]) -> list[Any]:
    """``RemoteExperienceMaker.compute_advantages_and_returns``: OpenRLHF shapes the rewards, the zoo estimates."""
    estimator, flags = chosen(maker.strategy.args), Flags(maker.strategy.args)
    if estimator is None:
        return compute(maker, experiences)
    if flags["algo.dynamic_filtering_enable"] and any(experience.scores is None for experience in experiences):
        raise ValueError(
            f"--{flags.name('algo.dynamic_filtering_enable')} kept every prompt, as responses came without `scores`; "
            "have the executor return them."
        )
    kl_rewards = [experience.kl * -max(maker.kl_ctl.value, 0.0) for experience in experiences]  # OpenRLHF drops kl
    asked = flags[ESTIMATOR]
    try:
        flags[ESTIMATOR] = maker.advantage_estimator = STAND_IN
        experiences = compute(maker, experiences)
    finally:
        flags[ESTIMATOR] = maker.advantage_estimator = asked
    entropies = maker.__dict__.pop("zoo_entropies", None)
    group_size = flags["rollout.n_samples_per_prompt"]
    batch = to_batch(experiences, estimator.needs | estimator.uses, group_size, entropies, kl_rewards)
    advantages = estimate(batch, estimator, getattr(maker, "zoo_step", None))
    maker.zoo_scalars = scalars(advantages, "zoo")
    sizes = [len(experience.index) for experience in experiences]
    for experience, rows in zip(experiences, advantages.values.split(sizes), strict=True):
        experience.advantages = rows[:, : experience.action_mask.shape[1]].contiguous()
        experience.returns = experience.advantages.clone()
    return experiences


def count_and_log(step: Any, trainer: Any, rollout_samples: Any, global_step: int) -> tuple[dict[str, Any], int]:
    """``BasePPOTrainer.train_step``: tells the experience maker the step; its diagnostics go to OpenRLHF's loggers."""
    trainer.experience_maker.zoo_step = global_step
    status, following = step(trainer, rollout_samples, global_step)
    found = getattr(trainer.experience_maker, "zoo_scalars", {})
    return status | {key: value.item() for key, value in found.items()}, following


def estimate(batch: RolloutBatch, estimator: Estimator, step: int | None) -> Advantages:
    """Advantages that are finite everywhere: a NaN, masked out or not, would make OpenRLHF's whole loss NaN."""
    validate(batch)  # each time: the batch is on the CPU
    advantages = compute_advantages(batch, estimator, step=step)
    broken = ~torch.isfinite(advantages.values)
    if bool(broken.any()):
        row, token = broken.nonzero()[0].tolist()
        raise ValueError(
            f"{estimator} gave row {row}, column {token} an advantage that is not finite; is it a plugin's?"
        )
    return advantages


def to_batch(
    experiences: Sequence[Any],
    wanted: Collection[str],
    group_size: int,
    entropies: Sequence[torch.Tensor] | None,
    kl_rewards: Sequence[torch.Tensor],
) -> RolloutBatch:
    """The experiences of a rollout as one batch.

    Args:
        experiences: OpenRLHF's, each of its own width, in any order: ``index`` is the place in the order of prompts.
        wanted: Fields that the estimator asks for. One that OpenRLHF does not have is looked for in ``info``, where the
            reward function's ``extra_logs`` arrive, one number a response.
        group_size: Responses to a prompt.
        entropies: (B, A) for each experience.
        kl_rewards: (B, A) the KL penalty's part of each token's reward, for each experience; 0 if it is in the loss.
    """
    width = max(experience.action_mask.shape[1] for experience in experiences)

    def rows(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([torch.nn.functional.pad(part.float(), (0, width - part.shape[1])) for part in parts])

    mask = rows([experience.action_mask for experience in experiences]) != 0
    rewards = torch.cat([experience.rewards for experience in experiences]).float()
    outcome = torch.where(mask & (mask.flip(1).cumsum(1).flip(1) == 1), rewards[:, None], 0.0)
    parts = {
        "logprobs": [experience.action_log_probs for experience in experiences],
        "ref_logprobs": [experience.base_action_log_probs for experience in experiences],
        "entropies": entropies or [None],
    }
    fields = {name: rows(x) for name, x in parts.items() if name in wanted and x[0] is not None}
    if "token_rewards" in wanted:
        fields["token_rewards"] = outcome + rows(kl_rewards)
    numbers = {name: _numbers(experiences, name) for name in set(wanted) - set(TOKEN_FIELDS)}
    groups = [place // group_size for experience in experiences for place in experience.index]
    return RolloutBatch(
        rewards=rewards,
        response_mask=mask,
        group_ids=torch.tensor(groups),
        num_groups=max(groups) + 1,
        **fields,
        **{name: x for name, x in numbers.items() if name in OPTIONAL_FIELDS},
        extras={name: x for name, x in numbers.items() if name not in OPTIONAL_FIELDS and x is not None},
    )


def _numbers(experiences: Sequence[Any], name: str) -> torch.Tensor | None:
    """(B,) what the reward function logs under ``name``."""
    found = [experience.info.get(name) for experience in experiences]
    return None if any(part is None for part in found) else torch.cat([torch.as_tensor(part).float() for part in found])
