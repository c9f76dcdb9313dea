"""OPO: On-Policy RL with Optimal reward baseline.

Hao et al., "On-Policy RL with Optimal Reward Baseline", arXiv:2505.23585.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, centre, moments
from advantage_zoo.estimator import Advantages, Estimator, Paper
from advantage_zoo.estimators.grpo import apply_singleton, singleton_param, singleton_terms
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class OPO(Estimator):
    """``A_i = r_i - sum_g L r / sum_g L``, L the lengths: the baseline weighs a reward by its response's length."""

    name: ClassVar[str] = "opo"
    paper: ClassVar[Paper | None] = Paper("On-Policy RL with Optimal Reward Baseline", "2505.23585")
    claims: ClassVar[frozenset[str]] = frozenset(
        {"SHIFT", "SCALE_EQUIVARIANT", "DEAD_GROUP_ZERO", "UNIFORM", "MONOTONE", "SINGLETON"}
    )

    singleton: str = singleton_param()

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i."""
        advantages = centre(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty, weights=batch.lengths)
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward and the mean that weighs by length."""
        mean, _ = moments(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty, weights=batch.lengths)
        return singleton_terms(self.singleton, {"reward": batch.rewards, "mean by length": mean}, batch)
