"""REINFORCE++: the discounted return, normalised over the whole batch.

Hu, Liu, Xu and Shen, "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Normalization",
arXiv:2501.03262 (v9), section 3.1, Eq. 4-5. The KL penalty of Eq. 4 is part of the dense rewards. The paper writes
``std + eps`` and gives neither ddof nor the value of eps.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, moments, standardise
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.flat import FlatBatch

WHITENING = ("batch mean", "batch deviation")


@dataclass(frozen=True)
class ReinforcePP(Estimator):
    """``A_it = (R_it - mean R) / (std R + eps)`` over the batch's valid tokens, R the discounted return."""

    name: ClassVar[str] = "reinforce_pp"
    uses: ClassVar[frozenset[str]] = frozenset({"token_rewards"})
    paper: ClassVar[Paper | None] = Paper(
        "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Normalization", "2501.03262", "Eq. 4-5"
    )

    discount: float = param(1.0, ge=0, le=1, doc="Gamma, a later valid token's weight. The paper: 1.")
    eps: float = param(1e-8, ge=0, doc="Added to the batch's standard deviation, in units of return.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation over tokens, 0 for the population's.")

    @property
    def batch_statistics(self) -> bool:
        """Always: every token's advantage depends on the whole batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """The return from every token on, standardised."""
        returns = batch.row_returns(batch.dense_rewards, self.discount)  # (N,)
        return Advantages(whitened(batch, returns, self.eps, self.ddof))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The return, and what it is measured by."""
        returns = batch.row_returns(batch.dense_rewards, self.discount)  # (N,)
        return {"return": returns, **whitening_terms(batch, returns, self.ddof)}


def whitened(batch: FlatBatch, x: Array, eps: float, ddof: int) -> Array:
    """``x`` (N,) standardised over the valid tokens of the batch; exactly 0 where they are all equal."""
    xp = batch.xp
    limit = float(xp.finfo(x.dtype).max)  # an infinity would spoil the mean
    return standardise(xp.clip(x, -limit, limit), batch.row_ids * 0, 1, batch.counted, eps=eps, ddof=ddof)


def whitening_terms(batch: FlatBatch, x: Array, ddof: int) -> dict[str, Array]:
    """Mean and deviation of ``x`` (N,) over the valid tokens of the batch, (N,) each."""
    return dict(zip(WHITENING, moments(x, batch.row_ids * 0, 1, batch.counted, ddof), strict=True))
