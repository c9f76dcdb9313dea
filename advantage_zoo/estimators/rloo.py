"""RLOO: REINFORCE with a leave-one-out baseline.

Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
arXiv:2402.14740.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, centre, saturating
from advantage_zoo.estimator import Advantages, Estimator, Paper, Reduction
from advantage_zoo.estimators.grpo import apply_singleton, group_terms, singleton_param, singleton_terms
from advantage_zoo.flat import FlatBatch


def leave_one_out(size: Array) -> Array:
    """``n / (n - 1)``, and 1 for a group of one, which has no others."""
    return size / (size - 1 + (size == 1))


@dataclass(frozen=True)
class RLOO(Estimator):
    """``A_i = r_i - mean of the group's other rewards``, the same on every token of response i."""

    name: ClassVar[str] = "rloo"
    paper: ClassVar[Paper | None] = Paper(
        "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
        "2402.14740",
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {
            *("SHIFT", "SCALE_EQUIVARIANT", "ZERO_SUM", "DEAD_GROUP_ZERO", "UNIFORM", "SIGN", "MONOTONE", "SINGLETON"),
            "REDUCES_TO",
        }
    )
    reductions: ClassVar[tuple[Reduction, ...]] = (Reduction({}, "dr_grpo", leave_one_out),)

    singleton: str = singleton_param()

    def compute(self, batch: FlatBatch) -> Advantages:
        """``n / (n - 1) (r_i - mean_g r)``, which is the same, and exactly 0 for equal rewards."""
        xp = batch.xp
        size = xp.take(batch.group_sizes, batch.group_ids)  # (B,)
        advantages = centre(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)  # (B,)
        advantages = saturating(advantages, xp.clip(size, 1) / xp.clip(size - 1, 1))
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward and the mean of the others'."""
        xp = batch.xp
        size = xp.take(batch.group_sizes, batch.group_ids)  # (B,)
        rewards, mean = group_terms(batch, "zero").values()  # (B,)
        others = mean + (mean - rewards) / xp.clip(size - 1, 1)
        return singleton_terms(self.singleton, {"reward": rewards, "mean of the others": others}, batch)
