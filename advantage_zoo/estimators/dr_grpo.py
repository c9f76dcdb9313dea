"""Dr. GRPO: GRPO done right.

Liu et al., "Understanding R1-Zero-Like Training: A Critical Perspective", arXiv:2503.20783, section 3.2.

The method removes two divisions. The one by the group's standard deviation is this estimator. The one by the response's
length belongs to the loss: it sums over tokens and divides by a constant (the token budget), see
docs/estimators/dr_grpo.md.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, centre
from advantage_zoo.estimator import Advantages, Estimator, Paper
from advantage_zoo.estimators.grpo import apply_singleton, group_terms, singleton_param
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class DrGRPO(Estimator):
    """``A_i = r_i - mean_g r``, the same on every token of response i: no division by the standard deviation."""

    name: ClassVar[str] = "dr_grpo"
    paper: ClassVar[Paper | None] = Paper(
        "Understanding R1-Zero-Like Training: A Critical Perspective", "2503.20783", "section 3.2"
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {"SHIFT", "SCALE_EQUIVARIANT", "ZERO_SUM", "DEAD_GROUP_ZERO", "UNIFORM", "SIGN", "MONOTONE", "SINGLETON"}
    )

    singleton: str = singleton_param()

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i."""
        advantages = centre(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)  # (B,)
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward and its group's mean."""
        return group_terms(batch, self.singleton)
