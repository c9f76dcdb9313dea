"""Whole runs of OpenRLHF's command line: its trainer, policy and reference in Ray's processes, DeepSpeed on the CPU.

``openrlhf_run/without_cuda.py`` says what stands in for what needs CUDA.
"""

import os
import re
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from frameworks.openrlhf_run.made import FLAGS, REFERENCE, LlamaForCausalLM, make_files

import advantage_zoo as az
from advantage_zoo.cli import main
from advantage_zoo.rollouts import read_rollouts

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent / "openrlhf_run"
DRIVER = str(HERE / "without_cuda.py")
EP_GRPO = ("--algo.advantage.estimator", "ep_grpo", *REFERENCE, "--rollout.temperature", "0.8")
FIELDS = "sequences attention_mask action_mask action_log_probs base_action_log_probs rollout_log_probs values returns \
advantages kl rewards scores response_length truncated total_length index prompts labels images mm_train_inputs info"
WARMUP = 3


class Run:
    """A run's output, and what the policy's replay buffer was given, by step."""

    def __init__(self, folder, *command):
        self.folder = folder
        make_files(folder)
        (folder / "kept").mkdir()
        env = os.environ | {
            "WITHOUT_CUDA_OUT": str(folder / "kept"),
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
            "TORCHDYNAMO_DISABLE": "1",
            "HF_HUB_OFFLINE": "1",
            # A minute and half a minute, which do not do where others use the processors.
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
            "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "600",
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        # The paths of Ray's sockets must be shorter than 108 bytes, and TMPDIR, which nox sets, may be long.
        with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
            done = subprocess.run(command, cwd=folder, env=env | {"RAY_TMPDIR": short}, timeout=1200, **pipes)
        self.output, self.status = done.stdout, done.returncode

    def steps(self):
        kept = [torch.load(file, weights_only=False) for file in sorted((self.folder / "kept").glob("*.pt"))]
        return [kept[i : i + 4] for i in range(0, len(kept), 4)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    flags = (*EP_GRPO, "--train.num_episodes", "2", "--logger.tensorboard_dir", "logs")
    settings = ("--zoo.ep_grpo.progress_warmup_steps", str(WARMUP), "--zoo.ep_grpo.num_buckets", "3")
    settings += ("--zoo.dump_rollouts", "rollouts")
    folder = tmp_path_factory.mktemp("run")
    done = Run(folder, sys.executable, DRIVER, "advantage_zoo_openrlhf", "train_ppo_ray", *FLAGS, *flags, *settings)
    assert done.status == 0, done.output[-5000:]
    return done


def padded(parts, name, width):
    return torch.cat([torch.nn.functional.pad(x[name].float(), (0, width - x[name].shape[1])) for x in parts])


def scored(kept, model):
    """Log-probabilities and entropies of a micro-batch under the weights it was made with, by transformers alone."""
    model.load_state_dict(kept["weights"])
    seen = kept["experience"]
    attention = seen["attention_mask"]
    positions = (attention.long().cumsum(-1) - 1).masked_fill(attention == 0, 1)
    with torch.no_grad():
        logits = model(seen["sequences"], attention_mask=attention, position_ids=positions).logits.float() / 0.8
    whole = logits.log_softmax(-1)[:, :-1]
    logprobs = whole.gather(-1, seen["sequences"][:, 1:, None])[..., 0] * seen["action_mask"]
    return {"logprobs": logprobs, "entropies": -(whole.exp() * whole).sum(-1)}


def test_openrlhf_trains_on_the_advantages_of_the_same_batch(run):
    """Of the entropies that the run had: two computations in bfloat16 put tokens near an edge into other buckets."""
    model = LlamaForCausalLM.from_pretrained(run.folder / "tiny", dtype=torch.bfloat16, attn_implementation="eager")
    steps, moved = run.steps(), []
    assert len(steps) == 4
    for number, kept in enumerate(steps):
        seen = [one["experience"] for one in kept]
        width = max(one["action_mask"].shape[1] for one in seen)
        again = [scored(one, model) for one in kept]
        mask = padded(seen, "action_mask", width) != 0
        logprobs, entropies = padded(seen, "action_log_probs", width), padded(kept, "entropies", width)
        torch.testing.assert_close(padded(again, "logprobs", width)[mask], logprobs[mask], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(padded(again, "entropies", width)[mask], entropies[mask], atol=1e-3, rtol=1e-3)
        batch = az.RolloutBatch(
            rewards=torch.cat([one["rewards"] for one in seen]),
            response_mask=mask,
            group_ids=torch.arange(16) // 4,
            num_groups=4,
            logprobs=logprobs,
            ref_logprobs=padded(seen, "base_action_log_probs", width),
            entropies=entropies,
        )
        assert [one["index"] for one in seen] == [[4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3] for i in range(4)]
        advantages = padded(seen, "advantages", width)
        torch.testing.assert_close(advantages, ep_grpo(batch, number), atol=1e-5, rtol=1e-5)
        assert advantages.abs().max() > 0.1
        for wrong in (entropies.roll(1, 1), entropies.roll(1, 0), torch.ones_like(entropies)):
            assert (ep_grpo(replace(batch, entropies=wrong), number) - advantages).abs().max() > 1e-3
        moved.append(float((batch.logprobs - batch.ref_logprobs).abs().max()))
    assert moved[0] < 1e-3 < 0.5 < moved[1]  # the optimiser steps


def ep_grpo(batch, step):
    """The advantages (B, T) of the run's estimator."""
    weight = 0.2 * min(step / WARMUP, 1)
    return az.compute_advantages(batch, "ep_grpo", progress_weight=weight, num_buckets=3).values


def test_the_dump_s_advantages_are_those_of_the_loss(run):
    steps, files = run.steps(), sorted((run.folder / "rollouts").iterdir())
    assert [file.name for file in files] == [f"step_{number:06}.parquet" for number in range(len(steps))]
    for number, (kept, file) in enumerate(zip(steps, files, strict=True)):
        rollouts = read_rollouts(file)
        batch = rollouts.batch()
        advantages = ep_grpo(batch, number)
        rows = [(one["experience"], row) for one in kept for row in range(len(one["experience"]["rewards"]))]
        assert len(rollouts) == len(rows) == 16
        for i, (seen, row) in enumerate(rows):
            there = seen["action_mask"][row] != 0
            assert rollouts.prompts[i] == seen["prompts"][row]
            assert list(rollouts.token_ids[i]) == seen["sequences"][row, 1:][there].tolist()
            found = advantages[i][: int(there.sum())]
            np.testing.assert_allclose(found, seen["advantages"][row][there].numpy(), atol=1e-5)
            assert not advantages[i][int(there.sum()) :].any()


def test_compare_reads_the_dump(run):
    words = ["compare", str(run.folder / "rollouts"), "-e", "grpo,ep_grpo", "--json"]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "ep_grpo" in result.output


def test_the_zoo_s_share_of_the_step(run, capsys):
    """Shares of the time between generation, which OpenRLHF does not measure, and the end of the step."""
    statuses = [status for _, status in re.findall(r"Global step (\d): (\{.*\})", run.output)]
    timing = re.compile(r"'(?:timing|advantage)/(\w+)': ([\d.e-]+)")
    timings = [{k: float(x) for k, x in timing.findall(status)} for status in statuses]
    assert len(timings) == 4
    for found in timings:  # OpenRLHF's own sum does not count our part of make_experience twice
        parts = ("generation", "make_experience", "ppo_train", "broadcast")
        assert found["step_total"] == pytest.approx(sum(found[part] for part in parts))
    whole = [found["make_experience"] + found["ppo_train"] for found in timings]
    with capsys.disabled():
        for what in ("seconds", "seconds_dump"):
            taken = [found[what] for found in timings]
            each = ", ".join(f"{part / step:.2%}" for part, step in zip(taken, whole, strict=True))
            print(f"\n{what}: {sum(taken) / sum(whole):.2%} of the run, of its steps {each}", end="")
    assert sum(taken) < 0.01 * sum(whole)


def test_what_is_shipped_holds_nothing_of_ours(run):
    for kept in run.steps():
        assert all(set(one["experience"]) == set(FIELDS.split()) for one in kept)


def test_diagnostics_reach_openrlhf_s_loggers(run):
    logged = re.findall(r"Global step (\d): (\{.*\})", run.output)
    assert [step for step, _ in logged] == ["1", "2", "3", "4"]
    shares = [float(re.search(r"'advantage/ep_grpo/progress_share': ([\d.e-]+)", status)[1]) for _, status in logged]
    assert shares[0] == 0 < shares[1]
    (folder,) = (run.folder / "logs").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert np.allclose([event.value for event in events.Scalars("train/advantage/ep_grpo/progress_share")], shares)


def test_the_user_s_hook_runs_in_every_process(run):
    assert len(set((run.folder / "kept" / "hooks").read_text().split())) >= 4  # driver, trainer, policy, reference


def test_asynchronous_training_submitted_as_a_job(tmp_path):
    """``ray job submit`` with the user's hook in the job's environment, and ``--train.async_enable``."""
    flags = [*FLAGS, *EP_GRPO, "--train.async_enable"]
    done = Run(
        tmp_path, sys.executable, str(HERE / "submit.py"), DRIVER, "advantage_zoo_openrlhf", "train_ppo_ray", *flags
    )
    assert done.status == 0, done.output[-5000:]
    assert re.search(r"Global step 2: .*'advantage/ep_grpo/progress_share'", done.output)
    assert len(done.steps()) == 2
    for kept in done.steps():
        advantages = torch.cat([one["experience"]["advantages"].flatten() for one in kept])
        assert torch.isfinite(advantages).all()
        assert len(advantages.unique()) > 8  # not one a response
    assert len(set((tmp_path / "kept" / "hooks").read_text().split())) >= 4
