"""ZooGRPOTrainer: real steps of TRL on a tiny model, on the CPU."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("trl")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # TRL's warning of rollout_func

import tiny_trl
import torch
from advantage_zoo_trl import ZooGRPOTrainer, doctor, points, script
from click.testing import CliRunner
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tiny_trl import PROMPTS, Watched, config, few_digits, length, prompts, scored_anew, strayed
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOTrainer

import advantage_zoo as az
from advantage_zoo.cli import main
from advantage_zoo.rollouts import RolloutFileError, read, read_rollouts

# TRL's use of transformers, and PyTorch's of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Groups? of one"),
]
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_trl.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def watched(model, tmp_path):
    """A trainer that has made its steps."""

    def train(estimator, rewards=few_digits, policy=model, args=None, data=None, steps=True, **named):
        settings = config(tmp_path, **(args or {}))
        tokenizer = AutoTokenizer.from_pretrained(model)
        data = prompts() if data is None else data
        trainer = Watched(
            policy, rewards, settings, data, processing_class=tokenizer, advantage_estimator=estimator, **named
        )
        if steps:
            trainer.train()
        return trainer

    return train


@pytest.fixture
def own(monkeypatch):
    """What TRL itself computes in the same run, (B,) a generation."""
    kept = []
    original = GRPOTrainer._generate_and_score_completions

    def keep(self, inputs):
        output = original(self, inputs)
        kept.append(output["advantages"].clone())
        return output

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", keep)
    return kept


@pytest.fixture
def passes(monkeypatch):
    """Forward passes without gradient: which model each was of."""
    made = []
    original = GRPOTrainer._get_per_token_logps_and_entropies

    def count(self, model, *given, **named):
        if not torch.is_grad_enabled():
            made.append("policy" if model is self.model else "reference")
        return original(self, model, *given, **named)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", count)
    return made


def rewards_of(trainer):
    return list(trainer._logs["rewards"]["few_digits"])


def moved(trainer, model):
    """Whether every weight that can be trained has moved, and all are finite."""
    before = AutoModelForCausalLM.from_pretrained(model).state_dict()
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    assert all(bool(x.isfinite().all()) for x in after.values())
    return any(not torch.equal(before[name], after[name]) for name in before)


def once(**changes):
    return {"max_steps": 1, **changes}


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


def test_what_dumping_costs(watched, model, tmp_path, capsys):
    """A share, not a time: the machine may be busy. The file is written while the policy is updated."""
    args = {"max_steps": 4, "per_device_train_batch_size": 32, "max_completion_length": 40}
    trainer = watched("ep_grpo", args=args, data=prompts(32), dump_rollouts=tmp_path / "rollouts")
    logs = [entry for entry in trainer.state.log_history if "step_time" in entry]
    shares = [entry["advantage/seconds_dump"] / entry["step_time"] for entry in logs]
    steps = [entry["step_time"] for entry in logs]
    with capsys.disabled():
        print("\ndumping's share of each step:", ", ".join(f"{share:.2%}" for share in shares), end="; ")
        print("steps of", ", ".join(f"{seconds:.2f} s" for seconds in steps))
    assert len(shares) == 4
    assert min(shares) < 0.05


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
    example = Path(__file__).parents[2] / "integrations" / "trl" / "grpo.yaml"
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
    with pytest.raises(ValueError, match=r"--estimator_args is '\{num_buckets: 3\}', which is no JSON"):
        script.main([*words, "--estimator_args", "{num_buckets: 3}"])


@pytest.mark.parametrize("point", points.POINTS, ids=lambda point: point.name)
def test_trl_is_as_the_adapter_expects_it(point):
    assert not point.problem()


def test_the_doctor_tells_what_has_moved(monkeypatch):
    assert all(finding.ok for finding in doctor.examine())
    gone = replace(points.POINTS[0], statements=("self.beta = args.kappa",))
    absent = replace(points.POINTS[0], name="GRPOTrainer.no_such_method")
    monkeypatch.setattr(doctor, "POINTS", (gone, absent))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.17.2")
    version, moved_away, missing = doctor.examine()
    assert not version.ok
    assert "install trl==1.16.0" in version.detail
    assert "has no 'self.beta = args.kappa'" in moved_away.detail
    assert "no_such_method is not there" in missing.detail


def test_the_page_names_every_point():
    page = (Path(__file__).parents[2] / "docs" / "adapters" / "trl.md").read_text()
    assert [point.name for point in points.POINTS if f"`{point.name.split('.')[-1]}`" not in page] == []
