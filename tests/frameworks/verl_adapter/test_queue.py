"""The default trainer of verl 0.9, whose columns stand in a TransferQueue: its own method, with a queue of ours."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from frameworks.verl_adapter.made import GROUPS, SINCE_0_9, as_batch, columns, configured, trainer_base

import advantage_zoo as az


class Queue:
    """The TransferQueue of the default trainer: rows by key, ragged, with nothing of a column that nobody put."""

    def __init__(self, monkeypatch, tensors, keys):
        import transfer_queue

        lengths = [int(mask.nonzero().max()) + 1 if mask.any() else 1 for mask in tensors["response_mask"]]
        self.keys, self.fetched, self.put = keys, [], {}
        self.rows = [
            {name: x[row, :length] for name, x in tensors.items()} | {"uid": key.rsplit("_", 2)[0]}
            for row, (key, length) in enumerate(zip(keys, lengths, strict=True))
        ]
        monkeypatch.setattr(transfer_queue, "kv_batch_get", self.get)
        monkeypatch.setattr(transfer_queue, "kv_batch_put", self.keep)

    def get(self, keys, partition_id, select_fields):
        from verl.utils.tensordict_utils import list_of_dict_to_tensordict

        assert (keys, partition_id) == (self.keys, "train")
        self.fetched.append(select_fields)
        known = [name for name in select_fields if name in self.rows[0]]
        return list_of_dict_to_tensordict([{name: row[name] for name in known} for row in self.rows])

    def keep(self, keys, partition_id, fields):
        self.put = {name: list(fields[name].unbind()) for name in fields.keys()}  # noqa: SIM118 - a TensorDict

    def advantages(self, name, *overrides, step=1):
        """What the default trainer's own method puts into the queue, a tensor a row."""
        config = configured(f"algorithm.adv_estimator={name}", *overrides)
        trainer = SimpleNamespace(config=config, global_steps=step)
        rows = type("Rows", (), {"keys": self.keys, "partition_id": "train", "__len__": lambda _: len(self.keys)})()
        trainer_base.PPOTrainer._compute_advantage(trainer, rows, metrics={})
        return self.put["advantages"]


def queued(tensors):
    """verl's columns under the names that they have in the queue."""
    return {"rm_scores" if name == "token_level_rewards" else name: x for name, x in tensors.items()}


@SINCE_0_9
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["ep_grpo", "grpo@verl", "prime", "reinforce_pp"])
def test_the_default_trainer_gets_entropies_from_its_queue(monkeypatch, name, dtype):
    """Rows are ragged and out of order, and one is padding, as verl's balancing leaves them."""
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0), dtype).items()}
    queue = Queue(monkeypatch, queued(tensors), [f"{group}_{row}_0" for row, group in enumerate(GROUPS)])
    got = queue.advantages(name)
    expected = az.compute_advantages(as_batch(tensors, *az.make(name).needs, *az.make(name).uses), name).values
    for row, values in enumerate(got):
        torch.testing.assert_close(values, expected[row, : len(values)], atol=1e-6, rtol=1e-6)
    assert queue.fetched[1:] == {"ep_grpo": [["uid", "entropy"]], "prime": [["uid", "process_logprobs"]]}.get(name, [])


@SINCE_0_9
def test_a_session_with_several_outputs_is_scored_by_its_last_as_in_verls_grpo(monkeypatch):
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0)).items()}
    keys = ["b_0_0", "a_0_0", "c_0_0", "a_1_1", "b_1_0", "a_1_0", "b_0_1", "pad0_0_0"]
    queue = Queue(monkeypatch, queued(tensors), keys)
    own, preset = (queue.advantages(name) for name in ("grpo", "grpo@verl"))
    for one, other in zip(own, preset, strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match=r"several output rows, and ep_grpo does not give one advantage to all tokens"):
        queue.advantages("ep_grpo")


@SINCE_0_9
def test_the_default_trainer_keeps_reward_components_in_a_dictionary_a_row(monkeypatch):
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0)).items()}
    queue = Queue(monkeypatch, queued(tensors), [f"{group}_{row}_0" for row, group in enumerate(GROUPS)])
    components = np.random.default_rng(1).random((8, 2)).astype(np.float32)
    for row, (form, right) in zip(queue.rows, components, strict=True):
        row["extra_fields"] = {"reward_extra_info": {"format": float(form), "right": float(right)}}
    got = queue.advantages("gdpo@verl", "+algorithm.gdpo_reward_keys=[format,right]")
    batch = replace(as_batch(tensors), reward_components=torch.tensor(components))
    expected = az.compute_advantages(batch, "gdpo@verl").values
    for row, values in enumerate(got):
        torch.testing.assert_close(values, expected[row, : len(values)], atol=1e-6, rtol=1e-6)


@SINCE_0_9
def test_a_schedule_follows_the_trainers_step(monkeypatch):
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0)).items()}
    queue = Queue(monkeypatch, queued(tensors), [f"{group}_{row}_0" for row, group in enumerate(GROUPS)])
    batch = as_batch(tensors, "logprobs", "ref_logprobs", "entropies")
    for step, weight in ((1, 0.0), (6, 0.1), (11, 0.2), (500, 0.2)):
        got = queue.advantages("ep_grpo", "+algorithm.ep_grpo.progress_warmup_steps=10", step=step)
        expected = az.compute_advantages(batch, "ep_grpo", progress_weight=weight).values
        for row, values in enumerate(got):
            torch.testing.assert_close(values, expected[row, : len(values)], atol=1e-6, rtol=1e-6)
