"""From what TRL generated, scored and rewarded to a batch of the zoo."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from advantage_zoo import Estimator
from advantage_zoo.batch import OPTIONAL_FIELDS


@dataclass
class Overheard:
    """What TRL made while it generated and scored, on this process but for ``rewards``."""

    attended: Tensor | None = None
    """(b, T) 1 on every token of the response, tool output included."""
    emitted: Tensor | None = None
    """(b, T) 1 on tokens that the policy emitted, those of truncated responses included."""
    rewards: Tensor | None = None
    """(B, K) of all processes, NaN for None."""
    passes: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)
    """Log-probabilities and entropies (b, T) of each forward pass."""


def reward_fields(rewards: Tensor, weights: Tensor, names: Sequence[str], estimator: Estimator) -> dict[str, Tensor]:
    """``rewards`` (B,), weighted and summed as TRL does, and ``reward_components`` (B, K) if they are needed.

    Raises:
        ValueError: A component is None in a response that has others, and the estimator needs them all.
    """
    fields = {"rewards": (rewards * weights.to(rewards.device)).nansum(dim=1)}
    if "reward_components" not in estimator.needs:
        return fields
    missing = (rewards.isnan() & ~rewards.isnan().all(dim=1, keepdim=True)).nonzero()
    if len(missing):
        row, k = missing[0].tolist()
        raise ValueError(
            f"{names[k]} returned None for response {row}, which other reward functions rewarded; {estimator.name} "
            "compares each function's rewards by themselves: let it return a number."
        )
    return {**fields, "reward_components": rewards.nan_to_num(nan=0.0)}


def columns(inputs: list[dict[str, Any]], estimator: Estimator) -> dict[str, Tensor]:
    """What else the estimator needs, (b,) each: columns of numbers of the dataset, or of ``rollout_func``.

    Raises:
        ValueError: There is no such column, or it does not hold numbers.
    """
    found: dict[str, Tensor] = {}
    for name in sorted(estimator.needs - set(OPTIONAL_FIELDS)):
        try:
            found[name] = torch.tensor([float(example[name]) for example in inputs])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"advantage_estimator: {estimator.name} needs {name}, which TRL does not compute; give the dataset a "
                f"column {name!r} with a number a prompt, or choose another estimator."
            ) from error
    return found
