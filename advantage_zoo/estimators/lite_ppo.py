"""Lite PPO: the group's mean, the batch's standard deviation.

Liu et al., "Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning", arXiv:2508.08221: of the ways to
normalise, the mean of the group with the deviation of the batch was the most robust. Its other half, the mean over
tokens, is the loss's.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, centre, moments, unit
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.grpo import apply_singleton, group_terms, singleton_param, singleton_terms
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class LitePPO(Estimator):
    """``A_i = (r_i - mean_g r) / (std_batch r + eps)``, the same on every token of response i."""

    name: ClassVar[str] = "lite_ppo"
    paper: ClassVar[Paper | None] = Paper(
        "Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning", "2508.08221", "section 4.1.2"
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {"ZERO_SUM", "DEAD_GROUP_ZERO", "UNIFORM", "SIGN", "MONOTONE", "SINGLETON"}
    )

    eps: float = param(1e-6, ge=0, doc="Added to the batch's standard deviation, in units of reward.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's.")
    singleton: str = singleton_param()

    @property
    def batch_statistics(self) -> bool:
        """The deviation is the batch's."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i; halves, as the range of the rewards may overflow."""
        centred = centre(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)  # (B,)
        spread = unit(batch.rewards, batch.group_ids * 0, 1, batch.nonempty, self.ddof)
        advantages = centred * 0.5 / spread.half_spread(self.eps)
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward, its group's mean and the batch's deviation."""
        _, deviation = moments(batch.rewards, batch.group_ids * 0, 1, batch.nonempty, self.ddof)
        terms = {**group_terms(batch, "zero"), "batch deviation": deviation}
        return singleton_terms(self.singleton, terms, batch)
