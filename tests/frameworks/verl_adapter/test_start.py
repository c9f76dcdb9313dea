"""What is refused before any model is loaded, and what is not; the ready configs."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from advantage_zoo_verl import checking, training
from frameworks.verl_adapter.made import KL_LOSS, SINCE_0_9, algorithm, checked, columns, proto
from hydra import compose, initialize_config_dir, initialize_config_module
from verl.trainer.ppo import ray_trainer

import advantage_zoo as az


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "ep_grpo",
            (),
            r"ep_grpo needs ref_logprobs: set actor_rollout_ref.actor.use_kl_loss=True \(with .*kl_loss_coef=0",
        ),
        (
            "ep_grpo",
            (*KL_LOSS, "actor_rollout_ref.rollout.n=1"),
            r"rollout.n is 1, and ep_grpo compares .* set it to 2",
        ),
        ("dr_grpo", ("actor_rollout_ref.rollout.n=1",), "rollout.n is 1"),
        ("'grpo | whiten'", ("actor_rollout_ref.rollout.n=1",), "rollout.n is 1"),
        ("rl_zvp", ("algorithm.rollout_correction.bypass_mode=True",), "needs entropies: set .*bypass_mode=False"),
        ("zoo_gae", (), "needs values: set critic.enable=True"),
        ("remax@verl", (), "needs baseline_rewards: set algorithm.adv_estimator=remax"),
        ("otb", (), "needs sum_pi_squared: set trainer.use_v1=False and .*calculate_sum_pi_squared=True"),
        ("gdpo@verl", (), "needs reward_components: set .algorithm.gdpo_reward_keys"),
        (
            "ep_grpo",
            (*KL_LOSS, "+algorithm.ep_grpo.num_bukets=5"),
            r"algorithm.ep_grpo.num_bukets: .*did you mean 'num_buckets'",
        ),
        ("ep_grpo", (*KL_LOSS, "+algorithm.ep_grpo.num_buckets=0"), "num_buckets is 0; expected at least 1"),
        ("ep_grpo", (*KL_LOSS, "+algorithm.ep_grpo.num_buckets=many"), "algorithm.ep_grpo: .*num_buckets"),
        ("ep_grpo", (*KL_LOSS, "+algorithm.ep_grpo=5"), "algorithm.ep_grpo is 5; expected a block"),
        (
            "ep_grpo",
            (*KL_LOSS, "+algorithm.ep_gpro.num_buckets=5"),
            "algorithm.ep_gpro is not read; the parameters of ep_grpo stand in algorithm.ep_grpo",
        ),
        ("ep_grpo", (*KL_LOSS, "+algorithm.num_buckets=5"), r"write \+algorithm.ep_grpo.num_buckets=5"),
        (
            "'ep_grpo | whiten'",
            (*KL_LOSS, "+algorithm.ep_grpo.num_buckets=5"),
            r"stand in the name, as ep_grpo\(key=value\)",
        ),
        ("'mix(dapo, rloo)'", ("+algorithm.rloo.singleton=zero",), r"stand in the name, as rloo\(key=value\)"),
        (
            "grpo@verl",
            ("+algorithm.grpo.eps=1e-3",),
            r"algorithm.grpo is not read; .* stand in the name, as grpo@verl\(key=value\)",
        ),
        (
            "zoo_grpo",
            ("+algorithm.grpo.eps=1e-3",),
            "algorithm.grpo is not read; the parameters of zoo_grpo stand in algorithm.zoo_grpo",
        ),
        (
            "dapo",
            ("+algorithm.DAPO.eps=1e-3",),
            "algorithm.DAPO is not read; the parameters of dapo stand in algorithm.dapo",
        ),
        ("gdpo@verl", ("+algorithm.gdpo_reward_keys=acc",), r"gdpo_reward_keys is 'acc'; expected a list .* \[acc\]"),
        (
            "ep_grpo",
            (*KL_LOSS, "+algorithm.zoo.dump=x"),
            "algorithm.zoo.dump is no setting; there is algorithm.zoo.dump_rollouts",
        ),
        (
            "zoo_grpo",
            ("algorithm.norm_adv_by_std_in_grpo=False",),
            "norm_adv_by_std_in_grpo=False is for verl's own grpo",
        ),
        (
            "ep_gpro",
            (),
            r"algorithm.adv_estimator=ep_gpro: No estimator is called 'ep_gpro' \(did you mean 'ep_grpo'\?\)",
        ),
        ("null", (), "algorithm.adv_estimator is None; expected a name"),
        ("[grpo,rloo]", (), r"algorithm.adv_estimator is \['grpo', 'rloo'\]; expected a name"),
        ("'grpo | whitten'", (), "algorithm.adv_estimator=.*did you mean 'whiten'"),
    ],
)
def test_the_start_refuses_what_would_fail_later(name, overrides, message):
    with pytest.raises((ValueError, TypeError, LookupError), match=message):
        checked(name, *overrides)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("ep_grpo", (*KL_LOSS, "+algorithm.ep_grpo.num_buckets=5", "+algorithm.ep_grpo.progress_warmup_steps=200")),
        ("ep_grpo", ("algorithm.use_kl_in_reward=True",)),
        ("grpo@trl", ()),
        ("grpo", ("actor_rollout_ref.rollout.n=1",)),  # verl's own, which is none of our business
        ("dr_grpo", ("algorithm.norm_adv_by_std_in_grpo=False",)),
        ("dapo", ("algorithm.rollout_correction.bypass_mode=True", "+algorithm.ep_grpo.num_buckets=5")),
        ("zoo_gae", ("critic.enable=True", "actor_rollout_ref.rollout.n=1")),
        ("mine_from_external_lib", ("actor_rollout_ref.model.external_lib=mine",)),
        ("'\"overlong(20480, 4096) | grpo(eps=1e-4) | clip(-2, 2)\"'", ()),
    ],
)
def test_the_start_lets_pass_what_will_work(name, overrides):
    checked(name.strip("'") if name.startswith("'\"") else name, *overrides)


def test_all_that_is_missing_is_said_at_once():
    with pytest.raises(ValueError, match=r"needs entropies.*needs ref_logprobs.*rollout.n is 1"):
        checked("ep_grpo", "algorithm.rollout_correction.bypass_mode=True", "actor_rollout_ref.rollout.n=1")


def test_a_broken_third_party_plugin_is_named_at_the_start(monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "no_such_plugin")
    with pytest.raises(LookupError, match=r"'lost_estimator'.*Plugin no_such_plugin: ADVANTAGE_ZOO_PLUGINS names it"):
        checked("lost_estimator")


@dataclass(frozen=True)
class Rollout(az.Estimator):
    """Needs a field that only verl knows."""

    name: ClassVar[str] = "rollout_gap"
    needs: ClassVar[frozenset[str]] = frozenset({"logprobs", "rollout_logprobs"})

    def compute(self, batch):
        return az.Advantages(batch.logprobs - batch.rollout_logprobs)


def test_a_plugin_is_given_the_rollout_log_probabilities(monkeypatch):
    tensors = columns(np.random.default_rng(0))
    tensors["rollout_log_probs"] = tensors["old_log_probs"] - 0.25
    monkeypatch.setattr(training, "resolve", lambda name, algorithm: Rollout())
    got = ray_trainer.compute_advantage(proto(tensors), "dapo", config=algorithm()).batch["advantages"]
    mask = tensors["response_mask"] != 0
    torch.testing.assert_close(got[mask], torch.full_like(got[mask], 0.25))
    monkeypatch.setattr(checking, "resolve", lambda name, algorithm: Rollout())
    with pytest.raises(
        ValueError, match=r"needs rollout_logprobs: set actor_rollout_ref.rollout.calculate_log_probs=True"
    ):
        checked("dapo", "actor_rollout_ref.rollout.calculate_log_probs=False")


CONFIGS = Path(__file__).parents[3] / "integrations" / "verl"


@SINCE_0_9
@pytest.mark.parametrize("method", ["ep_grpo", "grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("nodes", [1, 4])
def test_the_ready_configs_pass_verls_check_and_ours_and_the_scripts_say_the_same(method, nodes, tmp_path, monkeypatch):
    from verl.utils.config import validate_config

    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose(method, [f"trainer.nnodes={nodes}"])
    validate_config(config=config, use_reference_policy=True, use_critic=False)

    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nshift 2; printf "%s\\n" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = ["bash", str(CONFIGS / f"{method}.sh"), f"trainer.nnodes={nodes}"]
    overrides = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    with initialize_config_module("verl.trainer.config", version_base=None):
        assert compose("ppo_trainer", overrides) == config
