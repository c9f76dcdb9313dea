"""NeMo-RL's own estimators, executed from its sources: set NEMO_RL_SOURCES to a checkout of 7ea279a."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import torch

from golden.common import Batch, Call, complete, exact_where_equal
from golden.executed import checkout, lines_of

VERSION = "7ea279a, functions executed from its source"
PATH = "nemo_rl/algorithms/advantage_estimator.py"
SCOPE: dict[str, Any] = {"torch": torch, "Optional": Optional}
SCOPE |= {"AdvEstimatorConfig": object, "ClippedPGLossConfig": object}
ESTIMATORS = {
    "grpo": "GRPOAdvantageEstimator",
    "gdpo": "GDPOAdvantageEstimator",
    "reinforce_plus_plus": "ReinforcePlusPlusAdvantageEstimator",
    "gae": "GeneralizedAdvantageEstimator",
}
HELPERS = ("calculate_baseline_and_std_per_prompt", "get_gdpo_reward_component_keys", "masked_mean", "masked_var")
lines_of(checkout("NEMO_RL_SOURCES") / "nemo_rl/algorithms/utils.py", HELPERS, SCOPE)
LINES = lines_of(checkout("NEMO_RL_SOURCES") / PATH, ESTIMATORS.values(), SCOPE)

DEFAULTS = {"normalize_rewards": True, "use_leave_one_out_baseline": True, "minus_baseline": True}
PPO = {"gae_lambda": 0.95, "gae_gamma": 1, "normalize_advantages": True, "length_adaptive_alpha": 0.0}
PPO |= {"gae_lambda_value": None, "gae_lambda_policy": None}
LOSS = SimpleNamespace(use_kl_in_reward=False, reference_policy_kl_penalty=0.01, reference_policy_kl_type="k3")
RENAMED = {"discount": "gae_gamma", "lam": "gae_lambda", "weights": "reward_weights"}


ROUNDING = 2e-5
"""Tolerance of random batches: sums whose order is the processor's."""


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).to(torch.float32)


def call(estimator: str, batch: Batch, **params: Any) -> np.ndarray:
    """With the defaults of the framework's configuration and what its trainer hands over."""
    params = {RENAMED.get(key, key): value for key, value in params.items()}
    config = PPO | params if estimator == "gae" else SimpleNamespace(**{"reward_weights": None} | DEFAULTS | params)
    arguments: dict[str, Any] = {
        "prompt_ids": torch.from_numpy(batch["group_ids"])[:, None],
        "rewards": tensor(batch["rewards"]),
        "mask": tensor(batch["response_mask"].astype(float)),
    }
    if "values" in batch:
        arguments["values"] = tensor(batch["values"])
    if "reward_components" in batch:
        columns = tensor(batch["reward_components"]).T
        arguments["repeated_batch"] = {f"reward/{k}": column for k, column in enumerate(columns)}
    advantages = SCOPE[ESTIMATORS[estimator]](config, LOSS).compute_advantage(**arguments)
    return (advantages[0] if estimator == "gae" else advantages).double().numpy()


def one_pass(batch: Batch) -> float:
    """Tolerance of a batch: what ``E[x^2] - E[x]^2`` in float32 may lose in its worst group, in whatever order."""
    worst = 0.0
    for rewards in batch.get("reward_components", batch["rewards"][:, None]).T:
        for group in np.unique(batch["group_ids"]):
            of = rewards[batch["group_ids"] == group]
            for x in (of, *(np.delete(of, one) for one in range(len(of)))):  # the group, and less each response
                worst = max(worst, np.mean(x**2) / np.var(x) if len(x) and np.ptp(x) > 0 else 0.0)
    return max(ROUNDING, 2**-21 * worst)


def theirs(estimator: str, **options: Any) -> Call:
    """A call of one of NeMo-RL's estimators."""
    source = f"{PATH}:{LINES[ESTIMATORS[estimator]]}"
    function: Callable[..., np.ndarray] = lambda batch, **params: call(estimator, batch, **params)  # noqa: E731
    return Call(function, source, estimator, **{"accepts": exact_where_equal, "tolerance": ROUNDING} | options)


COMPONENTS = ("reward_components",)
VALUES = ("values",)
WITH_ITSELF = {"use_leave_one_out_baseline": False}
PLAIN = {"normalize_rewards": False}
CALLS = {
    "grpo@nemo_rl": theirs("grpo", tolerance=one_pass),
    "grpo@nemo_rl with itself": theirs("grpo", params=WITH_ITSELF, tolerance=one_pass),
    "rloo@nemo_rl": theirs("grpo", their=PLAIN),
    "dr_grpo@nemo_rl": theirs("grpo", their=PLAIN | WITH_ITSELF),
    "reinforce_pp@nemo_rl": theirs("reinforce_plus_plus"),
    "reinforce_pp@nemo_rl without baseline": theirs("reinforce_plus_plus", params={"minus_baseline": False}),
    "gdpo@nemo_rl": theirs("gdpo", fields=COMPONENTS, tolerance=one_pass),
    "gdpo@nemo_rl weighted": theirs(
        "gdpo", fields=COMPONENTS, params={"weights": [0.5, 2.0]} | WITH_ITSELF, tolerance=one_pass
    ),
    "gae@nemo_rl": theirs("gae", fields=VALUES),
    "gae@nemo_rl plain": theirs(
        "gae", fields=VALUES, params={"discount": 0.9, "lam": 0.8, "normalize_advantages": False}
    ),
    "gae@nemo_rl adaptive": theirs("gae", fields=VALUES, params={"length_adaptive_alpha": 0.5}),
}

BATCHES = {
    "a pair": complete([1, 0.25], np.ones((2, 2)), [0, 0], np.random.default_rng(3)),
}
"""Further batches of the golden vectors."""
