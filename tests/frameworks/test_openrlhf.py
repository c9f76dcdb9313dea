"""Presets against OpenRLHF's own experience maker, in an environment where OpenRLHF is installed."""

import importlib
import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openrlhf")

from golden.calls_openrlhf import CALLS, call
from golden.common import Batch, compare_on_random_batches, complete, values_of

import advantage_zoo as az

WIDE = {"clip_range": [-1e6, 1e6]}
DISCOUNTED = {"discount": 0.5, "no_std_norm": True}


def equal(reward: float, groups: int, size: int) -> Batch:
    """Groups of equal rewards, one token a response."""
    rows = groups * size
    batch = complete(np.full(rows, reward), np.ones((rows, 1)), np.arange(rows) // size, np.random.default_rng(0))
    return {name: batch[name] for name in ("rewards", "response_mask", "group_ids")}


def command_line() -> str:
    with warnings.catch_warnings():  # of its own imports
        warnings.simplefilter("ignore")
        return inspect.getsource(importlib.import_module("openrlhf.cli.train_ppo_ray"))


def largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())


@pytest.mark.parametrize("label", CALLS)
def test_the_preset_gives_what_openrlhf_gives(label):
    compare_on_random_batches(label, CALLS[label])


def test_every_estimator_of_openrlhf_is_called():
    choices = command_line().partition('"--algo.advantage.estimator"')[2].partition("choices=[")[2].partition("]")[0]
    assert {f'"{one.name}"' for one in CALLS.values()} == set(choices.split(", "))


def test_the_clip_is_the_command_line_s():
    default = command_line().partition('"--reward.clip_range"')[2].partition("default=(")[2].partition(")")[0]
    clip_range = az.make("grpo@openrlhf").clip_range
    assert [float(x) for x in default.split(",")] == list(clip_range)


def test_equal_rewards_are_turned_into_119_and_the_clip_makes_it_10():
    batch = equal(1.2, 2, 8)
    assert largest(call("group_norm", batch, **WIDE)) == pytest.approx(119.209, abs=1e-3)
    assert largest(call("group_norm", batch)) == 10
    assert largest(call("group_norm", equal(1.2, 1, 8), **WIDE)) == pytest.approx(0.928, abs=1e-3)


@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 9, 12, 16, 17, 24, 31, 32, 33, 48, 64, 100, 128])
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_the_rounding_of_a_dead_group_is_pytorch_s(groups, size):
    for reward in np.random.default_rng(size).uniform(-2, 2, 20):
        batch = equal(reward, groups, size)
        theirs = call("group_norm", batch, **WIDE)
        np.testing.assert_allclose(values_of("grpo@openrlhf", batch, **WIDE), theirs, rtol=1e-5, atol=1e-5)


def test_equal_returns_leave_the_rounding_of_their_mean_times_10000():
    """How it is rounded, the cut into Experiences decides."""
    batch = equal(0.7, 3, 7)
    for size in (3, len(batch["rewards"])):
        assert 0 < largest(call("reinforce", batch, micro_batch=size)) < 0.7 * 1e4 * 1e-6
    assert largest(values_of("reinforce_pp@openrlhf", batch)) == largest(call("reinforce", batch, micro_batch=21))
    assert largest(values_of("reinforce_pp", batch)) == 0


def test_a_gamma_below_1_counts_the_masked_tokens_in_between():
    rows = {1: [[1, 1]], 3: [[1, 0, 0, 1]]}
    for between, mask in rows.items():
        batch = {
            "rewards": np.ones(1),
            "response_mask": np.array(mask, dtype=bool),
            "group_ids": np.zeros(1, dtype=int),
        }
        for values in (call("reinforce", batch, **DISCOUNTED), values_of("reinforce@openrlhf", batch, **DISCOUNTED)):
            distance = values[0, -1] - values[0, 0]
            assert distance == pytest.approx(1 - 0.5**between)


def test_the_trainer_and_the_command_line_import():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("trainer.ppo_trainer", "trainer.ppo_trainer_async", "trainer.ray.ppo_actor", "cli.train_ppo_ray"):
            importlib.import_module(f"openrlhf.{name}")
