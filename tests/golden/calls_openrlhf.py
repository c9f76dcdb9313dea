"""OpenRLHF's own ``RemoteExperienceMaker``, fed as its trainer feeds it; to be imported where OpenRLHF is installed."""

import inspect
import re
import warnings
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace as Args
from typing import Any

import numpy as np
import torch

from golden.common import Batch, Call, complete

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    from openrlhf.trainer.ppo_utils.experience import Experience
    from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
    from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController

VERSION = version("openrlhf")
PATH = "openrlhf/trainer/ppo_utils/experience_maker.py"
MICRO_BATCH = 3
"""Rows of an Experience; the trainer, too, cuts its rollouts up, and pads each part to its own width."""


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x)).to(torch.float32)


def arguments(estimator: str, n: int, params: dict[str, Any]) -> Args:
    """The command line's, at their defaults but for the estimator, the samples a prompt and ``params``."""
    advantage = {
        "gamma": params.pop("discount", 1.0),
        "lambd": params.pop("lam", 1.0),
        "no_std_norm": False,
        "estimator": estimator,
    }
    clip_range = params.pop("clip_range", (-10, 10))
    return Args(
        algo=Args(advantage=Args(**advantage | params), kl=Args(use_loss=False, init_coef=1.0, estimator="k1")),
        reward=Args(clip_range=clip_range, overlong_buffer_len=None, stop_properly_penalty_coef=None),
        rollout=Args(n_samples_per_prompt=n, max_new_tokens=64),
        data=Args(max_len=128),
    )


def kl(batch: Batch) -> np.ndarray:
    """What the token rewards hold beyond the outcome, as a KL divergence with a coefficient of 1."""
    mask = batch["response_mask"]
    if "token_rewards" not in batch:
        return np.zeros(mask.shape)
    outcome = np.zeros(mask.shape)
    outcome[np.arange(len(mask)), mask.shape[1] - 1 - mask[:, ::-1].argmax(1)] = batch["rewards"]
    return np.where(mask, outcome - batch["token_rewards"], 0.0)


def experience(batch: Batch, rows: np.ndarray, index: list[int]) -> Experience:
    """Some rows of a batch, without the columns that are padding in all of them, or all rows as they are."""
    mask = batch["response_mask"][rows]
    width = mask.shape[1] if len(rows) == len(batch["rewards"]) else int(np.flatnonzero(mask.any(0))[-1]) + 1
    mask = mask[:, :width]
    one_more = torch.ones(len(rows), width + 1)
    return Experience(
        sequences=one_more.long(),
        attention_mask=one_more.long(),
        action_mask=torch.from_numpy(np.ascontiguousarray(mask)),
        action_log_probs=torch.zeros(len(rows), width),
        values=tensor(batch["values"][rows, :width]) if "values" in batch else None,
        kl=tensor(kl(batch)[rows, :width]),
        rewards=tensor(batch["rewards"][rows]),
        response_length=torch.from_numpy(mask.sum(1)),
        truncated=torch.zeros(len(rows), dtype=torch.bool),
        total_length=torch.from_numpy(mask.sum(1)) + 1,
        index=index,
        info={"reward": tensor(batch["rewards"][rows])},
    )


def samples_a_prompt(batch: Batch) -> int:
    sizes = np.bincount(batch["group_ids"])
    return int(sizes[sizes > 0][0])


def call(estimator: str, batch: Batch, micro_batch: int = MICRO_BATCH, **params: Any) -> np.ndarray:
    """The advantages of a batch whose rows reach the experience maker as they stand, in Experiences of ``micro_batch``.

    ``index``, a row's place in the order of the prompts, tells it which rows belong together.
    """
    n = samples_a_prompt(batch) if estimator in GROUPED else 1
    args = arguments(estimator, n, params)
    maker = RemoteExperienceMaker(None, None, None, None, FixedKLController(1.0), Args(args=args), None)
    place = np.argsort(np.argsort(batch["group_ids"], kind="stable"), kind="stable")
    parts = np.split(np.arange(len(place)), range(micro_batch, len(place), micro_batch))
    made = [experience(batch, rows, place[rows].tolist()) for rows in parts]
    values = np.zeros(batch["response_mask"].shape)
    with warnings.catch_warnings():  # of the deviation of one number, and of a gamma that it resets to 1
        warnings.simplefilter("ignore")
        made = maker.compute_advantages_and_returns(made)
    for rows, one in zip(parts, made, strict=True):
        values[rows, : one.advantages.shape[1]] = one.advantages.double().numpy()
    return values


def of_one_size(batch: Batch) -> bool:
    """Groups of one size, in any order: ``reshape(-1, n_samples_per_prompt)``."""
    sizes = np.bincount(batch["group_ids"])
    return len(set(sizes[sizes > 0].tolist())) == 1


def one_group(batch: Batch) -> bool:
    return len(set(batch["group_ids"].tolist())) == 1


def far_apart(batch: Batch) -> bool:
    """Rewards near 0 and not equal.

    Else normalising would show how the sum over the batch was rounded, which the cut into Experiences decides.
    """
    rewards = batch["rewards"]
    return bool(np.abs(rewards).max() <= 3 and rewards.std() > 0.2)


def far_apart_in_groups(batch: Batch) -> bool:
    """And groups are of one size, one at least with rewards that are not equal."""
    ranges = [np.ptp(batch["rewards"][batch["group_ids"] == group]) for group in np.unique(batch["group_ids"])]
    return far_apart(batch) and of_one_size(batch) and max(ranges) > 0.2


def line_of(text: str) -> str:
    """Where the experience maker has a line with this text."""
    lines, first = inspect.getsourcelines(RemoteExperienceMaker)
    (found,) = (first + number for number, line in enumerate(lines) if re.search(text, line))
    return f"{PATH}:{found}"


def theirs(estimator: str, text: str, **options: Any) -> Call:
    """A call of one of OpenRLHF's estimators."""
    here: Callable[..., np.ndarray] = lambda batch, **params: call(estimator, batch, **params)  # noqa: E731
    return Call(here, line_of(text), estimator, **options)


GROUPED = ("rloo", "reinforce_baseline", "group_norm", "dr_grpo")
KL = ("token_rewards",)
AT_ONCE = {"micro_batch": 1_000_000}
"""One Experience: its rows are added as a batch's are, so that even what is left of equal rewards is the same."""
GROUP_NORM = r"/ \(rewards.std"
MEAN = r"rewards = rewards - rewards.mean\(-1"
RETURN = r"experience.returns = self.get_cumulative_returns"
CALLS = {
    "grpo@openrlhf": theirs("group_norm", GROUP_NORM, accepts=of_one_size),
    "grpo@openrlhf without a clip": theirs(
        "group_norm", GROUP_NORM, params={"clip_range": [-1e6, 1e6]}, accepts=of_one_size
    ),
    "grpo@openrlhf with KL": theirs("group_norm", GROUP_NORM, fields=KL, accepts=of_one_size),
    "dr_grpo@openrlhf": theirs("dr_grpo", MEAN, accepts=of_one_size),
    "dr_grpo@openrlhf of one group": theirs("flash_reinforce", r"- rewards.mean\(\)", accepts=one_group),
    "rloo@openrlhf": theirs("rloo", r"baseline = \(", accepts=of_one_size),
    "rloo@openrlhf with KL": theirs("rloo", r"baseline = \(", fields=KL, accepts=of_one_size),
    "reinforce@openrlhf": theirs("reinforce", RETURN, their=AT_ONCE),
    "reinforce_pp@openrlhf": theirs("reinforce", RETURN, their=AT_ONCE),
    "reinforce_pp@openrlhf in parts": theirs("reinforce", RETURN, accepts=far_apart),
    "reinforce_pp@openrlhf with KL": theirs("reinforce", RETURN, params={"discount": 0.9}, fields=KL, their=AT_ONCE),
    "reinforce_pp@openrlhf undivided": theirs("reinforce", RETURN, params={"no_std_norm": True}),
    "reinforce_pp_baseline@openrlhf": theirs("reinforce_baseline", MEAN, their=AT_ONCE, accepts=of_one_size),
    "reinforce_pp_baseline@openrlhf in parts": theirs("reinforce_baseline", MEAN, accepts=far_apart_in_groups),
    "reinforce_pp_baseline@openrlhf with KL": theirs(
        "reinforce_baseline", MEAN, params={"no_std_norm": True}, fields=KL, accepts=of_one_size
    ),
    "gae@openrlhf": theirs("gae", "def get_advantages_and_returns", fields=("values",), their=AT_ONCE),
    "gae@openrlhf in parts": theirs("gae", "def get_advantages_and_returns", fields=("values",), accepts=far_apart),
    "gae@openrlhf with KL": theirs(
        "gae",
        "def get_advantages_and_returns",
        params={"discount": 0.9, "lam": 0.8},
        fields=("values", *KL),
        their=AT_ONCE,
    ),
}
BATCHES = {
    "dead groups of eight": complete(
        [1.2] * 8 + [0.81593] * 8, [[1]] * 16, [0] * 8 + [1] * 8, np.random.default_rng(3)
    ),
}
"""Further batches of the golden vectors."""
