"""The reference model, and how many forward passes there are."""

from dataclasses import replace

import pytest
import torch
from frameworks.trl_adapter.made import LORA, QUIET, once
from peft import get_peft_model
from tiny_trl import strayed
from transformers import AutoModelForCausalLM

pytestmark = QUIET

ALIGNED, APART = {}, {"num_iterations": 2}  # APART: TRL scores the policy by itself, for the ratio of its loss
PASSES = [
    ("grpo", ALIGNED, []),
    ("grpo", {**APART, "beta": 0.1}, ["policy", "reference"]),
    ("entropy_advantage", ALIGNED, ["policy"]),
    ("entropy_advantage", APART, ["policy"]),
    ("entropy_advantage", {**APART, "beta": 0.1}, ["policy", "reference"]),
    ("ep_grpo", ALIGNED, ["policy", "reference"]),
    ("ep_grpo", {"beta": 0.1}, ["policy", "reference"]),
    ("ep_grpo", APART, ["policy", "reference"]),
    ("ep_grpo", {**APART, "beta": 0.1}, ["policy", "reference"]),
    (
        "ep_grpo",
        {**APART, "beta": 0.1, "mask_truncated_completions": True},
        ["policy", "policy", "reference", "reference"],
    ),
]


@pytest.mark.parametrize(("estimator", "args", "expected"), PASSES)
def test_forward_passes(watched, passes, estimator, args, expected):
    watched(estimator, args=once(**args))
    assert sorted(passes) == expected


def test_without_a_kl_term_the_loss_knows_no_reference(watched):
    trainer = watched("ep_grpo", args=once())
    assert trainer.ref_model is not None
    assert trainer.beta == trainer.args.beta == 0
    assert "ref_per_token_logps" not in trainer.outputs[0]
    assert "kl" not in trainer.state.log_history[0]
    assert watched("grpo", steps=False).ref_model is None


def test_a_policy_made_in_memory_has_no_reference(watched, model):
    policy = strayed(model)
    policy.config._name_or_path = ""
    with pytest.raises(
        ValueError, match=r"ep_grpo needs ref_logprobs.*model\.config\._name_or_path is ''; save the model"
    ):
        watched("ep_grpo", policy=policy)
    watched("entropy_advantage", policy=policy, args=once())


@pytest.mark.parametrize("ready", [False, True])
def test_the_reference_of_an_adapter(watched, model, ready):
    """A new adapter is disabled; of one that came with the policy, TRL keeps a copy."""
    policy = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(0)
    if ready:
        policy = get_peft_model(policy, replace_seed(LORA))
        with torch.no_grad():
            for name, weight in policy.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.1)
    trainer = watched("ep_grpo", policy=policy, args={"max_steps": 3}, **({} if ready else {"peft_config": LORA}))
    assert trainer.ref_model is None
    assert ("ref" in trainer.accelerator.unwrap_model(trainer.model).peft_config) == ready
    shares = [entry["advantage/ep_grpo/progress_share"] for entry in trainer.state.log_history[:3]]
    assert shares[0] == pytest.approx(0, abs=1e-4)  # the policy is still its reference
    assert shares[1] > 1e-4
    after = {name: x for name, x in trainer.policies[-1].items() if "lora_" in name}
    assert any(not torch.equal(x, trainer.policies[0][name]) for name, x in after.items())


def replace_seed(lora):
    return replace(lora, lora_alpha=4)
