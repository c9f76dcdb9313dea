"""Rollouts on disk while ZooGRPOTrainer trains."""

import os
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from datasets import Dataset
from frameworks.trl_adapter.made import QUIET, once, rewards_of
from tiny_trl import PROMPTS, prompts, strayed

import advantage_zoo as az
from advantage_zoo.cli import main
from advantage_zoo.rollouts import RolloutFileError, read, read_rollouts

pytestmark = QUIET


@pytest.mark.parametrize("estimator", ["ep_grpo", "grpo"])
def test_dumped_rollouts_are_those_that_the_advantages_are_of(watched, model, tmp_path, estimator):
    """And no forward pass is made for them: what the estimator does not need is there if TRL has it anyway."""
    trainer = watched(estimator, policy=strayed(model), dump_rollouts=tmp_path / "rollouts")
    files = sorted((tmp_path / "rollouts").iterdir())
    assert [file.name for file in files] == ["step_000000.parquet", "step_000001.parquet"]
    tokenizer = trainer.processing_class
    for output, file in zip(trainer.outputs, files, strict=True):
        rollouts = read_rollouts(file)
        mask = output["completion_mask"] != 0
        expected = az.compute_advantages(rollouts.batch(), estimator).values
        np.testing.assert_allclose(output["advantages"][:, : expected.shape[1]], expected, atol=2e-4)
        assert rollouts.token_ids == [
            ids[keep].tolist() for ids, keep in zip(output["completion_ids"], mask, strict=True)
        ]
        assert rollouts.prompts == [
            tokenizer.decode(ids[keep != 0])
            for ids, keep in zip(output["prompt_ids"], output["prompt_mask"], strict=True)
        ]
        assert (rollouts.entropies is None) == (estimator == "grpo")
    assert rollouts.rewards == rewards_of(trainer)
    assert rollouts.metadata == {"source": "TRL", "step": 1}
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "rollouts"), "-e", estimator, "--json"])
    assert done.exit_code == 0, done.output


def test_several_generations_a_step_are_several_files_whose_groups_are_kept_apart(watched, tmp_path):
    args = {"max_steps": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 1}
    watched("grpo", args=args, dump_rollouts=tmp_path / "rollouts")
    files = sorted(file.name for file in (tmp_path / "rollouts").iterdir())
    assert files == [f"step_00000{step}{part}.parquet" for step in (0, 1) for part in ("", "_1")]
    rollouts, _ = read(tmp_path / "rollouts")
    assert len(set(rollouts.groups)) == 8
    assert {rollouts.groups.count(group) for group in set(rollouts.groups)} == {4}


def test_conversations_and_tool_output_are_dumped(watched, tmp_path):
    conversations = Dataset.from_dict({"prompt": [[{"role": "user", "content": text}] for text in PROMPTS * 4]})

    def answers(given, trainer):
        chosen = [[4, 5, 6, 2]] * len(given)
        return {
            "prompt_ids": [[4, 5]] * len(given),
            "completion_ids": chosen,
            "logprobs": [[0.0] * 4] * len(given),
            "env_mask": [[1, 0, 1, 1]] * len(given),
        }

    watched(
        "grpo",
        rewards=lambda completions, **_: [float(i % 3) for i in range(len(completions))],
        args=once(),
        data=conversations,
        rollout_func=answers,
        dump_rollouts=tmp_path / "rollouts",
    )
    rollouts = read_rollouts(tmp_path / "rollouts" / "step_000000.parquet")
    assert rollouts.response_mask == [[True, False, True, True]] * 8
    assert rollouts.token_ids == [[4, 5, 6, 2]] * 8
    assert set(rollouts.prompts) <= {f"user: {text}" for text in PROMPTS}


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_first_step(watched, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RolloutFileError, match=r"file/rollouts can't be made or written to \(Not a directory\)"):
        watched("grpo", steps=False, dump_rollouts=tmp_path / "file" / "rollouts")


def test_what_cannot_be_written_ends_the_run_at_the_next_step(watched, tmp_path):
    (tmp_path / "step_000000.parquet").mkdir()
    with pytest.raises(RolloutFileError, match=r"step_000000.parquet can't be written"):
        watched("grpo", dump_rollouts=tmp_path)


def test_a_last_step_that_cannot_be_written_is_said_and_the_policy_is_not_lost(watched, tmp_path):
    (tmp_path / "step_000001.parquet").mkdir()
    with pytest.warns(UserWarning, match=r"The last rollouts are lost: .*step_000001.parquet can't be written"):
        trainer = watched("grpo", dump_rollouts=tmp_path)
    assert trainer.state.global_step == 2


def test_what_dumping_costs(watched, tmp_path, capsys, monkeypatch):
    """From the first step on, the training copies and another process writes. Shares, as the machine may be busy."""
    written = []
    for there, name in ((pq, "write_table"), (os, "fsync")):
        original = getattr(there, name)
        seen = partial(lambda call, *args, **more: written.append(call) or call(*args, **more), original)
        monkeypatch.setattr(there, name, seen)
    args = {"max_steps": 9, "per_device_train_batch_size": 32, "max_completion_length": 40}
    trainer = watched("ep_grpo", args=args, data=prompts(32), dump_rollouts=tmp_path / "rollouts")
    logs = [entry for entry in trainer.state.log_history if "step_time" in entry]
    shares = [entry["advantage/seconds_dump"] / entry["step_time"] for entry in logs]
    steps = [entry["step_time"] for entry in logs]
    with capsys.disabled():
        print("\ndumping's share of each step:", ", ".join(f"{share:.2%}" for share in shares), end="; ")
        print("steps of", ", ".join(f"{seconds:.2f} s" for seconds in steps))
    assert not written
    assert len(list((tmp_path / "rollouts").iterdir())) == len(shares) == 9
    assert sorted(shares)[4] < 0.01  # steps of 0.08 s: 0.5 %
