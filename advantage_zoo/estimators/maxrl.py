"""MaxRL: maximum-likelihood reinforcement learning.

Tajwar et al., "Maximum Likelihood Reinforcement Learning", arXiv:2602.02710, section 4.3, Algorithm 1. For rewards of 0
and 1 the group's mean is the estimated probability of success, and dividing by it turns the gradient of that
probability into the gradient of its logarithm.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, moments, segment_max, unit
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.grpo import apply_singleton, group_terms, singleton_param
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class MaxRL(Estimator):
    """``A_i = (r_i - mean_g r) / mean_g r``, and 0 where the mean is not positive; the same on every token."""

    name: ClassVar[str] = "maxrl"
    paper: ClassVar[Paper | None] = Paper(
        "Maximum Likelihood Reinforcement Learning", "2602.02710", "section 4.3, Algorithm 1"
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {"SCALE", "ZERO_SUM", "DEAD_GROUP_ZERO", "UNIFORM", "MONOTONE", "SINGLETON"}
    )

    floor: float = param(
        0.01,
        ge=0,
        le=0.5,
        doc="A mean of at most this share of the group's mean absolute reward counts as 0. Ours; says nothing about "
        "rewards that are never negative, whose share is 1. 0 is the formula alone.",
    )
    singleton: str = singleton_param()

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i, computed in units of the group's largest absolute reward."""
        xp, ids, groups = batch.xp, batch.group_ids, batch.num_groups
        largest = segment_max(xp.where(batch.nonempty, xp.abs(batch.rewards), 0.0), ids, groups)  # (G,)
        scale = xp.where(largest > 0, largest, 1.0)  # (G,)
        rewards = batch.rewards / xp.take(scale, ids)  # (B,) in [-1, 1]
        total, absolute = batch.group_sum(rewards), batch.group_sum(xp.abs(rewards))  # (G,)
        counts = total > self.floor * absolute
        mean = xp.where(counts, total / xp.clip(batch.group_sizes, 1), 1.0)  # (G,)
        u = unit(batch.rewards, ids, groups, batch.nonempty)  # not of the scaled ones, which are rounded
        half = xp.minimum(u.half_range, scale) / scale  # (G,) of the range, at most 1
        advantages = xp.where(xp.take(counts, ids), u.centred * xp.take(2 * half / mean, ids), 0.0)  # (B,)
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward, its group's mean, and what divides: the mean, or 0 where that does not count."""
        terms = group_terms(batch, self.singleton)
        mean, absolute = (
            moments(x, batch.group_ids, batch.num_groups, batch.nonempty)[0]
            for x in (batch.rewards, batch.xp.abs(batch.rewards))
        )
        divisor = batch.xp.where(mean > self.floor * absolute, mean, 0.0)
        if self.singleton == "raw":
            divisor = batch.xp.where(batch.alone, 1.0, divisor)
        return {**terms, "divisor": divisor}
