"""ms-swift's own functions, executed from the installed source: `pip install --no-deps ms-swift==4.6.0`."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Optional, Union

import numpy as np
import torch

from golden.common import Batch, Call, complete, equal_groups, exact_where_equal
from golden.executed import installed, lines_of

VERSION = f"{version('ms-swift')}, functions executed from its source"
PATH = "swift/rl_core/advantage.py"
SCOPE: dict[str, Any] = {
    "torch": torch,
    "Optional": Optional,
    "Union": Union,
    "Tuple": tuple,
    "List": list,
    "Dict": dict,
}
lines_of(installed("swift") / "swift/utils/torch_utils.py", ["nanstd"], SCOPE)
LINES = lines_of(installed("swift") / PATH, ["compute_advantages", "compute_advantages_dynamic"], SCOPE)


def components_of(batch: Batch) -> np.ndarray:
    """(B, K): what the reward functions gave; the sum of ``token_rewards``, or the outcome, as one of them."""
    if "reward_components" in batch:
        return batch["reward_components"]
    return (batch["token_rewards"].sum(1) if "token_rewards" in batch else batch["rewards"])[:, None]


def call(dynamic: bool, batch: Batch, scale_rewards: str, weights: Sequence[float] = (), **options: Any) -> np.ndarray:
    """(B, T), broadcast as ``expand_advantage_to_per_token`` does without a teacher."""
    rewards = torch.from_numpy(components_of(batch)).to(torch.float32)
    arguments = {
        "rewards_per_func": rewards,
        "reward_weights": torch.tensor(weights or [1.0] * rewards.shape[1], dtype=torch.float32),
        "scale_rewards": scale_rewards,
        **options,
    }
    ids = batch["group_ids"]
    if dynamic:
        arguments["prompt_ids"] = [f"prompt-{group}" for group in ids]
        arguments["request_ids"] = [f"request-{row}" for row in range(len(ids))]
    else:
        arguments["num_generations"] = int(np.bincount(ids).max())
    advantages, _ = SCOPE["compute_advantages_dynamic" if dynamic else "compute_advantages"](**arguments)
    return np.broadcast_to(advantages.double().numpy()[:, None], batch["response_mask"].shape)


def dynamic_or_the_same(batch: Batch) -> bool:
    """The preset takes groups of one size for rows; of those whose rewards are equal, ``std(dim=1)`` is exactly 0."""
    sizes = np.bincount(batch["group_ids"])
    return len(sizes) == 1 or sizes.max() == 1 or sizes.max() > sizes.min() or exact_where_equal(batch)


def theirs(estimator: str, scale: str, *, dynamic: bool = False, given: bool = False, **options: Any) -> Call:
    """A call with these settings; ``given``: the preset has ``scale_rewards`` as a parameter."""
    name = "compute_advantages_dynamic" if dynamic else "compute_advantages"
    return Call(
        lambda batch, **params: call(dynamic, batch, advantage_estimator=estimator, **params),
        f"{PATH}:{LINES[name]}",
        f"{name}, {estimator}, scale_rewards={scale}",
        their={"scale_rewards": scale},
        ours={"scale_rewards": scale} if given else {},
        accepts=dynamic_or_the_same if dynamic else equal_groups,
        **options,
    )


COMPONENTS = ("reward_components",)
SETTINGS = {
    "grpo@ms_swift": ("grpo", "group", False),
    "dr_grpo@ms_swift": ("grpo", "none", False),
    "lite_ppo@ms_swift": ("grpo", "batch", False),
    "rloo@ms_swift": ("rloo", "none", True),
    "rloo@ms_swift by group": ("rloo", "group", True),
    "rloo@ms_swift by batch": ("rloo", "batch", True),
    "reinforce_pp@ms_swift": ("reinforce_plus_plus", "batch", True),
    "reinforce_pp@ms_swift by group": ("reinforce_plus_plus", "group", True),
}
CALLS = {
    f"{label}{' dynamic' if dynamic else ''}": theirs(estimator, scale, dynamic=dynamic, given=given)
    for label, (estimator, scale, given) in SETTINGS.items()
    for dynamic in (False, True)
    if not (dynamic and " by " in label)
} | {
    "grpo@ms_swift of token rewards": theirs("grpo", "group", fields=("token_rewards",)),
    "gdpo@ms_swift": theirs("grpo", "gdpo", fields=COMPONENTS),
    "gdpo@ms_swift weighted": theirs("grpo", "gdpo", fields=COMPONENTS, params={"weights": [0.5, 2.0]}),
}

rng = np.random.default_rng(3)
FIRST = np.round(rng.random(24), 2)
DEAD = np.repeat([0.5, -10.9], 7)
BATCHES = {
    "equal groups of one": complete([1, 0.3, -2], np.ones((3, 2)), [0, 1, 2], np.random.default_rng(3)),
    "dead groups, one of them of 7": complete(DEAD, np.ones((14, 1)), np.repeat([0, 1], 7), rng),
    "components that cancel": complete(FIRST, np.ones((24, 1)), np.repeat([0, 1], 12), rng)
    | {"reward_components": np.stack([FIRST, 1 - FIRST], axis=1).astype(np.float32).astype(float)},
}
"""Further batches of the golden vectors."""
