"""The adapter into verl against verl's own functions, without Ray: what a step hands over, what start-up refuses."""

import json
import logging
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import advantage_zoo as az
from advantage_zoo.binding import Point, is_ours

torch = pytest.importorskip("torch")
pytest.importorskip("verl")

DEFAULT_TRAINER = tuple(map(int, version("verl").split(".")[:2])) >= (0, 9)

with warnings.catch_warnings():  # of verl's own imports
    warnings.simplefilter("ignore")
    import verl
    from hydra import compose, initialize_config_dir, initialize_config_module
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.ppo import core_algos, ray_trainer

    if DEFAULT_TRAINER:
        from verl.trainer.ppo.v1 import trainer_base

    from advantage_zoo_verl import checking, training
    from advantage_zoo_verl.inputs import Source, rollout_batch
    from advantage_zoo_verl.points import BINDING

KL_LOSS = ("actor_rollout_ref.actor.use_kl_loss=True", "actor_rollout_ref.actor.kl_loss_coef=0.0")
MICRO = tuple(
    f"actor_rollout_ref.{part}=1"
    for part in (
        "actor.ppo_micro_batch_size_per_gpu",
        "rollout.log_prob_micro_batch_size_per_gpu",
        "ref.log_prob_micro_batch_size_per_gpu",
    )
)
GROUPS = ["b", "a", "c", "a", "b", "a", "b", "pad0"]  # unequal, out of order, one alone, one of padding
MADE = {"old_log_probs": "logprobs", "ref_log_prob": "ref_logprobs", "entropy": "entropies", "values": "values"}


def configured(*overrides):
    """verl's own configuration, as its command line makes it."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", [*MICRO, "actor_rollout_ref.rollout.n=4", *overrides])


def checked(name, *overrides):
    from verl.utils.config import validate_config

    config = configured(f"algorithm.adv_estimator={name}", *overrides)
    validate_config(config=config, use_reference_policy=False, use_critic=False)


def algorithm(**blocks):
    return OmegaConf.create({"gamma": 1.0, "lam": 1.0} | blocks)


def columns(rng, dtype=torch.float32):
    """Eight rows of verl's columns; holes in the mask, a row of padding, NaN where nobody should look."""
    mask = torch.tensor(rng.random((8, 6)) < 0.7)
    mask[:, 0] = True
    mask[7] = False
    made = {
        "old_log_probs": -torch.tensor(rng.random((8, 6))),
        "ref_log_prob": -torch.tensor(rng.random((8, 6))),
        "entropy": torch.tensor(rng.random((8, 6))),
        "values": torch.tensor(rng.random((8, 6))),
    }
    made = {name: torch.where(mask, x, torch.nan).to(dtype) for name, x in made.items()}
    rewards = torch.zeros(8, 6)
    outcomes = torch.tensor([1, 0.25, 1, 0, 0, 1, 0.5])
    rewards[torch.arange(7), 5 - mask[:7].flip(1).int().argmax(1)] = outcomes
    return {"token_level_rewards": rewards, "response_mask": mask.long(), **made}


def proto(tensors, groups=GROUPS):
    return DataProto.from_dict(dict(tensors), non_tensors={"uid": np.array(groups, dtype=object)})


def as_batch(tensors, *fields, groups=GROUPS):
    ids = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    return az.RolloutBatch(
        rewards=tensors["token_level_rewards"].sum(1),
        response_mask=tensors["response_mask"] != 0,
        group_ids=torch.tensor([ids[group] for group in groups]),
        num_groups=len(ids),
        **{field: tensors[column].float() for column, field in MADE.items() if field in fields},
        **({"token_rewards": tensors["token_level_rewards"]} if "token_rewards" in fields else {}),
    )


@pytest.fixture(autouse=True)
def quiet():
    """What the first batch is warned about (one group is alone, one row is padding) is not what is tested here."""
    training._announced.clear()
    training._metrics.clear()
    training._seconds.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", az.RolloutWarning)
        yield


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


def test_every_name_that_verl_does_not_have_is_registered_and_no_other():
    theirs = {member.value for member in core_algos.AdvantageEstimator}
    ours = {name for name, function in core_algos.ADV_ESTIMATOR_REGISTRY.items() if is_ours(function)}
    spelled = {name for name in ours if set(name) & set("|( ")}
    assert ours - spelled == ({*az.names(), *az.presets()} - theirs) | {"zoo_grpo", "zoo_gae"}
    for name in theirs & set(core_algos.ADV_ESTIMATOR_REGISTRY):
        assert core_algos.ADV_ESTIMATOR_REGISTRY[name].__module__ == "verl.trainer.ppo.core_algos"


def test_a_users_own_estimator_has_the_right_to_its_name(monkeypatch):
    monkeypatch.setattr(core_algos, "ADV_ESTIMATOR_REGISTRY", dict(core_algos.ADV_ESTIMATOR_REGISTRY))

    @core_algos.register_adv_est("dapo")
    def mine(token_level_rewards, response_mask, **_):
        return token_level_rewards, token_level_rewards

    assert core_algos.get_adv_estimator_fn("dapo") is mine
    tensors = columns(np.random.default_rng(0))
    got = ray_trainer.compute_advantage(proto(tensors), "dapo", config=algorithm()).batch["advantages"]
    assert torch.equal(got, tensors["token_level_rewards"])
    checked("dapo", "actor_rollout_ref.rollout.n=1", "+algorithm.dapo.alpha=3")  # none of our business
    with pytest.raises(ValueError, match="already been registered"):
        core_algos.register_adv_est("dapo")(lambda **_: None)


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
    training._announced.clear()
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
            "algorithm.ep_gpro is no setting .* did you mean algorithm.ep_grpo",
        ),
        ("ep_grpo", (*KL_LOSS, "+algorithm.num_buckets=5"), r"write \+algorithm.ep_grpo.num_buckets=5"),
        ("'ep_grpo | whiten'", (*KL_LOSS, "+algorithm.ep_grpo.num_buckets=5"), r"write ep_grpo\(key=value\) in it"),
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


class Queue:
    """The TransferQueue of the default trainer: rows by key, ragged, with nothing of a column that nobody put."""

    def __init__(self, monkeypatch, tensors, keys):
        import transfer_queue

        lengths = [int(mask.nonzero().max()) + 1 if mask.any() else 1 for mask in tensors["response_mask"]]
        self.keys, self.fetched, self.put = keys, [], {}
        self.rows = [
            {name: x[row, :length] for name, x in tensors.items()} | {"uid": key.rsplit("_", 2)[0]}
            for row, (key, length) in enumerate(zip(keys, lengths, strict=True))
        ]
        monkeypatch.setattr(transfer_queue, "kv_batch_get", self.get)
        monkeypatch.setattr(transfer_queue, "kv_batch_put", self.keep)

    def get(self, keys, partition_id, select_fields):
        from verl.utils.tensordict_utils import list_of_dict_to_tensordict

        assert (keys, partition_id) == (self.keys, "train")
        self.fetched.append(select_fields)
        known = [name for name in select_fields if name in self.rows[0]]
        return list_of_dict_to_tensordict([{name: row[name] for name in known} for row in self.rows])

    def keep(self, keys, partition_id, fields):
        self.put = {name: list(fields[name].unbind()) for name in fields.keys()}  # noqa: SIM118 - a TensorDict

    def advantages(self, name, *overrides, step=1):
        """What the default trainer's own method puts into the queue, a tensor a row."""
        config = configured(f"algorithm.adv_estimator={name}", *overrides)
        trainer = SimpleNamespace(config=config, global_steps=step)
        rows = type("Rows", (), {"keys": self.keys, "partition_id": "train", "__len__": lambda _: len(self.keys)})()
        trainer_base.PPOTrainer._compute_advantage(trainer, rows, metrics={})
        return self.put["advantages"]


def queued(tensors):
    """verl's columns under the names that they have in the queue."""
    return {"rm_scores" if name == "token_level_rewards" else name: x for name, x in tensors.items()}


@pytest.mark.skipif(not DEFAULT_TRAINER, reason="the default trainer came with verl 0.9")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["ep_grpo", "grpo@verl", "prime", "reinforce_pp"])
def test_the_default_trainer_gets_entropies_from_its_queue(monkeypatch, name, dtype):
    """Rows are ragged and out of order, and one is padding, as verl's balancing leaves them."""
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0), dtype).items()}
    queue = Queue(monkeypatch, queued(tensors), [f"{group}_{row}_0" for row, group in enumerate(GROUPS)])
    got = queue.advantages(name)
    expected = az.compute_advantages(as_batch(tensors, *az.make(name).needs, *az.make(name).uses), name).values
    for row, values in enumerate(got):
        torch.testing.assert_close(values, expected[row, : len(values)], atol=1e-6, rtol=1e-6)
    assert queue.fetched[1:] == {"ep_grpo": [["uid", "entropy"]], "prime": [["uid", "process_logprobs"]]}.get(name, [])


@pytest.mark.skipif(not DEFAULT_TRAINER, reason="the default trainer came with verl 0.9")
def test_a_session_with_several_outputs_is_scored_by_its_last_as_in_verls_grpo(monkeypatch):
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0)).items()}
    keys = ["b_0_0", "a_0_0", "c_0_0", "a_1_1", "b_1_0", "a_1_0", "b_0_1", "pad0_0_0"]
    queue = Queue(monkeypatch, queued(tensors), keys)
    own, preset = (queue.advantages(name) for name in ("grpo", "grpo@verl"))
    for one, other in zip(own, preset, strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match=r"several output rows, and ep_grpo does not give one advantage to all tokens"):
        queue.advantages("ep_grpo")


@pytest.mark.skipif(not DEFAULT_TRAINER, reason="the default trainer came with verl 0.9")
def test_the_default_trainer_keeps_reward_components_in_a_dictionary_a_row(monkeypatch):
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0)).items()}
    queue = Queue(monkeypatch, queued(tensors), [f"{group}_{row}_0" for row, group in enumerate(GROUPS)])
    components = np.random.default_rng(1).random((8, 2)).astype(np.float32)
    for row, (form, right) in zip(queue.rows, components, strict=True):
        row["extra_fields"] = {"reward_extra_info": {"format": float(form), "right": float(right)}}
    got = queue.advantages("gdpo@verl", "+algorithm.gdpo_reward_keys=[format,right]")
    batch = replace(as_batch(tensors), reward_components=torch.tensor(components))
    expected = az.compute_advantages(batch, "gdpo@verl").values
    for row, values in enumerate(got):
        torch.testing.assert_close(values, expected[row, : len(values)], atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(not DEFAULT_TRAINER, reason="the default trainer came with verl 0.9")
def test_a_schedule_follows_the_trainers_step(monkeypatch):
    tensors = {name: torch.nan_to_num(x) for name, x in columns(np.random.default_rng(0)).items()}
    queue = Queue(monkeypatch, queued(tensors), [f"{group}_{row}_0" for row, group in enumerate(GROUPS)])
    batch = as_batch(tensors, "logprobs", "ref_logprobs", "entropies")
    for step, weight in ((1, 0.0), (6, 0.1), (11, 0.2), (500, 0.2)):
        got = queue.advantages("ep_grpo", "+algorithm.ep_grpo.progress_warmup_steps=10", step=step)
        expected = az.compute_advantages(batch, "ep_grpo", progress_weight=weight).values
        for row, values in enumerate(got):
            torch.testing.assert_close(values, expected[row, : len(values)], atol=1e-6, rtol=1e-6)


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


CONFIGS = Path(__file__).parents[2] / "integrations" / "verl"


@pytest.mark.skipif(not DEFAULT_TRAINER, reason="they are written for verl 0.9")
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


@pytest.mark.parametrize("point", BINDING.points, ids=str)
def test_every_point_is_where_it_was_and_bound(point):
    """Fails loudly when verl moves one; doctor says the same to users."""
    (finding,) = (finding for finding in BINDING.findings() if finding.what == str(point))
    legacy_only = "v1" in point.module and not DEFAULT_TRAINER
    assert (finding.ok, finding.detail) == (True, "not in this release" if legacy_only else "as expected, and bound")


def test_a_point_that_moves_is_logged_and_stops_the_run(monkeypatch, caplog):
    """Those who do not use the zoo are left alone."""
    gone = Point("verl.trainer.ppo.ray_trainer", "RayPPOTrainer.gone", "", "advantage_zoo_verl.training:know_rows")
    other = Point("verl.trainer.ppo.metric_utils", "compute_data_metrics", "sums", gone.ours)
    moved = replace(BINDING, points=(gone, other), problems={})
    with caplog.at_level(logging.ERROR):
        moved.bind_module(ray_trainer)
        moved.bind_module(sys.modules[other.module])
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    for module in (checking, training):
        monkeypatch.setattr(module, "BINDING", moved)
    message = rf"does not fit verl {verl.__version__}: .*RayPPOTrainer.gone could not be bound.*it takes no sums"
    with pytest.raises(RuntimeError, match=message):
        checked("ep_grpo", *KL_LOSS)
    with pytest.raises(RuntimeError, match=message):
        ray_trainer.compute_advantage(proto(columns(np.random.default_rng(0))), "dapo", config=algorithm())
    checked("grpo")
    assert not any(finding.ok for finding in moved.findings())


def test_binding_twice_changes_nothing():
    before = ray_trainer.compute_advantage, list(sys.meta_path)
    BINDING.bind()
    BINDING.bind_module(ray_trainer)
    assert (ray_trainer.compute_advantage, sys.meta_path) == before


def run_python(code, **env):
    env = {**os.environ, "PYTHONWARNINGS": "ignore", **env}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)


@pytest.mark.skipif(not DEFAULT_TRAINER, reason="verl looks for entry points since 0.9")
def test_importing_verl_makes_no_registry_and_imports_nothing_that_trains():
    modules = ("advantage_zoo_verl.points", "advantage_zoo_verl.training", "verl.trainer.ppo.core_algos")
    done = run_python(
        f"import sys, verl; print([name in sys.modules for name in {modules}]); "
        "from advantage_zoo import registry; print(registry._loaded)"
    )
    assert done.stdout.split("\n")[-3:-1] == ["[True, False, False]", "{}"], done.stderr


@pytest.mark.parametrize("loading", ["entry point", "environment"])
def test_an_adapter_that_does_not_load_stops_verl_with_our_message(loading):
    if loading == "entry point" and not DEFAULT_TRAINER:
        pytest.skip("verl looks for entry points since 0.9")
    env = {} if loading == "entry point" else {"VERL_USE_EXTERNAL_MODULES": "advantage_zoo_verl"}
    done = run_python(
        "import sys; sys.modules['advantage_zoo_verl.points'] = None; import verl; print('went on')", **env
    )
    assert done.returncode == 1
    assert "went on" not in done.stdout
    assert "advantage-zoo could not bind itself to verl (ModuleNotFoundError" in done.stderr


def test_the_doctor_finds_everything_in_order():
    loaded = {} if DEFAULT_TRAINER else {"VERL_USE_EXTERNAL_MODULES": "advantage_zoo_verl"}
    done = run_python("from advantage_zoo.cli import main; main(['doctor', '--json'])", **loaded)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)["verl"]
    assert [finding["detail"] for finding in told].count("as expected, and bound") == (7 if DEFAULT_TRAINER else 6)


def test_the_doctor_says_how_to_load_a_plugin_that_is_not():
    done = run_python(
        "from advantage_zoo.cli import main; main(['doctor'])",
        VERL_USE_EXTERNAL_PLUGINS="none",
        VERL_USE_EXTERNAL_MODULES="",
    )
    assert done.returncode == 1
    assert "VERL_USE_EXTERNAL_MODULES=advantage_zoo_verl" in " ".join(done.stdout.split())
