"""What verl's own trainer dumps of a step, read by `compare`."""

import json
import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("verl")

import numpy as np
import tiny_models
import torch
from click.testing import CliRunner
from frameworks.keep import keep

from advantage_zoo.cli import main
from advantage_zoo.rollouts import read
from advantage_zoo.rollouts.dumps import WORDS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what verl imports warns
    from verl import DataProto
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore")

PROMPTS = ["1+2=", "3+4="]
ANSWERS = ["3", "4, no 3", "5", "3;", "7", "8", "7", "9, or 7"]


def trainer(step):
    """A trainer with as much of itself as it needs to dump."""
    made = object.__new__(RayPPOTrainer)
    made.tokenizer, made.global_steps = tiny_models.tokenizer(), step
    made._init_dump_executor()
    return made


def batch(tokenizer):
    """Eight responses as verl holds them, padded, the score on the last token."""
    asked = tokenizer([PROMPTS[i // 4] for i in range(8)], return_tensors="pt").input_ids
    answered = tokenizer(ANSWERS, return_tensors="pt", padding=True)
    scores = torch.zeros(answered.input_ids.shape)
    for row, answer in enumerate(ANSWERS):
        scores[row, len(answer) - 1] = float(answer.endswith("37"[row // 4]))
    truth = [{"ground_truth": "37"[row // 4]} for row in range(8)]
    return DataProto.from_dict(
        tensors={"prompts": asked, "responses": answered.input_ids, "token_level_scores": scores},
        non_tensors={"reward_model": np.array(truth, dtype=object)},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``trainer.rollout_data_dir`` after two steps."""
    out = tmp_path_factory.mktemp("verl")
    for step in (1, 2):
        one = trainer(step)
        one._log_rollout_data(batch(one.tokenizer), {"acc": np.arange(8) / 8}, {}, str(out))
        one._shutdown_dump_executor()
    keep(out, "verl", "*.jsonl")
    return out


def test_the_dump_of_two_steps_is_read(folder):
    rollouts, notes = read(folder)
    assert rollouts.metadata["format"] == "verl"
    assert rollouts.texts == ANSWERS * 2
    assert rollouts.prompts == [PROMPTS[i // 4] for i in range(8)] * 2
    assert rollouts.rewards == [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0] * 2
    assert rollouts.groups == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert notes == [WORDS]
    assert read(folder, {"reward": "acc"})[0].rewards == pytest.approx(list(np.arange(8) / 8) * 2)


def test_compare_runs_what_the_dump_can_feed(folder):
    out = CliRunner().invoke(main, ["compare", str(folder), "--json"])
    assert out.exit_code == 0, out.output
    told = json.loads(out.stdout)
    assert {"grpo", "rloo", "dr_grpo"} <= {entry["name"] for entry in told["estimators"]}
    assert "ep_grpo" in told["left_out"]


def test_the_keys_of_the_trainer_of_v1_tell_the_groups(tmp_path):
    keys = [f"uid-{prompt}_{session}_0" for prompt in range(2) for session in range(2)]
    PPOTrainer._write_generations(
        ["same"] * 4, list("abcd"), [None] * 4, [0.0, 1.0, 1.0, 1.0], {"uid": keys}, tmp_path, 7
    )
    assert read(tmp_path / "7.jsonl")[0].groups == [0, 0, 1, 1]
