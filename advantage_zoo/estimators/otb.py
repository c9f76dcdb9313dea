"""OTB: the Optimal Token Baseline.

Li et al., "The Optimal Token Baseline: Variance Reduction for Long-Horizon LLM-RL", arXiv:2602.07078. Each token has a
baseline of its own: the mean return of the group's responses at their t-th valid token, weighed by the squared norm of
the score up to there, for which the logit-gradient proxy stands.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, segment_sum, unit
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class OTB(Estimator):
    """``A_it = G_it - B_t`` with ``B_t = sum_i G_it W_it / sum_i W_it`` over the group's responses with a t-th token.

    ``G_it`` is the sum of the rewards from token t on, ``W_it = sum_(j <= t) (1 - 2 pi_ij + sum_v pi_v^2)``.
    """

    name: ClassVar[str] = "otb"
    needs: ClassVar[frozenset[str]] = frozenset({"logprobs", "sum_pi_squared"})
    uses: ClassVar[frozenset[str]] = frozenset({"token_rewards"})
    paper: ClassVar[Paper | None] = Paper(
        "The Optimal Token Baseline: Variance Reduction for Long-Horizon LLM-RL", "2602.07078", "section 3"
    )

    singleton: str = param(
        "zero",
        choices=("zero", "raw"),
        doc="A t-th token that one response alone of its group has (group of one, longest tail): 0, or the return.",
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The return from every token on, less the baseline of its place."""
        xp, counted = batch.xp, batch.counted
        returns = batch.row_returns(batch.dense_rewards)  # (N,)
        cells, count = batch.position_cells()  # (N,)
        weights = self.energies(batch)  # (N,)
        total = segment_sum(xp.where(counted, weights, 0.0), cells, count)
        weights = xp.where(xp.take(total, cells) > 0, weights, 1.0)  # all certain: the plain mean, their common limit
        u = unit(returns, cells, count, counted, weights=weights)
        limit = float(xp.finfo(returns.dtype).max) / 2
        advantages = xp.clip(u.centred * xp.take(u.half_range, cells), -limit, limit) * 2
        if self.singleton == "raw":
            members = segment_sum(xp.astype(counted, returns.dtype), cells, count)
            advantages = xp.where(xp.take(members, cells) == 1, returns, advantages)
        return Advantages(advantages)

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The return and the baseline of its place."""
        returns = batch.row_returns(batch.dense_rewards)  # (N,)
        return {"return": returns, "baseline": returns - self.compute(batch).values}

    def energies(self, batch: FlatBatch) -> Array:
        """W (N,), not negative: 1 - 2 pi + sum pi^2, in a form that keeps its digits where pi is near 1, summed."""
        xp = batch.xp
        energy = (batch.sum_pi_squared - 1) - 2 * xp.expm1(batch.logprobs)
        return batch.row_cumsum(xp.where(batch.mask, xp.clip(energy, 0), 0.0))
