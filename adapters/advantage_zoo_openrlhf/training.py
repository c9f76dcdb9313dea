"""What is wrapped while OpenRLHF trains: where old log-probabilities, advantages and logs are made.

Notation: B sequences, A token slots after the first. OpenRLHF's masks, log-probabilities and entropies are (B, A),
aligned with ``sequences[:, 1:]``: the prompt included, not masked in, padded on the right in each micro-batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from advantage_zoo import RolloutBatch, validate
from advantage_zoo.adapting import make_batch, replaced
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
    score = actor.forward

    def score_both(*args: Any, **kwargs: Any) -> torch.Tensor:
        logprobs, output = score(*args, **kwargs, return_output=True, return_entropy=True)
        return torch.stack([logprobs, output.entropy[:, -logprobs.shape[1] :].to(logprobs.dtype)])

    with replaced(actor, forward=score_both):
        return forward(policy, *args, **kwargs)


def part_entropies(flatten: Any, maker: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """``RemoteExperienceMaker._flatten_results``: hands on the log-probabilities and keeps the entropies."""
    results = flatten(maker, *args, **kwargs)
    if not results or getattr(results[0], "ndim", 0) != 3:
        return results
    maker.zoo_entropies = joined([entropies for _, entropies in results])
    return [logprobs for logprobs, _ in results]


def overwrite(compute: Any, maker: Any, experiences: list[Any]) -> list[Any]:
    """``RemoteExperienceMaker.compute_advantages_and_returns``: OpenRLHF shapes the rewards, the zoo estimates."""
    run = getattr(maker.strategy.args, "zoo", None)
    if run is None:  # it has one of OpenRLHF's own
        return compute(maker, experiences)
    if run.filtering and any(experience.scores is None for experience in experiences):
        raise ValueError(
            f"{run.filtering} kept every prompt, as responses came without `scores`; have the executor return them."
        )
    penalty = joined([experience.kl for experience in experiences]) * max(maker.kl_ctl.value, 0.0)  # kl is dropped
    with replaced(maker, advantage_estimator=STAND_IN):
        experiences = compute(maker, experiences)
    with TRAINING.timed():
        batch = to_batch(experiences, run, vars(maker).pop("zoo_entropies", None), penalty)
        validate(batch)  # each time: the batch is on the CPU
        step = getattr(maker, "zoo_step", None)
        values = TRAINING.estimate(batch, run.estimator, name=run.estimator.name, step=step).values
    for row, token in (~values.isfinite()).nonzero()[:1].tolist():  # masked out or not, it makes the whole loss NaN
        raise ValueError(
            f"{run.estimator} gave row {row}, column {token} an advantage that is not finite; is it a plugin's?"
        )
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
    TRAINING.flush()  # Ray may end this process without notice
    return status | TRAINING.metrics(), following


def to_batch(experiences: Sequence[Any], run: Run, entropies: Any, penalty: torch.Tensor) -> RolloutBatch:
    """The experiences of a rollout as one batch, float32.

    Args:
        experiences: OpenRLHF's, each of its own width, in any order: ``index`` is the place in the order of prompts.
        run: Its estimator may ask for a field that OpenRLHF does not have. It is looked for in ``info``, where the
            reward function's ``extra_logs`` arrive, one number a response.
        entropies: (B, A), or ``None``.
        penalty: (B, A) what OpenRLHF takes off each token's reward, nothing if the KL divergence is in the loss.
    """
    mask = joined([experience.action_mask for experience in experiences]) != 0
    rewards = joined([experience.rewards for experience in experiences]).float()
    last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)
    others = (run.estimator.needs | run.estimator.uses) - set(TOKEN_FIELDS)
    fields = {name: joined([experience.info.get(name) for experience in experiences]) for name in others}
    fields["logprobs"] = joined([experience.action_log_probs for experience in experiences])
    fields["ref_logprobs"] = joined([experience.base_action_log_probs for experience in experiences])
    fields["entropies"] = entropies
    fields["token_rewards"] = torch.where(last, rewards[:, None], 0.0) - penalty
    there = {name: x.float() for name, x in fields.items() if x is not None}
    groups = torch.tensor([place // run.group_size for experience in experiences for place in experience.index])
    return make_batch(there, rewards=rewards, response_mask=mask, group_ids=groups, num_groups=int(groups.max()) + 1)


def joined(parts: Sequence[Any]) -> Any:
    """(B,) or (B, A) of all experiences, padded on the right; ``None`` if one of them has none."""
    if any(part is None for part in parts):
        return None
    rows = [row for part in parts for row in part]
    return pad_sequence(rows, batch_first=True) if rows[0].ndim else torch.stack(rows)


def dump(batch: RolloutBatch, experiences: Sequence[Any], run: Run, maker: Any) -> None:
    """Hand the step's rollouts to the writer, tool output included, which comes after the first token of a response."""
    ids = joined([experience.sequences[:, 1:] for experience in experiences])
    attended = joined([experience.attention_mask[:, 1:] for experience in experiences]) != 0
    responses = Tokens(ids, attended & (batch.response_mask.cumsum(1) > 0))
    prompts = [prompt for experience in experiences for prompt in experience.prompts]
    TRAINING.dump(run.dump, maker.tokenizer).write(batch, step=maker.zoo_step, prompts=prompts, responses=responses)
