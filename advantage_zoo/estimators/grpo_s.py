"""GRPO-S: sequence-level GRPO with rewards shaped by entropy, the sequence-level sister of GTPO.

Tan et al., "GTPO and GRPO-S: Token and Sequence-Level Reward Shaping with Policy Entropy", arXiv:2508.04349, Eq. 8-9.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, moments, segment_max, standardise
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.grpo import apply_singleton, singleton_param, singleton_terms
from advantage_zoo.estimators.gtpo import PAPER, entropy_weights, right_rewards
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class GRPOS(Estimator):
    """Rewards shared out among a group's right responses by mean entropy, among its wrong ones by its inverse; z-score.

    The same on every token of a response.
    """

    name: ClassVar[str] = "grpo_s"
    needs: ClassVar[frozenset[str]] = frozenset({"entropies"})
    paper: ClassVar[Paper | None] = Paper(PAPER, "2508.04349", "Eq. 8-9")
    claims: ClassVar[frozenset[str]] = frozenset({"ZERO_SUM", "UNIFORM", "BOUNDED", "SINGLETON"})

    beta1: float = param(1.0, ge=0, doc="Weight of the outcome. The paper's experiments: 1.")
    beta2: float = param(0.1, ge=0, doc="Weight of the entropy's share. The paper's experiments: 0.1.")
    reward_threshold: float = param(0.5, doc="A response is right if its reward is above this.")
    zscore: str = param(
        "joint", choices=("joint", "set"), doc="Over all responses of the group, or right and wrong ones apart. Open."
    )
    entropy_low: float = param(1e-6, gt=0, doc="Token entropies below count as this, in nats: no division by 0. Open.")
    entropy_high: float = param(100.0, gt=0, doc="Token entropies above count as this, in nats; 100 is no limit. Open.")
    eps: float = param(1e-6, ge=0, doc="Added to the standard deviation of shaped rewards.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's. Open.")
    singleton: str = singleton_param()

    def compute(self, batch: FlatBatch) -> Advantages:
        """The z-score of Eq. 9's reward on every token of a response."""
        outcome, share, sets = self.shaped(batch)  # (B,)
        segments, count = self.scope(batch, sets)
        advantages = standardise(outcome + share, segments, count, batch.nonempty, eps=self.eps, ddof=self.ddof)  # (B,)
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The parts of the shaped reward, less a constant of the group, and what they are measured by."""
        outcome, share, sets = self.shaped(batch)  # (B,)
        segments, count = self.scope(batch, sets)
        mean, deviation = moments(outcome + share, segments, count, batch.nonempty, self.ddof)
        terms = {"outcome": outcome, "entropy share": share, "mean": mean, "deviation": deviation}
        terms = singleton_terms(self.singleton, terms, batch)
        if self.singleton == "raw":
            terms["outcome"] = batch.xp.where(batch.alone, batch.rewards, terms["outcome"])
        return terms

    def scope(self, batch: FlatBatch, sets: Array) -> tuple[Array, int]:
        """(B,) what the z-score is over, and how many of these there are."""
        return (batch.group_ids, batch.num_groups) if self.zscore == "joint" else (sets, 2 * batch.num_groups)

    def shaped(self, batch: FlatBatch) -> tuple[Array, Array, Array]:
        """Eq. 9 less a constant of the group, so that equal rewards are exactly equal.

        Returns:
            (B,) each: what the outcome adds, what the entropy adds, and the response's set, O- or O+ of its group.
        """
        xp, groups, counts = batch.xp, batch.num_groups, batch.nonempty
        right = batch.rewards > self.reward_threshold  # (B,)
        sets = batch.group_ids * 2 + xp.astype(right, batch.group_ids.dtype)  # (B,)

        entropies = xp.clip(batch.entropies, self.entropy_low, self.entropy_high)  # (N,)
        highest = segment_max(xp.where(batch.mask, entropies, -xp.inf), batch.row_ids, batch.num_rows)
        highest = xp.where(counts, highest, 1.0)  # (B,)
        # Around a pivot, so that equal entropies have exactly equal means, whatever the lengths.
        below = batch.row_sum(xp.where(batch.mask, entropies - batch.to_tokens(highest), 0.0))
        mean_entropies = highest + xp.where(counts, below / xp.clip(batch.lengths, 1), 0.0)  # (B,) Eq. 8

        weights = self.beta2 * entropy_weights(mean_entropies, right, sets, 2 * groups, counts)  # (B,)
        above, mean = right_rewards(batch, right, sets, self.beta1)
        gap = xp.zeros_like(mean)
        if self.zscore == "joint":
            both = batch.group_sum(xp.astype(right, above.dtype)) > 0  # (G,)
            gap = xp.where(both, mean + self.beta1 + 2 * self.beta2, 0.0)
        return xp.where(right, above, -xp.take(gap, batch.group_ids)), xp.where(right, weights, -weights), sets
