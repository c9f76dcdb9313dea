"""rLLM's own functions, executed from its sources: set RLLM_SOURCES to a checkout of 9beb6e0."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from golden.common import Batch, Call
from golden.executed import checkout, lines_of

VERSION = "9beb6e0, functions executed from its source"
FOLDER = "rllm/trainer/algorithms"
SCOPE: dict[str, Any] = {"np": np, "AlgorithmConfig": object}
ESTIMATORS = {
    "grpo": "calculate_grpo_advantages",
    "rloo": "calculate_rloo_advantages",
    "reinforce": "calculate_reinforce_advantages",
    "reinforce_plus_plus_baseline": "calculate_reinforce_plus_plus_baseline_advantages",
}
INNER = {"grpo": "calculate_grpo_advantages_per_group", "rloo": "calculate_rloo_advantages_per_group"}
PATHS = {"advantage.py": ESTIMATORS.values(), "rl_algo.py": INNER.values()}
SOURCES = {
    name: f"{FOLDER}/{file}:{line}"
    for file, names in PATHS.items()
    for name, line in lines_of(checkout("RLLM_SOURCES") / FOLDER / file, names, SCOPE).items()
}


def call(estimator: str, batch: Batch, norm_adv_by_std_in_grpo: bool = True) -> np.ndarray:
    """As ``collect_reward_and_advantage_from_trajectory_groups`` calls it: a list of arrays of Python floats."""
    rows = [np.flatnonzero(batch["group_ids"] == group) for group in range(int(batch["group_ids"].max()) + 1)]
    rows = [members for members in rows if len(members)]
    config = SimpleNamespace(norm_adv_by_std_in_grpo=norm_adv_by_std_in_grpo)
    rewards = [np.array(batch["rewards"][members].tolist()) for members in rows]
    by_group, _ = SCOPE[ESTIMATORS[estimator]](rewards=rewards, algorithm_config=config, traj_groups=None)
    advantages = np.zeros(len(batch["rewards"]))
    for members, values in zip(rows, by_group, strict=True):
        advantages[members] = values
    return np.broadcast_to(advantages[:, None], batch["response_mask"].shape)


def theirs(estimator: str, **options: Any) -> Call:
    """A call of one of rLLM's registered estimators."""
    source = SOURCES[INNER.get(estimator, ESTIMATORS[estimator])]
    return Call(lambda batch, **params: call(estimator, batch, **params), source, estimator, **options)


CALLS = {
    "grpo@rllm": theirs("grpo"),
    "dr_grpo@rllm": theirs("grpo", their={"norm_adv_by_std_in_grpo": False}),
    "rloo@rllm": theirs("rloo"),
    "reinforce@rllm": theirs("reinforce"),
    "reinforce_pp_baseline@rllm": theirs("reinforce_plus_plus_baseline"),
}
