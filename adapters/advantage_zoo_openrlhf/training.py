"""What is wrapped while OpenRLHF trains: where old log-probabilities, advantages and logs are made.

Notation: B sequences, A token slots after the first. OpenRLHF's masks, log-probabilities and entropies are (B, A),
aligned with ``sequences[:, 1:]``: the prompt included, not masked in, padded on the right in each micro-batch.
"""

from collections.abc import Sequence
from typing import Any

import torch

from advantage_zoo import RolloutBatch, validate
from advantage_zoo.adapting import make_batch
from advantage_zoo.batch import TOKEN_FIELDS
from advantage_zoo.rollouts import Tokens
from advantage_zoo.training import Training
from advantage_zoo_openrlhf.points import Run

TRAINING = Training("openrlhf", timing="advantage/seconds")  # OpenRLHF adds up timing/..., of which this is a part
STAND_IN = "reinforce"
"""OpenRLHF's estimator that stands in until its advantages are overwritten: the one without a baseline, so that its
metric ``return`` is the reward with the penalties."""


def add_entropies(forward: Any, policy: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``PolicyModelActor.forward``: the pass of the old log-probabilities (B, A) gives (2, B, A), entropies, too."""
    run, actor = getattr(policy.strategy.args, "zoo", None), policy.actor
    if run is None or "entropies" not in run.estimator.needs | run.estimator.uses:
        return forward(policy, *args, **kwargs)

    def ask(_: Any, args: Any, kwargs: Any) -> Any:
        return args, kwargs | {"return_output": True, "return_entropy": True}

    def answer(_: Any, args: Any, result: Any) -> torch.Tensor:
        logprobs, output = result
        return torch.stack([logprobs, output.entropy[:, -logprobs.shape[1] :].to(logprobs.dtype)])

    hooks = actor.register_forward_pre_hook(ask, with_kwargs=True), actor.register_forward_hook(answer)
    try:
        return forward(policy, *args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()


def part_entropies(flatten: Any, maker: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """``RemoteExperienceMaker._flatten_results``: hands on the log-probabilities and keeps the entropies."""
    results = flatten(maker, *args, **kwargs)
    if not results or getattr(results[0], "ndim", 0) != 3:
        return results
    maker.zoo_entropies = [entropies for _, entropies in results]
    return [logprobs for logprobs, _ in results]


def overwrite(compute: Any, maker: Any, experiences: list[Any]) -> list[Any]:
    """``RemoteExperienceMaker.compute_advantages_and_returns``: OpenRLHF shapes the rewards, the zoo estimates."""
    run, named = getattr(maker.strategy.args, "zoo", None), maker.advantage_estimator
    if run is None:  # it has one of OpenRLHF's own
        return compute(maker, experiences)
    if run.filtering and any(experience.scores is None for experience in experiences):
        raise ValueError(
            f"{run.filtering} kept every prompt, as responses came without `scores`; have the executor return them."
        )
    kl_rewards = [experience.kl * -max(maker.kl_ctl.value, 0.0) for experience in experiences]  # OpenRLHF drops kl
    maker.advantage_estimator = STAND_IN
    try:
        experiences = compute(maker, experiences)
    finally:
        maker.advantage_estimator = named
    entropies = maker.__dict__.pop("zoo_entropies", None)
    with TRAINING.timed():
        batch = to_batch(experiences, run, entropies, kl_rewards)
        values = estimate(batch, run, getattr(maker, "zoo_step", None))
    if run.dump:
        with TRAINING.timed("_dump"):
            dump(batch, experiences, run, maker)
    parts = values.split([len(experience.index) for experience in experiences])
    for experience, part in zip(experiences, parts, strict=True):
        experience.advantages = part[:, : experience.action_mask.shape[1]].contiguous()
        experience.returns = experience.advantages.clone()
    return experiences


def count_and_log(step: Any, trainer: Any, rollout_samples: Any, global_step: int) -> tuple[dict[str, Any], int]:
    """``BasePPOTrainer.train_step``: tells the experience maker the step; what we log goes to OpenRLHF's loggers."""
    trainer.experience_maker.zoo_step = global_step
    status, following = step(trainer, rollout_samples, global_step)
    return status | TRAINING.metrics(), following


def estimate(batch: RolloutBatch, run: Run, step: int | None) -> torch.Tensor:
    """Advantages (B, A) that are finite everywhere: a NaN, masked out or not, would make OpenRLHF's whole loss NaN."""
    validate(batch)  # each time: the batch is on the CPU
    values = TRAINING.estimate(batch, run.estimator, name=run.estimator.name, step=step).values
    for row, token in (~values.isfinite()).nonzero()[:1].tolist():
        raise ValueError(
            f"{run.estimator} gave row {row}, column {token} an advantage that is not finite; is it a plugin's?"
        )
    return values


def to_batch(
    experiences: Sequence[Any], run: Run, entropies: Sequence[torch.Tensor] | None, kl_rewards: Sequence[torch.Tensor]
) -> RolloutBatch:
    """The experiences of a rollout as one batch.

    Args:
        experiences: OpenRLHF's, each of its own width, in any order: ``index`` is the place in the order of prompts.
        run: Its estimator may ask for a field that OpenRLHF does not have. It is looked for in ``info``, where the
            reward function's ``extra_logs`` arrive, one number a response.
        entropies: (B, A) for each experience.
        kl_rewards: (B, A) the KL penalty's part of each token's reward, for each experience; 0 if it is in the loss.
    """
    mask = rows([experience.action_mask for experience in experiences]) != 0
    rewards = torch.cat([experience.rewards for experience in experiences]).float()
    last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)
    signals = {
        "logprobs": [experience.action_log_probs for experience in experiences],
        "ref_logprobs": [experience.base_action_log_probs for experience in experiences],
        "entropies": entropies or [None],
    }
    fields = {name: None if parts[0] is None else rows(parts).float() for name, parts in signals.items()}
    fields["token_rewards"] = torch.where(last, rewards[:, None], 0.0) + rows(kl_rewards).float()
    others = (run.estimator.needs | run.estimator.uses) - set(TOKEN_FIELDS)
    groups = torch.tensor([place // run.group_size for experience in experiences for place in experience.index])
    fields |= {name: _numbers(experiences, name) for name in others}
    return make_batch(fields, rewards=rewards, response_mask=mask, group_ids=groups, num_groups=int(groups.max()) + 1)


def rows(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """(B, A) of all experiences, as wide as the widest."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])


def _numbers(experiences: Sequence[Any], name: str) -> torch.Tensor | None:
    """(B,) what the reward function logs under ``name``."""
    found = [experience.info.get(name) for experience in experiences]
    return None if any(part is None for part in found) else torch.cat([torch.as_tensor(part).float() for part in found])


def dump(batch: RolloutBatch, experiences: Sequence[Any], run: Run, maker: Any) -> None:
    """Hand the step's rollouts to the writer, tool output included, which comes after the first token of a response."""
    attended = rows([experience.attention_mask[:, 1:] for experience in experiences]) != 0
    ids = rows([experience.sequences[:, 1:] for experience in experiences])
    prompts = [prompt for experience in experiences for prompt in experience.prompts]
    responses = Tokens(ids, attended & (batch.response_mask.cumsum(1) > 0))
    TRAINING.dump(run.dump, maker.tokenizer).write(batch, step=maker.zoo_step, prompts=prompts, responses=responses)
