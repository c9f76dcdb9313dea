"""RL-ZVP: Reinforcement Learning with Zero-Variance Prompts.

Le, Jeon, Vu, Lai and Yang, "No Prompt Left Behind: Exploiting Zero-Variance Prompts in LLM Reinforcement Learning via
Entropy-Guided Advantage Shaping", arXiv:2509.21880, Eq. 5. Prompts whose responses are rewarded unequally get GRPO's
advantage.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, segment_max, unit
from advantage_zoo.estimator import Advantages, Estimator, Paper, Reduction, param
from advantage_zoo.estimators.grpo import group_advantages
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class RLZVP(Estimator):
    """GRPO; where rewards are equal ``alpha H_it`` if right, ``-alpha (max_k H_ik - H_it)`` if wrong."""

    name: ClassVar[str] = "rl_zvp"
    needs: ClassVar[frozenset[str]] = frozenset({"entropies"})
    paper: ClassVar[Paper | None] = Paper(
        "No Prompt Left Behind: Exploiting Zero-Variance Prompts in LLM Reinforcement Learning via Entropy-Guided "
        "Advantage Shaping",
        "2509.21880",
        "Eq. 5",
    )
    claims: ClassVar[frozenset[str]] = frozenset({"MONOTONE", "REDUCES_TO"})
    reductions: ClassVar[tuple[Reduction, ...]] = (Reduction({"alpha": 0.0}, "grpo"),)

    alpha: float = param(0.1, ge=0, doc="Advantage per nat of entropy, in groups of equal rewards. The paper: 0.1.")
    reward_threshold: float = param(0.5, doc="Equal rewards above this are right, others wrong. The paper: 0.")
    eps: float = param(1e-6, ge=0, doc="Added to the group's standard deviation, in units of reward.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """Eq. 5 on the tokens of groups of equal rewards, GRPO's A_i on the others'."""
        terms = self.explain(batch)
        return Advantages(terms["outcome"] + terms["entropy"])

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """GRPO's A_i and Eq. 5's term, one of which is 0."""
        xp = batch.xp
        advantages = group_advantages(batch, self.eps, self.ddof)  # (B,)
        varies = unit(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty).varies  # (G,)

        entropies = xp.clip(batch.entropies, 0)  # (N,) an entropy below 0 is a rounding error
        highest = segment_max(xp.where(batch.mask, entropies, -xp.inf), batch.row_ids, batch.num_rows)  # (B,)
        below = batch.to_tokens(xp.where(batch.nonempty, highest, 0.0)) - entropies  # (N,)
        right = batch.to_tokens(batch.rewards > self.reward_threshold)  # (N,)
        shaped = self.alpha * xp.where(right, entropies, -below)
        mixed = xp.take(varies, batch.token_groups)  # (N,)
        return {
            "outcome": xp.where(mixed, batch.to_tokens(advantages), 0.0),
            "entropy": xp.where(mixed, 0.0, shaped),
        }
