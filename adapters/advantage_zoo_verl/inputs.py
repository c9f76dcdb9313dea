"""verl's tensors as a RolloutBatch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

import advantage_zoo as az
from advantage_zoo.batch import OPTIONAL_FIELDS

COLUMNS = {
    "logprobs": "old_log_probs",
    "ref_logprobs": "ref_log_prob",
    "rollout_logprobs": "rollout_log_probs",
    "baseline_rewards": "reward_baselines",
    "entropies": "entropy",
}
"""What verl calls a field; one that is not here has the same name there."""

MADE = frozenset({"token_rewards", "reward_components"})
"""Fields that are made of several columns, or of one that verl hands over itself."""

SETTINGS = {
    "ref_logprobs": "actor_rollout_ref.actor.use_kl_loss=True (with actor_rollout_ref.actor.kl_loss_coef=0 the loss "
    "stays as it is)",
    "entropies": "algorithm.rollout_correction.bypass_mode=False, for verl computes no entropies in bypass mode",
    "values": "critic.enable=True",
    "rollout_logprobs": "actor_rollout_ref.rollout.calculate_log_probs=True",
    "sum_pi_squared": "trainer.use_v1=False and actor_rollout_ref.actor.calculate_sum_pi_squared=True, for the default "
    "trainer does not compute it",
    "reward_components": "+algorithm.gdpo_reward_keys to the names of the rewards in what your reward function returns",
    "baseline_rewards": "algorithm.adv_estimator=remax, for verl samples greedy baselines for its own estimator only",
}
"""What to set where a field is missing."""


def lacking(estimator: az.Estimator, name: str) -> str:
    """The sentence about a field that is needed and not there."""
    advice = f"set {SETTINGS[name]}" if name in SETTINGS else "verl's batch has no column of this name"
    return f"{estimator.name} needs {name}: {advice}."


@dataclass(frozen=True)
class Source:
    """What is at hand while verl computes advantages.

    Args:
        trainer: verl's trainer; the legacy one is unknown in bypass mode.
        rows: The default trainer's KVBatchMeta: the keys of its rows in the TransferQueue.
        data: The DataProto that ``compute_advantage`` was given.
        algorithm: The settings under ``algorithm``.
    """

    trainer: Any = None
    rows: Any = None
    data: Any = None
    algorithm: Any = None

    @property
    def step(self) -> int | None:
        """The trainer's step, counted from 0."""
        return None if self.trainer is None else self.trainer.global_steps - 1

    def columns(self, names: Iterable[str]) -> dict[str, Any]:
        """Columns by verl's names; those of the default trainer that its batch lacks are fetched, all at once."""
        if self.data is None:
            return {}
        held = {**self.data.batch, **self.data.non_tensor_batch}
        found = {name: held[name] for name in names if name in held}
        elsewhere = sorted(set(names) - set(found))
        if self.rows is not None and elsewhere:
            import transfer_queue

            # uid is there for certain, so that the selection is never empty
            fetched = transfer_queue.kv_batch_get(
                keys=self.rows.keys, partition_id=self.rows.partition_id, select_fields=["uid", *elsewhere]
            )
            found |= {name: fetched[name] for name in elsewhere if name in fetched.keys()}  # noqa: SIM118 - of a TensorDict, `in` asks for values
        return found

    def reward_components(self) -> torch.Tensor | None:
        """(B, K) the rewards that ``algorithm.gdpo_reward_keys`` names; ``None`` if it names none."""
        keys = list(self.algorithm.get("gdpo_reward_keys") or ())
        if self.rows is None:
            columns = self.columns(keys)
        else:  # the default trainer keeps them a dictionary a row
            infos = [row["reward_extra_info"] for row in self.columns(["extra_fields"])["extra_fields"]]
            columns = {key: [info[key] for info in infos] for key in keys if all(key in info for info in infos)}
        lost = [key for key in keys if key not in columns]
        if lost:
            raise ValueError(
                f"algorithm.gdpo_reward_keys names {', '.join(lost)}, which the reward function did not return."
            )
        rewards = [torch.tensor([float(x) for x in columns[key]]) for key in keys]
        return torch.stack(rewards, 1) if rewards else None

    def final_rows(self) -> torch.Tensor | None:
        """(B,) for each row the last row of its session; ``None`` where each session has one.

        The default trainer's keys are ``{uid}_{session}_{index of the output}``.
        """
        if self.rows is None:
            return None
        parts = [(*key.rsplit("_", 1), row) for row, key in enumerate(self.rows.keys)]
        last = {session: row for session, _, row in sorted(parts, key=lambda part: int(part[1]))}
        return None if len(last) == len(parts) else torch.tensor([last[session] for session, *_ in parts])


def rollout_batch(
    estimator: az.Estimator, token_level_rewards: torch.Tensor, response_mask: torch.Tensor, uid: Any, source: Source
) -> az.RolloutBatch:
    """The batch with the fields that the estimator needs or uses, float32.

    Args:
        estimator: Whose ``needs`` and ``uses`` are handed over.
        token_level_rewards: (B, T), summed to the outcome of each response, as in verl's own estimators.
        response_mask: (B, T), 1 on tokens that the policy emitted.
        uid: (B,) which prompt a response answers; ``None`` if each answers its own.
        source: Where the other fields are.

    Raises:
        ValueError: A field that the estimator needs is not there; the message names the setting.
    """
    mask, rewards = response_mask != 0, token_level_rewards.float()
    groups: dict[Any, int] = {}
    ids = [groups.setdefault(u, len(groups)) for u in (range(len(mask)) if uid is None else list(uid))]
    wanted = estimator.needs | estimator.uses
    columns = source.columns([COLUMNS.get(name, name) for name in wanted - MADE])
    fields = {name: padded(columns[COLUMNS.get(name, name)]) for name in wanted if COLUMNS.get(name, name) in columns}
    if "token_rewards" in wanted:
        fields["token_rewards"] = _at_valid_tokens(rewards, mask)
    if "reward_components" in wanted:
        components = source.reward_components()
        fields |= {} if components is None else {"reward_components": components}
    missing = [lacking(estimator, name) for name in sorted(estimator.needs) if name not in fields]
    if missing:
        raise ValueError(" ".join(missing))
    return az.RolloutBatch(
        rewards=rewards.sum(1),
        response_mask=mask,
        group_ids=torch.tensor(ids, device=mask.device),
        num_groups=len(groups),
        extras={name: x.to(mask.device) for name, x in fields.items() if name not in OPTIONAL_FIELDS},
        **{name: x.to(mask.device) for name, x in fields.items() if name in OPTIONAL_FIELDS},
    )


def padded(x: Any) -> torch.Tensor:
    """A column as a padded tensor, floating ones widened: the engines' log-probabilities may be bfloat16."""
    x = torch.as_tensor(x)
    x = torch.nested.to_padded_tensor(x, 0.0) if x.is_nested else x
    return x.float() if x.is_floating_point() else x


def _at_valid_tokens(rewards: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, T) with what stands at masked tokens, as after tool output, moved to the response's last valid one."""
    strays = rewards.masked_fill(mask, 0.0).sum(1)
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)  # (B,)
    return rewards.scatter_add(1, last[:, None], strays[:, None])
