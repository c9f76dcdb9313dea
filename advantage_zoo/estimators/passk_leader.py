"""The leader's lead: pass@k as verl's grpo_passk has it.

Tang et al., "Optimizing Language Models for Inference Time Objectives using Reinforcement Learning", arXiv:2503.19595:
with k the size of the group and a leave-one-out baseline, only the best response changes the maximum.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, moments, saturating, segment_max, segment_sum, unit
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.grpo import apply_singleton, singleton_param, singleton_terms
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class PassKLeader(Estimator):
    """``A_i = r_i - max of the group's other rewards`` where that is positive, else 0; the same on every token."""

    name: ClassVar[str] = "passk_leader"
    paper: ClassVar[Paper | None] = Paper(
        "Optimizing Language Models for Inference Time Objectives using Reinforcement Learning", "2503.19595"
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {"SHIFT", "SCALE_EQUIVARIANT", "DEAD_GROUP_ZERO", "UNIFORM", "MONOTONE", "SINGLETON"}
    )

    normalise: bool = param(False, doc="Whether the group's standard deviation divides, as in verl by default.")
    eps: float = param(1e-6, ge=0, doc="Added to the standard deviation, in units of reward.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's.")
    singleton: str = singleton_param()

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i, computed in units of the group's range."""
        xp, ids, groups = batch.xp, batch.group_ids, batch.num_groups
        u = unit(batch.rewards, ids, groups, batch.nonempty, self.ddof)
        best = segment_max(xp.where(batch.nonempty, u.centred, -xp.inf), ids, groups)  # (G,)
        leads = batch.nonempty & (u.centred == xp.take(best, ids))  # (B,)
        others = segment_max(xp.where(batch.nonempty & ~leads, u.centred, -xp.inf), ids, groups)  # (G,)
        alone = segment_sum(xp.astype(leads, u.centred.dtype), ids, groups) == 1
        ahead = alone & u.varies  # (G,) one leader, and somebody behind
        lead = xp.where(ahead, best - xp.where(ahead, others, 0.0), 0.0)  # (G,)
        if self.normalise:
            lead = lead * (u.half_range / u.half_spread(self.eps))
        else:
            lead = saturating(lead * u.half_range, 2.0)
        advantages = xp.where(leads, xp.take(lead, ids), 0.0)
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward, the best of the others', and the deviation that divides if any does."""
        xp, ids, groups, r = batch.xp, batch.group_ids, batch.num_groups, batch.rewards
        best = xp.take(segment_max(xp.where(batch.nonempty, r, -xp.inf), ids, groups), ids)  # (B,)
        leads = batch.nonempty & (r == best)
        behind = xp.take(segment_max(xp.where(batch.nonempty & ~leads, r, -xp.inf), ids, groups), ids)
        one = xp.take(segment_sum(xp.astype(leads, r.dtype), ids, groups), ids) == 1
        others = xp.where(leads & one & xp.isfinite(behind), behind, xp.where(batch.nonempty, best, 0.0))
        terms = {"reward": r, "best of the others": others}
        if self.normalise:
            terms["group deviation"] = moments(r, ids, groups, batch.nonempty, self.ddof)[1]
        return singleton_terms(self.singleton, terms, batch)
