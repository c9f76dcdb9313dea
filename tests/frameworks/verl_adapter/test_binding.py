"""How the adapter gets into verl: its points, its names, its loading, and what the doctor says of them."""

import json
import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import verl
from advantage_zoo_verl import checking, training
from advantage_zoo_verl.points import BINDING
from frameworks.verl_adapter.made import (
    DEFAULT_TRAINER,
    KL_LOSS,
    SINCE_0_9,
    algorithm,
    checked,
    columns,
    proto,
    run_python,
)
from verl.trainer.ppo import core_algos, ray_trainer

import advantage_zoo as az
from advantage_zoo.binding import Point, is_ours


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


@SINCE_0_9
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
    assert [finding["detail"] for finding in told].count("as expected, and bound") == (6 if DEFAULT_TRAINER else 5)


def test_the_doctor_says_how_to_load_a_plugin_that_is_not():
    done = run_python(
        "from advantage_zoo.cli import main; main(['doctor'])",
        VERL_USE_EXTERNAL_PLUGINS="none",
        VERL_USE_EXTERNAL_MODULES="",
    )
    assert done.returncode == 1
    assert "VERL_USE_EXTERNAL_MODULES=advantage_zoo_verl" in " ".join(done.stdout.split())
