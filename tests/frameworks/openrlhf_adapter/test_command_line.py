"""OpenRLHF's own command line under the adapter: what it takes."""

import argparse
import pickle
import subprocess
import sys

import pytest
from advantage_zoo_openrlhf.points import BINDING
from frameworks.openrlhf_adapter.made import ESTIMATOR, NO_KL
from frameworks.openrlhf_run.made import REFERENCE, unwidened

import advantage_zoo as az
from advantage_zoo.parameters import Schedule

OWN = ("gae", "reinforce", "rloo", "reinforce_baseline", "group_norm", "dr_grpo", "flash_reinforce")


@pytest.mark.parametrize(
    ("spelling", "flags"),
    [
        ("ep_grpo", REFERENCE),
        ("ep_grpo(num_buckets=5)", REFERENCE),
        ("grpo", NO_KL),
        ("grpo@trl", NO_KL),
        ("grpo | whiten", NO_KL),
        ("dr_grpo()", NO_KL),
        ("rloo | clip(-1, 1)", NO_KL),
        ("mix(grpo, ep_grpo, 0.3)", REFERENCE),
        ("overlong(30, 4) | grpo | top_entropy(0.2)", NO_KL),
        ("grpo@openrlhf", ()),  # the KL penalty in the reward is a part of it
        ("reinforce()", ()),
        ("remax", NO_KL),
    ],
)
def test_any_spelling_is_taken(run, spelling, flags):
    args = run(ESTIMATOR, spelling, *flags)
    assert args.zoo.estimator == az.make(spelling)
    assert args.algo.advantage.estimator == spelling
    assert args.critic.model_name_or_path is None


@pytest.mark.parametrize("name", [*OWN, None])
def test_openrlhf_s_own_names_stay_its_own(run, monkeypatch, name):
    flags = () if name is None else (ESTIMATOR, name)
    ours = run(*flags)
    unwidened(monkeypatch)
    theirs = run(*flags)
    ours.logger.wandb.run_name = theirs.logger.wandb.run_name  # the minute
    assert ours == theirs
    assert not hasattr(ours, "zoo")


def test_help_lists_the_names_and_says_how_parameters_are_given(run, capsys):
    with pytest.raises(SystemExit):
        run("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "{" + ",".join([*OWN[:6], OWN[6], *(n for n in az.names() if n not in OWN)]) + "}" in shown.replace("\n", "")
    assert "--zoo.NAME.PARAM VALUE" in shown


def test_what_runs_is_said_once(run, capsys):
    run(ESTIMATOR, "ep_grpo", *REFERENCE)
    said = [line for line in capsys.readouterr().err.splitlines() if "advantage-zoo" in line]
    assert len(said) == 1
    assert said[0].startswith("advantage-zoo: --algo.advantage.estimator is ep_grpo(eps=1e-06, gate_temperature=5.0,")
    assert said[0].endswith("(advantage-zoo 0.1.0, openrlhf 0.11.2)")
    run(ESTIMATOR, "dr_grpo")
    assert "--algo.advantage.estimator is dr_grpo, OpenRLHF's own" in capsys.readouterr().err


def test_parameters_from_the_command_line(run):
    flags = ("--zoo.ep_grpo.num_buckets", "5", "--zoo.ep_grpo.gate_scope=batch")
    flags += ("--zoo.ep_grpo.progress_warmup_steps", "200")
    made = az.make("ep_grpo", num_buckets=5, gate_scope="batch", progress_weight=Schedule(0, 0.2, 200))
    assert run(ESTIMATOR, "ep_grpo", *REFERENCE, *flags).zoo.estimator == made


def test_parameters_from_a_file_and_over_them_the_command_line_s(run, refusal, tmp_path):
    file = tmp_path / "zoo.yaml"
    file.write_text("ep_grpo: {num_buckets: 5, eps: 1e-4, progress_weight: 'linear(0, 0.2, 9)'}\n")
    flags = (ESTIMATOR, "ep_grpo", *REFERENCE, "--zoo.config", str(file))
    schedule = Schedule(0, 0.2, 9)
    assert run(*flags).zoo.estimator == az.make("ep_grpo", num_buckets=5, eps=1e-4, progress_weight=schedule)
    over = run(*flags, "--zoo.ep_grpo.num_buckets", "7").zoo.estimator
    assert over == az.make("ep_grpo", num_buckets=7, eps=1e-4, progress_weight=schedule)
    file.write_text("ep_grpo: {num_buckets: 5}\ngrpo: {eps: 1}\n")
    assert "--zoo.grpo.eps: the estimator is ep_grpo; leave it out, or give --zoo.ep_grpo.PARAM VALUE." in refusal(
        *flags
    )
    file.write_text("ep_grpo: 5\n")
    assert "expected a block of parameters for each estimator" in refusal(*flags)
    file.write_text("ep_grpo: {")
    assert "is not YAML" in refusal(*flags)


@pytest.mark.parametrize(
    ("spelling", "flags", "made"),
    [
        ("grpo@openrlhf", "--reward.clip_range -1 1", "grpo@openrlhf(clip_range=[-1, 1])"),
        ("reinforce_pp@openrlhf", "--algo.advantage.gamma 0.5", "reinforce_pp@openrlhf(discount=0.5)"),
        ("reinforce()", "--algo.advantage.gamma 0.5", "reinforce(discount=0.5)"),
        ("reinforce_pp@openrlhf", "--algo.advantage.no_std_norm", "reinforce_pp@openrlhf(no_std_norm=true)"),
        ("grpo@openrlhf", "--reward.clip_range -10 10", "grpo@openrlhf"),
        ("grpo@openrlhf(clip_range=[-1, 1])", "", "grpo@openrlhf(clip_range=[-1, 1])"),
    ],
)
def test_openrlhf_s_flags_are_the_parameters_of_these_names(run, spelling, flags, made):
    assert run(ESTIMATOR, spelling, *NO_KL, *flags.split()).zoo.estimator == az.make(made)


def test_a_plugin_s_estimator_is_taken(run, tmp_path, monkeypatch):
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[advantage_zoo]\nacme = acme_plugin\n")
    (tmp_path / "acme_plugin.py").write_text(
        "import dataclasses\nimport advantage_zoo as az\n\n"
        "@dataclasses.dataclass(frozen=True)\nclass Mine(az.Estimator):\n    name = 'mine'\n"
        "    scale: float = az.param(1.0, doc='A factor.')\n\n"
        "    def compute(self, batch):\n        return az.Advantages(batch.to_tokens(batch.rewards * self.scale))\n\n"
        "@az.hookimpl\ndef advantage_zoo_register_estimators(register):\n    register(Mine)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("advantage_zoo.registry._loaded", {})
    assert run(ESTIMATOR, "mine", *NO_KL, "--zoo.mine.scale", "3").zoo.estimator.scale == 3
    assert run(ESTIMATOR, "acme:mine", *NO_KL, "--zoo.acme:mine.scale", "3").zoo.estimator.scale == 3


def test_every_point_that_is_touched_is_there_and_bound():
    findings = BINDING.findings()
    assert {finding.detail for finding in findings} == {"as expected, and bound"}
    assert len(findings) == 6


def test_releases_before_0_10_2_are_spoken_to_in_their_flags(capsys):
    """Their parser's flags that the adapter reads; such a release does not run here."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--advantage_estimator", choices=["gae", "group_norm"], default="gae")
    defaults = {"gamma": 1.0, "lambd": 1.0, "init_kl_coef": 0.01, "temperature": 1.0, "n_samples_per_prompt": 1}
    for flag, default in {**defaults, "remote_rm_url": None, "agent_func_path": None}.items():
        parser.add_argument(f"--{flag}", type=float if isinstance(default, float) else None, default=default)
    parser.add_argument("--reward_clip_range", type=float, nargs=2, default=(-10, 10))
    for flag in ("no_advantage_std_norm", "dynamic_filtering", "use_kl_loss"):
        parser.add_argument(f"--{flag}", action="store_true")
    made = parser.parse_args(["--advantage_estimator", "reinforce()", "--gamma", "0.5"])
    assert made.zoo.estimator == az.make("reinforce", discount=0.5)
    assert made.advantage_estimator == "reinforce()"
    with pytest.raises(SystemExit):
        parser.parse_args(["--advantage_estimator", "grpo", "--reward_clip_range", "-1", "1"])
    assert "--reward_clip_range -1 1 has no effect on grpo" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(["--advantage_estimator", "grpo"])
    said = capsys.readouterr().err
    assert "--n_samples_per_prompt is 1, and grpo compares the responses to a prompt" in said
    assert (
        "--init_kl_coef 0.01 puts a KL penalty into the reward, which grpo would drop: pass --use_kl_loss, or" in said
    )


def test_where_a_run_s_arguments_arrive_openrlhf_is_bound(run):
    code = "import pickle, sys; made = pickle.load(sys.stdin.buffer); import openrlhf.trainer.ppo_trainer as there; "
    code += "print(made.estimator, there.RemoteExperienceMaker._flatten_results.__wrapped__.__name__)"
    pickled = pickle.dumps(run(ESTIMATOR, "grpo(eps=0.5)", *NO_KL).zoo)
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)
    assert done.stdout.decode().splitlines()[-1] == "grpo(eps=0.5) _flatten_results"
