"""Entropy-based advantage shaping.

Cheng, Huang, Zhu, Dai, Zhao, Zhang and Wei, "Reasoning with Exploration: An Entropy Perspective on Reinforcement
Learning for LLMs", arXiv:2506.14758, Eq. 5-6. The paper shapes the advantages of PPO and of GRPO; this is the latter.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array
from advantage_zoo.estimator import Advantages, Paper, Reduction, param
from advantage_zoo.estimators.grpo import GRPO
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class EntropyAdvantage(GRPO):
    """``A_i + min(alpha H_it, abs(A_i) / kappa)``: GRPO's advantage, and more of it where the policy was uncertain."""

    name: ClassVar[str] = "entropy_advantage"
    needs: ClassVar[frozenset[str]] = frozenset({"entropies"})
    paper: ClassVar[Paper | None] = Paper(
        "Reasoning with Exploration: An Entropy Perspective on Reinforcement Learning for LLMs",
        "2506.14758",
        "Eq. 5-6",
    )
    claims: ClassVar[frozenset[str]] = frozenset({"SHIFT", "SCALE", "DEAD_GROUP_ZERO", "SIGN", "REDUCES_TO"})
    reductions: ClassVar[tuple[Reduction, ...]] = (Reduction({"alpha": 0.0}, "grpo"),)

    alpha: float = param(0.4, ge=0, doc="Advantage per nat of entropy. The paper: 0.4 for GRPO, 0.1 for PPO.")
    kappa: float = param(2.0, gt=1, doc="The bonus is at most abs(A) / kappa, so that no sign turns. The paper: 2.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """Eq. 6 on every token."""
        terms = self.explain(batch)
        return Advantages(terms["outcome"] + terms["bonus"])

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """GRPO's advantage and the bonus of Eq. 5, which sum to the advantage."""
        xp = batch.xp
        advantages = super().compute(batch).values  # (N,)
        # An entropy below 0 is a rounding error.
        bonus = xp.minimum(self.alpha * xp.clip(batch.entropies, 0), xp.abs(advantages) / self.kappa)
        return {"outcome": advantages, "bonus": bonus}
