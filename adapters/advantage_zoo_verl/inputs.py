"""verl's tensors as a RolloutBatch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

import advantage_zoo as az
from advantage_zoo.adapting import lacking, make_batch, refuse
from advantage_zoo_verl.settings import COLUMNS, SETTINGS


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
        held = {} if self.data is None else {**self.data.batch, **self.data.non_tensor_batch}
        elsewhere = sorted(set(names) - held.keys())
        if self.rows is not None and elsewhere:
            from transfer_queue import kv_batch_get

            select = ["uid", *elsewhere]  # uid is there for certain, so that the selection is never empty
            held |= kv_batch_get(keys=self.rows.keys, partition_id=self.rows.partition_id, select_fields=select)
        return {name: held[name] for name in names if name in held}

    def reward_components(self) -> torch.Tensor | None:
        """(B, K) the rewards that ``algorithm.gdpo_reward_keys`` names; ``None`` if it names none."""
        keys = self.algorithm.get("gdpo_reward_keys") or []
        columns = self.columns(keys if self.rows is None else ["extra_fields"])
        if self.rows is not None:  # the default trainer keeps them a dictionary a row
            infos = [row["reward_extra_info"] for row in columns["extra_fields"]]
            columns = {key: [info[key] for info in infos] for key in keys if all(key in info for info in infos)}
        lost = [key for key in keys if key not in columns]
        refuse(f"algorithm.gdpo_reward_keys names {key}, which the reward function did not return." for key in lost)
        rewards = [torch.tensor([float(x) for x in columns[key]]) for key in keys]
        return torch.stack(rewards, 1) if rewards else None


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
    made = {"token_rewards": lambda: _at_valid_tokens(rewards, mask), "reward_components": source.reward_components}
    fields = {name: make() for name, make in made.items() if name in wanted}
    columns = {COLUMNS.get(name, name): name for name in wanted - made.keys()}
    fields |= {columns[column]: padded(x) for column, x in source.columns(columns).items()}
    there = {name: x.to(mask.device) for name, x in fields.items() if x is not None}
    refuse(lacking(estimator, estimator.needs - there.keys(), SETTINGS))
    numbers = torch.tensor(ids, device=mask.device)
    return make_batch(there, rewards=rewards.sum(1), response_mask=mask, group_ids=numbers, num_groups=len(groups))


def padded(x: Any) -> torch.Tensor:
    """A column as a padded tensor, floating ones widened: the engines' log-probabilities may be bfloat16."""
    x = torch.as_tensor(x)
    x = pad_sequence(x.unbind(), batch_first=True) if x.is_nested else x
    return x.float() if x.is_floating_point() else x


def _at_valid_tokens(rewards: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, T) with what stands at masked tokens, as after tool output, moved to the response's last valid one."""
    strays = rewards.masked_fill(mask, 0.0).sum(1)
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)  # (B,)
    return rewards.scatter_add(1, last[:, None], strays[:, None])
