"""What the tests of the adapter into verl are made of: verl's configuration, its columns, and what we take them for."""

import os
import subprocess
import sys
import warnings
from importlib.metadata import version

import numpy as np
import pytest

import advantage_zoo as az

torch = pytest.importorskip("torch")
pytest.importorskip("verl")

DEFAULT_TRAINER = tuple(map(int, version("verl").split(".")[:2])) >= (0, 9)
SINCE_0_9 = pytest.mark.skipif(not DEFAULT_TRAINER, reason="the default trainer and entry points came with verl 0.9")

with warnings.catch_warnings():  # of verl's own imports
    warnings.simplefilter("ignore")
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.config import AlgoConfig  # noqa: F401 - so that nobody imports it later, with warnings
    from verl.trainer.ppo import core_algos, ray_trainer  # noqa: F401

    if DEFAULT_TRAINER:
        from verl.trainer.ppo.v1 import trainer_base  # noqa: F401

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


def run_python(code, **env):
    env = {**os.environ, "PYTHONWARNINGS": "ignore", **env}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
