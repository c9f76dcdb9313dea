"""ZooGRPOTrainer: real steps of TRL on a tiny model, on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_trl
import torch
from advantage_zoo_trl import script
from frameworks.trl_adapter.made import QUIET, once
from tiny_trl import PROMPTS, few_digits, prompts, scored_anew, strayed
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer

import advantage_zoo as az
from advantage_zoo.rollouts import read_rollouts

pytestmark = QUIET


def test_several_steps_a_generation(watched, model):
    trainer = watched("ep_grpo", args={"num_iterations": 2, "steps_per_generation": 2, "max_steps": 4})
    assert len(trainer.outputs) == 1  # 4 steps are 2 passes over 2 parts of one generation
    assert len(trainer.losses) == 4
    handed = torch.cat([loss["advantages"] for loss in trainer.losses[:2]])
    assert sorted(handed.sum(1).tolist()) == sorted(trainer.outputs[0]["advantages"].sum(1).tolist())


def test_schedules_follow_the_optimiser_step(watched, model):
    trainer = watched(
        "ep_grpo", policy=strayed(model), args={"max_steps": 3}, estimator_args={"progress_warmup_steps": 2}
    )
    assert str(trainer.estimator) == "ep_grpo(progress_weight=linear(0, 0.2, 2))"
    reference = AutoModelForCausalLM.from_pretrained(model)
    policy = strayed(model)
    for step, (output, weights) in enumerate(zip(trainer.outputs, trainer.policies, strict=True)):
        policy.load_state_dict(weights)
        rewards = few_digits(trainer.processing_class.batch_decode(output["completion_ids"], skip_special_tokens=True))
        batch = scored_anew([output], rewards, policy, reference)
        expected = az.compute_advantages(batch, "ep_grpo", progress_weight=(0.0, 0.1, 0.2)[step]).values
        np.testing.assert_allclose(output["advantages"], expected, atol=2e-4)


def test_logs_and_the_table_of_completions(watched, model):
    import pandas as pd

    trainer = watched("ep_grpo", policy=strayed(model), args=once(log_completions=True))
    entry = trainer.state.log_history[0]
    named = {"progress_share", "sign_flips", "zero_variance_groups", "abs_mean", "zero_share"}
    assert named <= {key.split("/")[-1] for key in entry if key.startswith("advantage/ep_grpo/")}
    json.dumps(entry)
    (output,) = trainer.outputs
    mask = output["completion_mask"]
    means = (output["advantages"].sum(1) / mask.sum(1)).tolist()
    assert entry["advantage/ep_grpo/abs_mean"] == pytest.approx(float(output["advantages"].abs().sum() / mask.sum()))
    table = pd.read_parquet(next(Path(trainer.args.output_dir).glob("completions/*.parquet")))
    np.testing.assert_allclose(table["advantage"], means, rtol=1e-5)


def test_evaluation(watched):
    args = {"num_generations_eval": 2, "per_device_eval_batch_size": 4}
    trainer = watched("ep_grpo", args=args, eval_dataset=prompts(1))
    trained = len(trainer.outputs)
    told = trainer.evaluate()
    assert len(trainer.outputs) > trained
    assert np.isfinite(told["eval_loss"])
    assert any(key.startswith("eval_advantage/ep_grpo/") for entry in trainer.state.log_history for key in entry)


def test_resuming_gives_the_same_curve(watched):
    def curve(trainer):
        keys = ("loss", "reward", "advantage/ep_grpo/abs_mean", "advantage/ep_grpo/progress_share")
        return [[entry[key] for key in keys] for entry in trainer.state.log_history if "loss" in entry]

    args = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    warm = {"estimator_args": {"progress_warmup_steps": 4}}
    whole = watched("ep_grpo", args=args, **warm)
    resumed = watched("ep_grpo", args=args, steps=False, **warm)
    resumed.train(resume_from_checkpoint=str(Path(whole.args.output_dir) / "checkpoint-2"))
    np.testing.assert_allclose(curve(resumed), curve(whole), rtol=1e-5)


def test_two_processes_are_one_batch(model, tmp_path):
    """Groups of four with two responses on each process, of different widths."""
    code = Path(__file__).parent / "trl_process.py"
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(code), model, str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    reference = AutoModelForCausalLM.from_pretrained(model)
    outputs = [rank["output"] for rank in ranks]
    widths = [output["advantages"].shape[1] for output in outputs]
    assert widths[0] != widths[1]
    expected = az.compute_advantages(
        scored_anew(outputs, ranks[0]["rewards"], strayed(model), reference), "ep_grpo"
    ).values
    for rank, output in enumerate(outputs):
        np.testing.assert_allclose(output["advantages"], expected[2 * rank :][:2, : widths[rank]], atol=2e-4)
    assert np.ptp(expected) > 0.1
    first, second = (rank["weights"] for rank in ranks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert ranks[0]["table"] == ranks[1]["table"]
    assert len(ranks[0]["table"]) == 4
    (file,) = (tmp_path / "rollouts").iterdir()  # one process writes, what all have
    rollouts = read_rollouts(file)
    assert rollouts.groups == [0, 0, 0, 0]
    assert [len(ids) for ids in rollouts.token_ids] == [4, 3, 6, 3]
    assert rollouts.rewards == ranks[0]["rewards"]
    np.testing.assert_allclose(az.compute_advantages(rollouts.batch(), "ep_grpo").values, expected, atol=2e-4)


def test_the_script(model, tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in PROMPTS * 4))
    monkeypatch.chdir(Path(tiny_trl.__file__).parent)
    example = Path(__file__).parents[3] / "integrations" / "trl" / "grpo.yaml"
    words = ["--config", str(example), "--model_name_or_path", model, "--dataset_name", str(data)]
    words += ["--reward_funcs", "tiny_trl.few_digits", "--output_dir", str(tmp_path / "out"), "--max_steps", "2"]
    words += ["--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "6"]
    words += ["--use_cpu", "--bf16", "false", "--dtype", "float32", "--gradient_checkpointing", "false"]
    words += ["--save_strategy", "no", "--dataloader_pin_memory", "false", "--use_peft", "false"]
    before = GRPOTrainer
    rollouts = tmp_path / "rollouts"
    script.main([*words, "--estimator_args", '{"num_buckets": 3}', "--dump_rollouts", str(rollouts)])
    assert [len(read_rollouts(file)) for file in sorted(rollouts.iterdir())] == [32, 32]
    import trl

    assert trl.GRPOTrainer is before
    assert (tmp_path / "out" / "model.safetensors").exists()
    with pytest.raises(TypeError, match=r"estimator_args.num_buckets: rloo has no parameter"):  # the file's own
        script.main([*words, "--advantage_estimator", "rloo"])
    script.main([*words, "--advantage_estimator", "rloo", "--estimator_args", "{}"])
    with pytest.raises(ValueError, match=r"--estimator_args is '\{num_buckets: 3\}', which is no JSON"):
        script.main([*words, "--estimator_args", "{num_buckets: 3}"])
