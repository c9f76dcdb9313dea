"""verl's own estimators, called as its trainer calls them; to be imported where verl is installed."""

import inspect
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from golden.common import Batch, Call, complete, no_group_of_one

with warnings.catch_warnings():  # of verl's own imports
    warnings.simplefilter("ignore")
    import verl
    from verl.trainer.ppo import core_algos

VERSION = verl.__version__
PATH = "verl/trainer/ppo/core_algos.py"


class Config(SimpleNamespace):
    """What an estimator asks of ``config.algorithm``: attributes, and ``get``."""

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).to(torch.float32)


def token_level_rewards(batch: Batch) -> torch.Tensor:
    """The batch's, or the outcome where verl's reward managers put it: on the last valid token."""
    if "token_rewards" in batch:
        return tensor(batch["token_rewards"])
    mask = batch["response_mask"]
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(1)
    rewards = np.zeros(mask.shape)
    rewards[np.arange(len(mask)), last] = batch["rewards"]
    return tensor(rewards)


def call(estimator: str, batch: Batch, **params: Any) -> np.ndarray:
    """The estimator called ``estimator`` in verl, with what its trainer hands over (``compute_advantage``)."""
    arguments: dict[str, Any] = {
        "token_level_rewards": token_level_rewards(batch),
        "response_mask": torch.from_numpy(batch["response_mask"].astype(np.int64)),
    }
    if estimator == "gae":
        arguments |= {"values": tensor(batch["values"]), **params}
    else:
        arguments["index"] = np.array([f"uid-{group}" for group in batch["group_ids"]], dtype=object)
        if estimator == "grpo":
            arguments |= params
        else:
            arguments["config"] = Config(**params)
    if "baseline_rewards" in batch:
        arguments["reward_baselines"] = tensor(batch["baseline_rewards"])
    if "reward_components" in batch:
        arguments |= components(batch, arguments["config"])
    if "sum_pi_squared" in batch:
        arguments |= {"sum_pi_squared": tensor(batch["sum_pi_squared"]), "old_log_probs": tensor(batch["logprobs"])}
    return core_algos.get_adv_estimator_fn(estimator)(**arguments)[0].double().numpy()


def components(batch: Batch, config: Config) -> dict[str, Any]:
    """GDPO's: the keys of the reward function's dict, and a batch of one prompt token and full responses."""
    keys = [f"component_{k}" for k in range(batch["reward_components"].shape[1])]
    config.gdpo_reward_keys = keys
    rows, tokens = batch["response_mask"].shape
    prompts = torch.ones(rows, 1, dtype=torch.long)
    attended = torch.ones(rows, 1 + tokens, dtype=torch.long)
    columns = dict(zip(keys, batch["reward_components"].T, strict=True))
    return {"non_tensor_batch": columns, "batch": {"prompts": prompts, "attention_mask": attended}}


def several_tokens(batch: Batch) -> bool:
    """What masked_whiten takes; it raises on a batch of one token."""
    return bool(batch["response_mask"].sum() > 1)


def no_holes(batch: Batch) -> bool:
    """Every response starts at the first token and has none masked inside."""
    lengths = batch["response_mask"].sum(1, keepdims=True)
    return bool((batch["response_mask"] == (np.arange(batch["response_mask"].shape[1]) < lengths)).all())


def theirs(estimator: str, **options: Any) -> Call:
    """A call of one of verl's registered estimators."""
    function = core_algos.get_adv_estimator_fn(estimator)
    line = inspect.getsourcelines(inspect.unwrap(function))[1]
    here: Callable[..., np.ndarray] = lambda batch, **params: call(estimator, batch, **params)  # noqa: E731
    return Call(here, f"{PATH}:{line}", estimator, **options)


FLOAT32 = 1e-5
"""What verl's float32 may be off by where ours is in float64: rewards near 8, advantages near 1."""
TOKENS = ("token_rewards",)
CALLS = {
    "grpo@verl": theirs("grpo"),
    "grpo@verl of token rewards": theirs("grpo", fields=TOKENS),
    "grpo@verl vectorized": theirs("grpo_vectorized", ours={"vectorized": True}),
    "dr_grpo@verl": theirs("grpo", their={"norm_adv_by_std_in_grpo": False}),
    "rloo@verl": theirs("rloo"),
    "rloo of rloo_vectorized": theirs("rloo_vectorized", tolerance=FLOAT32),
    "reinforce_pp@verl": theirs("reinforce_plus_plus", their={"gamma": 1.0}, accepts=several_tokens),
    "reinforce_pp@verl of token rewards": theirs(
        "reinforce_plus_plus",
        their={"gamma": 0.9},
        ours={"discount": 0.9},
        fields=TOKENS,
        accepts=several_tokens,
    ),
    "reinforce_pp_baseline@verl": theirs("reinforce_plus_plus_baseline", accepts=several_tokens),
    "gae@verl": theirs("gae", their={"gamma": 1.0}, params={"lam": 1.0}, fields=("values",), accepts=several_tokens),
    "gae@verl of token rewards": theirs(
        "gae",
        their={"gamma": 0.9},
        ours={"discount": 0.9},
        params={"lam": 0.8},
        fields=("values", *TOKENS),
        accepts=several_tokens,
    ),
    "remax@verl": theirs("remax", fields=("baseline_rewards",)),
    "remax@verl of token rewards": theirs("remax", fields=("baseline_rewards", *TOKENS)),
    "opo@verl": theirs("opo"),
    "gdpo@verl": theirs("gdpo", fields=("reward_components",), accepts=several_tokens),
    "gdpo@verl weighted": theirs(
        "gdpo",
        their={"gdpo_reward_weights": [1.0, 0.5]},
        ours={"weights": [1.0, 0.5]},
        fields=("reward_components",),
        accepts=several_tokens,
    ),
    "gpg@verl": theirs("gpg"),
    "passk_leader@verl": theirs("grpo_passk", accepts=no_group_of_one),
    "passk_leader@verl undivided": theirs(
        "grpo_passk", their={"norm_adv_by_std_in_grpo": False}, ours={"normalise": False}, accepts=no_group_of_one
    ),
    "otb of tir_optimal_token_baseline": theirs(
        "tir_optimal_token_baseline",
        ours={"singleton": "raw"},
        fields=("logprobs", "sum_pi_squared"),
        tolerance=FLOAT32,
    ),
    "otb of tir_optimal_token_baseline, token rewards": theirs(
        "tir_optimal_token_baseline",
        ours={"singleton": "raw"},
        fields=("logprobs", "sum_pi_squared", *TOKENS),
        tolerance=FLOAT32,
    ),
    "otb of optimal_token_baseline": theirs(
        "optimal_token_baseline",
        ours={"singleton": "raw"},
        fields=("logprobs", "sum_pi_squared"),
        accepts=no_holes,
        tolerance=FLOAT32,
    ),
}

rng = np.random.default_rng(2)
BATCHES = {
    "one token each, far apart": complete([2, -1, 5, 0.5], [[1]] * 4, [0, 0, 1, 1], rng),
}
"""Further batches of the golden vectors."""
