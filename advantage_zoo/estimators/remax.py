"""ReMax: the greedy response's reward as the baseline.

Li et al., "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning Large Language Models",
arXiv:2310.10505, Algorithm 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array
from advantage_zoo.estimator import Advantages, Estimator, Paper
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class ReMax(Estimator):
    """``A_i = r_i - b_i``, b the reward of the greedy response to the same prompt; the same on every token."""

    name: ClassVar[str] = "remax"
    needs: ClassVar[frozenset[str]] = frozenset({"baseline_rewards"})
    paper: ClassVar[Paper | None] = Paper(
        "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning Large Language Models",
        "2310.10505",
        "Algorithm 1",
    )
    claims: ClassVar[frozenset[str]] = frozenset({"UNIFORM"})

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i."""
        terms = self.explain(batch)
        return Advantages(batch.to_tokens(terms["reward"] - terms["greedy reward"]))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """Both rewards."""
        baseline = batch.xp.astype(batch.baseline_rewards, batch.rewards.dtype)
        return {"reward": batch.rewards, "greedy reward": baseline}
