"""What ZooGRPOTrainer hands to TRL's loss: the estimator's advantages, and with a preset TRL's own."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from frameworks.trl_adapter.made import QUIET, once, rewards_of
from tiny_trl import PROMPTS, config, few_digits, length, prompts, scored_anew, strayed
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer

import advantage_zoo as az

pytestmark = QUIET


def moved(trainer, model):
    """Whether every weight that can be trained has moved, and all are finite."""
    before = AutoModelForCausalLM.from_pretrained(model).state_dict()
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    assert all(bool(x.isfinite().all()) for x in after.values())
    return any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "estimator", ["ep_grpo", "ep_grpo(num_buckets=3)", "grpo", "erpo", "rl_zvp", "grpo | top_entropy(0.5) | whiten"]
)
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_the_loss_gets_what_the_estimator_computes(watched, model, estimator, beta):
    trainer = watched(estimator, policy=strayed(model), args=once(beta=beta))
    (output,) = trainer.outputs
    batch = scored_anew([output], rewards_of(trainer), strayed(model), AutoModelForCausalLM.from_pretrained(model))
    expected = az.compute_advantages(batch, estimator, step=0).values
    np.testing.assert_allclose(output["advantages"].numpy(), expected, atol=2e-4)
    assert np.ptp(expected) > 0.1
    (loss,) = trainer.losses
    order = [output["completion_ids"].tolist().index(row) for row in loss["completion_ids"].tolist()]
    assert torch.equal(loss["advantages"], output["advantages"][order])
    entry = trainer.state.log_history[0]
    assert np.isfinite(entry["loss"])
    assert np.isfinite(entry["grad_norm"])
    assert moved(trainer, model)


SETTINGS = {
    "as it comes": ("grpo@trl", {}, few_digits),
    "truncated responses masked": ("grpo@trl", {"mask_truncated_completions": True}, few_digits),
    "old log-probabilities": ("grpo@trl", {"num_iterations": 2, "steps_per_generation": 2}, few_digits),
    "unscaled": ("dr_grpo@trl", {"scale_rewards": "none"}, few_digits),
    "scaled by the batch": ("lite_ppo@trl", {"scale_rewards": "batch"}, few_digits),
    "two rewards, weighted": ("grpo@trl", {"reward_weights": [2.0, 0.5]}, [few_digits, length]),
    "each reward by itself": (
        "gdpo@trl",
        {"reward_weights": [2.0, 0.5], "multi_objective_aggregation": "normalize_then_sum"},
        [few_digits, length],
    ),
}


@pytest.mark.parametrize("label", SETTINGS)
def test_the_preset_gives_trls_own_advantages_in_the_same_run(watched, own, label):
    estimator, args, rewards = SETTINGS[label]
    trainer = watched(estimator, rewards, args=args)
    assert len(own) == len(trainer.outputs)
    for theirs, output in zip(own, trainer.outputs, strict=True):
        trained = output["completion_mask"].float()
        np.testing.assert_allclose(output["advantages"], theirs[:, None] * trained, atol=1e-5)
    assert any(x.abs().max() > 0.1 for x in own)


def test_the_preset_trains_as_trl_does(watched, model, tmp_path):
    ours = watched("grpo@trl")
    theirs = GRPOTrainer(model, few_digits, config(tmp_path), prompts())
    theirs.train()
    got, expected = (t.accelerator.unwrap_model(t.model).state_dict() for t in (ours, theirs))
    for name, weight in expected.items():
        torch.testing.assert_close(got[name], weight, atol=1e-6, rtol=0)


def rollout(ids, masks=None):
    """A rollout_func that answers every prompt with the next of ``ids``."""

    def generate(given, trainer):
        tokenizer = trainer.processing_class
        chosen = [ids[i % len(ids)] for i in range(len(given))]
        more = {} if masks is None else {"env_mask": [masks[i % len(ids)] for i in range(len(given))]}
        return {
            "prompt_ids": [tokenizer(text)["input_ids"] for text in given],
            "completion_ids": chosen,
            "logprobs": [[0.0] * len(c) for c in chosen],
            **more,
        }

    return generate


ANSWERS = [[4, 5, 6, 2], [7, 8, 2], [20, 21, 22, 23, 24, 25], [9, 20, 2]]  # 2 ends a response; the third is cut off


def test_tool_output_gets_no_advantage_and_counts_in_no_statistic(watched, model):
    masks = [[1, 0, 1, 1], [1, 1, 1], [1, 0, 0, 1, 1, 1], [1, 1, 1]]
    trainer = watched(
        "ep_grpo", policy=strayed(model), args=once(), rollout_func=rollout(ANSWERS, masks), rewards=alternate
    )
    (output,) = trainer.outputs
    reference = AutoModelForCausalLM.from_pretrained(model)
    rewards = list(trainer._logs["rewards"]["alternate"])
    expected = az.compute_advantages(scored_anew([output], rewards, strayed(model), reference), "ep_grpo").values
    np.testing.assert_allclose(output["advantages"], expected, atol=2e-4)
    assert not output["advantages"][0, 1]
    assert output["advantages"][0, 0]


def alternate(completions, **_):
    return [float(i % 2) for i in range(len(completions))]


def test_truncated_responses_count_in_their_group_and_are_not_trained_on(watched, model):
    args = once(mask_truncated_completions=True, num_iterations=2, beta=0.1)  # TRL scores, with these rows hidden
    trainer = watched("ep_grpo", policy=strayed(model), args=args, rollout_func=rollout(ANSWERS), rewards=alternate)
    (output,) = trainer.outputs
    assert output["completion_mask"].sum(1).tolist() == [4, 3, 0, 3] * 2
    seen = {**output, "completion_mask": torch.tensor([[1] * len(a) + [0] * (6 - len(a)) for a in ANSWERS * 2])}
    reference = AutoModelForCausalLM.from_pretrained(model)
    batch = scored_anew([seen], list(trainer._logs["rewards"]["alternate"]), strayed(model), reference)
    expected = az.compute_advantages(batch, "ep_grpo").values * output["completion_mask"].numpy()
    np.testing.assert_allclose(output["advantages"], expected, atol=2e-4)


@pytest.mark.filterwarnings("ignore:2 of 8 responses have no valid token")
def test_a_response_that_nobody_rewards_is_left_out(watched, own):
    def shy(completions, **_):
        return [None if i % 4 == 1 else float(i % 4 == 0) for i in range(len(completions))]

    trainer = watched("grpo@trl", shy, args=once())
    (output,) = trainer.outputs
    np.testing.assert_allclose(output["advantages"], own[0][:, None] * output["completion_mask"].float(), atol=1e-5)
    assert not output["advantages"][1::4].any()
    assert output["advantages"][0].any()


@dataclass(frozen=True)
class Difficult(az.Estimator):
    """Needs a number that only the data set knows."""

    name: ClassVar[str] = "difficult"
    needs: ClassVar[frozenset[str]] = frozenset({"difficulty"})

    def compute(self, batch):
        return az.Advantages(batch.to_tokens(batch.rewards * batch.difficulty))


def test_a_column_of_the_dataset_is_handed_on(watched):
    data = prompts(difficulty=[1, 2, 3, 4])
    trainer = watched(Difficult(), length, data=data, args=once())
    (output,) = trainer.outputs
    hard = {text: i for i, text in enumerate(PROMPTS, start=1)}
    expected = [
        hard[text] * r for text, r in zip(trainer._logs["prompt"], trainer._logs["rewards"]["length"], strict=True)
    ]
    np.testing.assert_allclose(output["advantages"][:, 0], expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"difficult needs difficulty, .* give the dataset a column 'difficulty'"):
        watched(Difficult(), length, args=once())
