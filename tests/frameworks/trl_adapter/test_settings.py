"""Settings, rewards and models that are refused, or warned of."""

from dataclasses import replace

import pytest
from advantage_zoo_trl import ZooGRPOTrainer
from frameworks.trl_adapter.made import LORA, QUIET, once
from tiny_trl import config, few_digits, length, prompts

pytestmark = QUIET


def test_a_component_that_is_missing(watched):
    def sometimes(completions, **_):
        return [None if i == 2 else 1.0 for i in range(len(completions))]

    with pytest.raises(ValueError, match=r"sometimes returned None for response 2, .* gdpo compares"):
        watched("gdpo", [few_digits, sometimes], args=once())
    watched("grpo", [few_digits, sometimes], args=once())  # TRL sums the others


def test_a_reward_that_is_no_number_is_named(watched):
    def infinite(completions, **_):
        return [float("inf") if i == 3 else 0.0 for i in range(len(completions))]

    with pytest.raises(ValueError, match=r"rewards\[3\] \(row 3\) is inf"):
        watched("ep_grpo", infinite, args=once())


def test_reward_weights_become_those_of_gdpo(watched):
    made = watched("gdpo", [few_digits, length], args={"reward_weights": [2.0, 0.5]}, steps=False)
    assert made.estimator.weights == (2.0, 0.5)
    for spelled in ("gdpo(weights=[1, 3])", "gdpo | whiten"):
        with pytest.raises(ValueError, match=r"reward_weights is \[2.0, 0.5\], and gdpo.* leave reward_weights unset"):
            watched(spelled, [few_digits, length], args={"reward_weights": [2.0, 0.5]}, steps=False)


@pytest.mark.parametrize(
    ("estimator", "given", "error", "message"),
    [
        ("remax", {}, ValueError, "remax needs baseline_rewards, the reward of a greedy response"),
        ("gae", {}, ValueError, "gae needs values, a critic's values"),
        ("ep_grpoo", {}, LookupError, r"No estimator is called 'ep_grpoo' \(did you mean 'ep_grpo'"),
        ("ep_grpo", {"num_bucket": 5}, TypeError, r"estimator_args\.num_bucket: .*did you mean 'num_buckets'"),
        ("ep_grpo", {"num_buckets": 0}, ValueError, "estimator_args: .*num_buckets"),
    ],
)
def test_refusals_before_anything_is_loaded(tmp_path, estimator, given, error, message):
    with pytest.raises(error, match=message):
        ZooGRPOTrainer(
            "no/such/model",
            few_digits,
            config(tmp_path),
            prompts(),
            advantage_estimator=estimator,
            estimator_args=given,
        )


def test_settings_without_effect_are_named(watched):
    with pytest.warns(UserWarning, match=r'scale_rewards="none" have no effect: ep_grpo .*"dr_grpo@trl"'):
        watched("ep_grpo", args={"scale_rewards": "none"}, steps=False)


def test_dropout_is_named(watched, model):
    noisy = replace(LORA, lora_dropout=0.1)
    with pytest.warns(UserWarning, match=r"4 modules of the policy have dropout .* Set disable_dropout=True"):
        watched("ep_grpo", peft_config=noisy, steps=False)
    watched("ep_grpo", peft_config=noisy, args={"disable_dropout": True}, steps=False)
