"""TRL's own arithmetic, which stands inside its trainers' methods; to be imported where TRL is installed.

The statements are found in the installed source by their text, compiled as they stand, and run. Nothing is copied.
"""

import ast
import inspect
import textwrap
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from golden.common import Batch, Call, equal_groups

with warnings.catch_warnings():  # of TRL's own imports
    warnings.simplefilter("ignore")
    import trl
    from trl.trainer import grpo_trainer, rloo_trainer

VERSION = trl.__version__
METHOD = "_generate_and_score_completions"
FIRST = "unscorable_mask = torch.isnan(rewards_per_func).all(dim=1)"
LAST = "advantages = torch.nan_to_num(advantages, nan=0.0)"


class Lines:
    """The statements of a trainer's method from ``FIRST`` to ``LAST``.

    Raises:
        LookupError: They are not to be found: this TRL computes advantages in another way.
    """

    def __init__(self, module: Any, trainer: type) -> None:
        lines, start = inspect.getsourcelines(getattr(trainer, METHOD))
        (method,) = ast.parse(textwrap.dedent("".join(lines))).body
        body = method.body
        texts = [ast.unparse(statement) for statement in body]
        if texts.count(FIRST) != 1 or texts.count(LAST) != 1:
            raise LookupError(f"{trainer.__name__}.{METHOD} of TRL {VERSION} has no {FIRST!r} to {LAST!r}.")
        block = body[texts.index(FIRST) : texts.index(LAST) + 1]
        path = f"trl/trainer/{module.__name__.rpartition('.')[2]}.py"
        self.source = f"{path}:{start + block[0].lineno - 1}-{start + block[-1].end_lineno - 1}"
        self.code = compile(ast.Module(block, []), path, "exec")
        self.module = module

    def run(self, rewards: np.ndarray, num_generations: int, **attributes: Any) -> np.ndarray:
        """Advantages, (B,), of ``rewards`` (B, number of reward functions)."""
        names = {
            "self": SimpleNamespace(reward_funcs=[None] * rewards.shape[1], **attributes),
            "rewards_per_func": torch.from_numpy(rewards).to(torch.float32),
            "num_generations": num_generations,
            "device": torch.device("cpu"),
        }
        exec(self.code, vars(self.module) | names, names)
        return names["advantages"].double().numpy()


def call(lines: Lines, batch: Batch, **attributes: Any) -> np.ndarray:
    """The lines on a batch of groups of one size: the outcome as the only reward, or its components."""
    rewards = batch.get("reward_components", batch["rewards"][:, None])
    attributes["reward_weights"] = torch.tensor(attributes.get("reward_weights", [1.0] * rewards.shape[1]))
    advantages = lines.run(rewards, int(np.bincount(batch["group_ids"]).max()), **attributes)
    return np.broadcast_to(advantages[:, None], batch["response_mask"].shape)


def theirs(lines: Lines, settings: dict[str, Any], **options: Any) -> Call:
    """A call of a trainer's lines under its settings."""
    here: Callable[..., np.ndarray] = lambda batch, **params: call(lines, batch, **settings, **params)  # noqa: E731
    name = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return Call(here, lines.source, name, accepts=equal_groups, **options)


def scaled(scale_rewards: str) -> dict[str, Any]:
    return {"multi_objective_aggregation": "sum_then_normalize", "scale_rewards": scale_rewards}


IN_GRPO = Lines(grpo_trainer, grpo_trainer.GRPOTrainer)
IN_RLOO = Lines(rloo_trainer, rloo_trainer.RLOOTrainer)
RLOO = {"beta": 0.0, "reward_clip_range": None}
CALLS = {
    "grpo@trl": theirs(IN_GRPO, scaled("group")),
    "dr_grpo@trl": theirs(IN_GRPO, scaled("none")),
    "lite_ppo@trl": theirs(IN_GRPO, scaled("batch")),
    "gdpo@trl": theirs(
        IN_GRPO,
        {"multi_objective_aggregation": "normalize_then_sum", "scale_rewards": "group"},
        fields=("reward_components",),
    ),
    "gdpo@trl weighted": theirs(
        IN_GRPO,
        {"multi_objective_aggregation": "normalize_then_sum", "scale_rewards": "group"},
        their={"reward_weights": [1.0, 0.5]},
        ours={"weights": [1.0, 0.5]},
        fields=("reward_components",),
    ),
    "rloo@trl": theirs(IN_RLOO, RLOO, params={"normalize_advantages": False}),
    "rloo@trl normalized": theirs(IN_RLOO, RLOO, params={"normalize_advantages": True}),
}
