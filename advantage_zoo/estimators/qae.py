"""QAE: Quantile Advantage Estimation.

Wu et al., "Quantile Advantage Estimation: Stabilizing RLVR for LLM Reasoning" (v1: "... for Entropy-Safe Reasoning"),
arXiv:2509.22611: the K-quantile of the group's rewards takes the place of their mean.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, moments, saturating, segment_quantile, unit
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.grpo import apply_singleton, singleton_param, singleton_terms
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class QAE(Estimator):
    """``A_i = (r_i - Q_K) / (std_g r + eps)``, Q_K the K-quantile of the group's rewards; the same on every token."""

    name: ClassVar[str] = "qae"
    paper: ClassVar[Paper | None] = Paper(
        "Quantile Advantage Estimation: Stabilizing RLVR for LLM Reasoning", "2509.22611", "v2, Eq. 3-4"
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {"SHIFT", "SCALE", "DEAD_GROUP_ZERO", "UNIFORM", "MONOTONE", "SINGLETON"}
    )

    quantile: float = param(0.4, ge=0, le=1, doc="K; with rewards of 0 and 1, a prompt is hard if p <= 1 - K.")
    convention: str = param(
        "empirical",
        choices=("empirical", "linear"),
        doc="The empirical quantile, the smallest reward r with F(r) >= K (so that p <= 1 - K is hard), or linear "
        "interpolation between neighbours (torch.quantile).",
    )
    normalise: bool = param(True, doc="Whether the deviation divides, as in GRPO.")
    eps: float = param(1e-6, ge=0, doc="Added to the group's standard deviation, in units of reward.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's.")
    singleton: str = singleton_param()

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i, computed in units of the group's range."""
        xp, ids = batch.xp, batch.group_ids
        u = unit(batch.rewards, ids, batch.num_groups, batch.nonempty, self.ddof)
        above = u.centred - xp.take(self.baseline(batch, u.centred), ids)  # (B,)
        if self.normalise:
            advantages = above * xp.take(u.half_range / u.half_spread(self.eps), ids)
        else:
            advantages = saturating(above * xp.take(u.half_range, ids), 2.0)
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward, its group's quantile and deviation."""
        ids, groups = batch.group_ids, batch.num_groups
        terms = {
            "reward": batch.rewards,
            "group quantile": batch.xp.take(self.baseline(batch, batch.rewards), ids),
            "group deviation": moments(batch.rewards, ids, groups, batch.nonempty, self.ddof)[1],
        }
        if not self.normalise:
            del terms["group deviation"]
        return singleton_terms(self.singleton, terms, batch)

    def baseline(self, batch: FlatBatch, x: Array) -> Array:
        """(G,) quantile of ``x`` (B,)."""
        linear = self.convention == "linear"
        return segment_quantile(x, batch.group_ids, batch.num_groups, batch.nonempty, self.quantile, linear=linear)
