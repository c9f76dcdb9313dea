"""SkyRL's own estimators, executed from the installed source: `pip install --no-deps skyrl==0.4.0`."""

from collections import defaultdict
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from golden.common import Batch, Call, complete
from golden.executed import installed, lines_of

VERSION = f"{version('skyrl')}, functions executed from its source"
PATH = "skyrl/backends/skyrl_train/utils/ppo_utils.py"


class Annotation:
    """Stands for what only annotations name."""

    def __class_getitem__(cls, _: Any) -> Any:
        return cls


SCOPE: dict[str, Any] = {"torch": torch, "np": np, "defaultdict": defaultdict}
SCOPE |= dict.fromkeys(("Tuple", "Optional", "Float"), Annotation)
ESTIMATORS = {
    "grpo": "compute_grpo_outcome_advantage",
    "rloo": "compute_rloo_outcome_advantage",
    "maxrl": "compute_maxrl_advantage",
    "reinforce++": "compute_reinforce_plus_plus_outcome_advantage",
    "gae": "compute_gae_advantage_return",
}
lines_of(installed("skyrl") / "skyrl/backends/skyrl_train/utils/torch_utils.py", ["masked_mean"], SCOPE)
LINES = lines_of(installed("skyrl") / PATH, ["masked_var", "masked_whiten", *ESTIMATORS.values()], SCOPE)


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).to(torch.float32)


def token_level_rewards(batch: Batch) -> torch.Tensor:
    """The batch's, or the outcome where SkyRL's trainer puts it: on the last token of the response."""
    if "token_rewards" in batch:
        return tensor(batch["token_rewards"])
    mask = batch["response_mask"]
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(1)
    rewards = np.zeros(mask.shape)
    rewards[np.arange(len(mask)), last] = batch["rewards"]
    return tensor(rewards)


def call(estimator: str, batch: Batch, discount: float = 1.0, lam: float = 1.0, **options: Any) -> np.ndarray:
    """With what ``compute_advantages_and_returns`` hands over."""
    arguments = {
        "token_level_rewards": token_level_rewards(batch),
        "response_mask": torch.from_numpy(batch["response_mask"].astype(np.int64)),
        "index": np.array([f"uid-{group}" for group in batch["group_ids"]], dtype=object),
        "values": tensor(batch["values"]) if "values" in batch else None,
        "gamma": discount,
        "lambd": lam,
        "grpo_norm_by_std": True,
    }
    return SCOPE[ESTIMATORS[estimator]](**arguments | options)[0].double().numpy()


def several_tokens(batch: Batch) -> bool:
    """What masked_whiten takes; it raises on a batch of one token."""
    return bool(batch["response_mask"].sum() > 1)


def repeatable(batch: Batch) -> bool:
    """Not many tokens with equal returns: their noise is PyTorch's order of summation over (B, T), times 1e4."""
    return several_tokens(batch) and bool(np.ptp(batch["rewards"]) > 0 or batch["response_mask"].size < 16)


def theirs(estimator: str, **options: Any) -> Call:
    """A call of one of SkyRL's registered estimators."""
    source = f"{PATH}:{LINES[ESTIMATORS[estimator]]}"
    return Call(lambda batch, **params: call(estimator, batch, **params), source, estimator, **options)


TOKENS = ("token_rewards",)
DISCOUNTED = {"discount": 0.9}
CALLS = {
    "grpo@skyrl": theirs("grpo"),
    "grpo@skyrl of token rewards": theirs("grpo", fields=TOKENS),
    "dr_grpo@skyrl": theirs("grpo", their={"grpo_norm_by_std": False}),
    "rloo@skyrl": theirs("rloo"),
    "maxrl@skyrl": theirs("maxrl"),
    "reinforce_pp@skyrl": theirs("reinforce++", accepts=repeatable),
    "reinforce_pp@skyrl of token rewards": theirs(
        "reinforce++", params=DISCOUNTED, fields=TOKENS, accepts=several_tokens
    ),
    "gae@skyrl": theirs("gae", fields=("values",), accepts=repeatable),
    "gae@skyrl of token rewards": theirs(
        "gae", params=DISCOUNTED | {"lam": 0.8}, fields=("values", *TOKENS), accepts=several_tokens
    ),
}

BATCHES = {
    "negative rewards": complete([-1, -2, -3, -2], np.ones((4, 2)), [0] * 4, np.random.default_rng(3)),
    "an observation": complete([1, 0], [[1, 1, 0, 0, 1, 1], [1, 1, 1, 0, 1, 0]], [0, 0], np.random.default_rng(4)),
}
"""Further batches of the golden vectors."""
