"""The scripts in integrations/openrlhf: OpenRLHF's command line takes their flags; the reward function judges."""

import runpy
import subprocess
import warnings
from pathlib import Path

import pytest

import advantage_zoo as az

with warnings.catch_warnings():  # of OpenRLHF's own imports
    warnings.simplefilter("ignore")
    import advantage_zoo_openrlhf
    from frameworks.openrlhf_run.made import parse

    advantage_zoo_openrlhf.install()

SCRIPTS = Path(__file__).parents[2] / "integrations" / "openrlhf"
METHODS = {
    "ep_grpo": "ep_grpo(progress_weight=linear(0, 0.2, 200))",
    "grpo": "grpo",
    "dr_grpo": "dr_grpo",
    "dapo": "dapo",
}


@pytest.fixture
def args(tmp_path, monkeypatch):
    """What a script would have OpenRLHF train with: python is replaced by what prints its arguments."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)

    def read(method, *flags):
        script = ["bash", str(SCRIPTS / f"{method}.sh"), *flags]
        path = f"{tmp_path}:/usr/bin:/bin"
        said = subprocess.run(
            script, env={"PATH": path}, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert said[:3] == ["-m", "advantage_zoo_openrlhf", "train_ppo_ray"]
        return parse(monkeypatch, others=said[3:])

    return read


@pytest.mark.parametrize("method", METHODS)
def test_the_command_line_takes_it(args, method):
    made = args(method, "--actor.num_gpus_per_node", "4", "--ref.num_gpus_per_node", "4", "--vllm.num_engines", "4")
    assert made.zoo.estimator == az.make(METHODS[method])
    assert made.actor.num_gpus_per_node == 4
    assert made.algo.kl.use_loss == (method in ("ep_grpo", "grpo"))
    mode = "seq-mean-token-mean" if method in ("ep_grpo", "grpo") else "token-mean"
    assert made.actor.loss_agg_mode == mode
    assert tuple(made.actor.eps_clip_low_high) == ((0.2, 0.28) if method == "dapo" else (0.2, 0.2))


def test_flags_of_yours_come_last_and_win(args):
    made = args("ep_grpo", "--zoo.ep_grpo.progress_warmup_steps", "50", "--rollout.temperature", "0.9")
    assert made.zoo.estimator == az.make("ep_grpo(progress_weight=linear(0, 0.2, 50))")
    assert made.rollout.temperature == 0.9


def test_dapo_takes_its_16_updates_from_a_rollout(args):
    """With one update a rollout the ratio is 1, and a clip of 0.28 would never be reached."""
    made = args("dapo")
    assert (made.rollout.batch_size, made.rollout.n_samples_per_prompt, made.train.batch_size) == (512, 16, 512)


def test_there_is_a_script_a_method():
    assert {file.stem for file in SCRIPTS.glob("*.sh")} == {*METHODS, "common"}


def test_the_reward_function_reads_the_last_number():
    judge = runpy.run_path(str(SCRIPTS / "reward.py"))["reward_func"]
    prompts = ["What is 40 + 32? "] * 4
    queries = [prompts[0] + text for text in ("It is 72.", "72, no, 73", "none", "1,072 - 1,000 = 72.0")]
    found = judge(queries, prompts, ["72"] * 4)
    assert found["rewards"].tolist() == found["scores"].tolist() == [1, 0, 0, 1]
