"""A step of verl, without Ray: what the adapter hands over and gives back."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
import verl
from advantage_zoo_verl import training
from advantage_zoo_verl.inputs import Source, rollout_batch
from frameworks.verl_adapter.made import GROUPS, MADE, algorithm, as_batch, columns, proto
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo import core_algos, ray_trainer

import advantage_zoo as az

FEEDABLE = [
    name
    for name in (
        *az.names(),
        *az.presets(),
        "zoo_grpo",
        "zoo_gae",
        "grpo | whiten",
        "rloo()",
        "mix(ep_grpo, dapo, 0.3)",
    )
    if training.is_ours(name)
    and not az.make(name.removeprefix("zoo_")).needs & {"reward_components", "baseline_rewards", "sum_pi_squared"}
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FEEDABLE)
def test_verl_computes_what_the_zoo_computes(name, dtype):
    tensors = columns(np.random.default_rng(0), dtype)
    estimator = az.make(name.removeprefix("zoo_"))
    if "lam" in getattr(estimator, "__dataclass_fields__", {}):
        estimator = replace(estimator, lam=1.0)  # what algorithm.lam is
    expected = az.compute_advantages(as_batch(tensors, *estimator.needs, *estimator.uses), estimator).values
    got = ray_trainer.compute_advantage(proto(tensors), name, config=algorithm(), gamma=1.0, lam=1.0).batch
    assert torch.equal(got["advantages"], expected)
    assert got["advantages"].any() == (name != "passk")  # no group here has as many as its k
    assert not got["advantages"][7].any()
    if "values" not in estimator.needs:
        assert torch.equal(got["returns"], got["advantages"])


def test_the_preset_gives_what_verls_own_grpo_gives():
    rng = np.random.default_rng(1)
    for _ in range(20):
        tensors = columns(rng)
        tensors["token_level_rewards"] *= torch.tensor(rng.random((8, 1)), dtype=torch.float32)
        own, preset = (
            ray_trainer.compute_advantage(proto(tensors), name, config=algorithm()).batch["advantages"]
            for name in (core_algos.AdvantageEstimator.GRPO, "grpo@verl")
        )
        assert (own - preset).abs().max() <= 1e-6 * own.abs().max()


def test_a_reward_at_a_masked_token_is_not_lost():
    """A response may end in tool output, on whose last token verl then puts the reward."""
    tensors = columns(np.random.default_rng(0))
    tensors["response_mask"][:7, -1] = 0
    tensors["token_level_rewards"] = torch.zeros(8, 6)
    tensors["token_level_rewards"][:7, -1] = torch.tensor([1.0, 1, 0, 0, 1, 0, 0])
    own, preset = (
        ray_trainer.compute_advantage(proto(tensors), name, config=algorithm()).batch["advantages"]
        for name in (core_algos.AdvantageEstimator.GRPO, "grpo@verl")
    )
    assert own.any()
    assert (own - preset).abs().max() <= 1e-6


def test_critics_learn_returns_that_are_not_whitened():
    tensors = columns(np.random.default_rng(0))
    tensors = {name: torch.nan_to_num(x) for name, x in tensors.items()}
    advantages, returns = core_algos.compute_gae_advantage_return(
        **{name: tensors[name] for name in ("token_level_rewards", "values", "response_mask")}, gamma=0.9, lam=0.8
    )
    mask = tensors["response_mask"] != 0
    for name in ("zoo_gae", "gae@verl", "gae@verl | clip(-1, 1)", "gae(discount=0.9, lam=0.8, whiten=true)"):
        spelled = name.replace("gae@verl |", "gae@verl(discount=0.9, lam=0.8) |")
        got = ray_trainer.compute_advantage(proto(tensors), spelled, config=algorithm(gamma=0.9, lam=0.8)).batch
        torch.testing.assert_close(got["returns"][mask], returns[mask], atol=1e-5, rtol=0)
        if name == "gae@verl":
            torch.testing.assert_close(got["advantages"][mask], advantages[mask], atol=1e-5, rtol=0)


def test_each_field_is_handed_over_when_it_is_needed_and_only_then():
    asked = []

    class Columns(dict):
        def __getitem__(self, name):
            asked.append(name)
            return super().__getitem__(name)

    tensors = columns(np.random.default_rng(0))
    source = Source(data=SimpleNamespace(batch=tensors, non_tensor_batch={}), algorithm=algorithm())
    args = (tensors["token_level_rewards"], tensors["response_mask"], GROUPS, source)
    for name in ("grpo", "gae", "ep_grpo", "prime", "gtpo"):
        estimator = az.make(name)
        batch = rollout_batch(estimator, *args)
        there = {field for field in MADE.values() if batch.get(field) is not None}
        assert there == (estimator.needs | estimator.uses) & set(MADE.values())
        assert all(batch.get(field).dtype == torch.float32 for field in there)


def test_reward_components_greedy_baselines_and_sums_of_squares():
    rng = np.random.default_rng(0)
    tensors = columns(rng)
    tensors["reward_baselines"] = torch.rand(8)
    tensors["sum_pi_squared"] = torch.rand(8, 6)
    data = proto(tensors)
    data.non_tensor_batch |= {"format": rng.random(8).astype(object), "right": rng.random(8)}
    config = algorithm(gdpo_reward_keys=["format", "right"])
    batch = as_batch(tensors, "logprobs", "token_rewards")
    components = torch.tensor(np.stack([data.non_tensor_batch[key].astype(float) for key in ("format", "right")], 1))
    full = replace(
        batch,
        reward_components=components.float(),
        baseline_rewards=tensors["reward_baselines"],
        extras={"sum_pi_squared": tensors["sum_pi_squared"]},
    )
    for name in ("gdpo()", "gdpo@verl", "remax()", "remax@verl", "otb"):
        got = ray_trainer.compute_advantage(data, name, config=config).batch["advantages"]
        torch.testing.assert_close(got, az.compute_advantages(full, name).values, atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="gdpo_reward_keys names colour, which the reward function did not return"):
        ray_trainer.compute_advantage(data, "gdpo()", config=algorithm(gdpo_reward_keys=["colour"]))


def test_a_field_that_is_missing_in_a_step_is_named_with_its_setting():
    tensors = columns(np.random.default_rng(0))
    del tensors["ref_log_prob"], tensors["entropy"]
    with pytest.raises(
        ValueError, match=r"needs entropies: set .*bypass_mode=False.* needs ref_logprobs: set .*use_kl_loss"
    ):
        ray_trainer.compute_advantage(proto(tensors), "ep_grpo", config=algorithm())


def test_a_reward_that_is_not_finite_is_refused_by_row():
    tensors = columns(np.random.default_rng(0))
    tensors["token_level_rewards"][3, 0] = torch.nan
    with pytest.raises(ValueError, match=r"rewards\[3\] \(row 3\) is nan"):
        ray_trainer.compute_advantage(proto(tensors), "dapo", config=algorithm())


def test_the_first_step_overlooks_the_engines_rounding_and_nothing_else():
    """bfloat16 leaves entropies of sure tokens a little below 0, and must not stop a run."""
    tensors = columns(np.random.default_rng(0), torch.bfloat16)
    tensors["entropy"][0, 0], tensors["old_log_probs"][1, 0] = -0.125, 0.03
    got = ray_trainer.compute_advantage(proto(tensors), "ep_grpo", config=algorithm()).batch["advantages"]
    batch = as_batch(tensors, "logprobs", "ref_logprobs", "entropies")
    assert torch.equal(got, az.compute_advantages(batch, "ep_grpo").values)
    training.TRAINING.seen.clear()
    for column, value, message in (
        ("entropy", -3.0, "entropies.*is -3.0"),
        ("ref_log_prob", torch.nan, "ref_logprobs.*is nan"),
    ):
        broken = {name: x.clone() for name, x in tensors.items()}
        broken[column][0, 0] = value
        with pytest.raises(ValueError, match=message):
            ray_trainer.compute_advantage(proto(broken), "ep_grpo", config=algorithm())


def test_parameters_are_typed_and_gamma_and_lam_hold_where_no_block_sets_them():
    tensors = columns(np.random.default_rng(0))
    config = algorithm(ep_grpo={"num_buckets": "3", "progress_weight": "linear(0, 1, 4)"})
    got = ray_trainer.compute_advantage
    with pytest.raises(ValueError, match="follows a schedule"):
        got(proto(tensors), "ep_grpo", config=config)
    with training._knowing(trainer=SimpleNamespace(global_steps=3)):
        values = got(proto(tensors), "ep_grpo", config=config).batch["advantages"]
    batch = as_batch(tensors, "logprobs", "ref_logprobs", "entropies")
    expected = az.compute_advantages(batch, "ep_grpo", num_buckets=3, progress_weight=0.5).values
    assert torch.equal(values, expected)
    batch = as_batch(tensors, "token_rewards")
    for block, discount in (({}, 0.5), ({"reinforce_pp": {"discount": 0.25}}, 0.25)):
        values = got(proto(tensors), "reinforce_pp", config=algorithm(gamma=0.5, **block)).batch["advantages"]
        assert torch.equal(values, az.compute_advantages(batch, "reinforce_pp", discount=discount).values)


def test_the_description_is_printed_once(capsys):
    tensors = columns(np.random.default_rng(0))
    for _ in range(2):
        ray_trainer.compute_advantage(proto(tensors), "dapo", config=algorithm(dapo={"eps": 1e-4}))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("algorithm.adv_estimator=dapo: dapo(eps=0.0001, ")
    for part in (f"advantage-zoo {az.__version__}", f"verl {verl.__version__}", f"torch {torch.__version__}"):
        assert part in line


def test_the_metrics_come_with_verls_own_and_wait_for_the_device_once(monkeypatch):
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0)).items()}
    reads = []

    def counted(name):
        original = getattr(torch.Tensor, name)

        def read(self, *args):
            reads.append(name)
            return original(self, *args)

        return read

    ray_trainer.compute_advantage(proto(tensors), "ep_grpo", config=algorithm())  # the slow check of the first step
    data = proto(tensors)
    # The quick check of rewards and groups reads them where they can be read without waiting, as here.
    monkeypatch.setattr("advantage_zoo.compute.refuse_broken", lambda batch: True)
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))
    data = ray_trainer.compute_advantage(data, "ep_grpo", config=algorithm())
    assert reads == []
    monkeypatch.setattr(training, "block_of", lambda *_: {})
    full = {name: torch.ones(8, 2) for name in ("prompts", "responses")} | {"attention_mask": torch.ones(8, 8)}
    metrics = training.compute_data_metrics(lambda batch: {}, full)
    assert reads == ["tolist"]
    diagnostics = {name for name in metrics if name.startswith("advantage/ep_grpo/")}
    assert "advantage/ep_grpo/progress_share" in diagnostics
    assert all(isinstance(metrics[name], float) for name in diagnostics)
    assert metrics["timing_s/advantage_zoo"] > 0
    assert training.compute_data_metrics(lambda batch: {}, full) == {}


def test_a_folder_for_rollouts_may_have_a_name_of_digits(monkeypatch, tmp_path):
    """``dump_rollouts=20261125`` is a number to YAML and Hydra."""
    monkeypatch.chdir(tmp_path)
    tensors = columns(np.random.default_rng(0))
    tokens = {"prompts": torch.ones(8, 2).long(), "responses": torch.ones(8, 6).long()}
    data = proto(tensors | tokens | {"attention_mask": torch.ones(8, 8).long()})
    with training._knowing(trainer=SimpleNamespace(global_steps=3, tokenizer=tiny_models.tokenizer())):
        ray_trainer.compute_advantage(data, "dapo", config=algorithm(zoo={"dump_rollouts": 20261125}))
    training.TRAINING.flush()
    assert (tmp_path / "20261125" / "step_000002.parquet").is_file()


@pytest.mark.parametrize("needs", [True, False])
def test_the_legacy_trainer_keeps_entropies_for_the_estimator_that_needs_them(needs):
    """It pops them before advantages are computed (ray_trainer.py:1601), and afterwards they are not in the batch."""
    name = "ep_grpo" if needs else "dapo"
    tensors = columns(np.random.default_rng(0))
    entropies = tensors.pop("entropy")
    trainer = SimpleNamespace(config=OmegaConf.create({"algorithm": algorithm(adv_estimator=name)}), global_steps=1)
    forward = DataProto.from_dict({"old_log_probs": tensors.pop("old_log_probs"), "entropys": entropies})
    for original in (lambda self, batch: (forward, 0.0), lambda self, batch: forward):  # verl 0.9.1, and verl 0.6
        result = training.keep_entropies(original, trainer, None)
        output = result[0] if isinstance(result, tuple) else result
        output = DataProto(output.batch.clone().exclude("entropys"))
        batch = ray_trainer.compute_advantage(proto(tensors).union(output), name, config=algorithm()).batch
        expected = as_batch(
            tensors | {"old_log_probs": forward.batch["old_log_probs"], "entropy": entropies}, *MADE.values()
        )
        assert torch.equal(batch["advantages"], az.compute_advantages(expected, name).values)
        assert ("entropy" in output.batch.keys(), "entropy" in batch.keys()) == (needs, False)  # noqa: SIM118
