"""REINFORCE: the discounted return, and nothing else.

Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", Machine Learning
8, 1992, section 5 (episodes); no arXiv identifier. The discount and the sum over later rewards only ("reward to go")
are in Sutton and Barto, "Reinforcement Learning", second edition, section 13.3.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.estimator import Advantages, Estimator, param
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class Reinforce(Estimator):
    """``A_it = sum_(s >= t) discount^(s - t) r_is`` over the response's valid tokens: no baseline, no group."""

    name: ClassVar[str] = "reinforce"
    uses: ClassVar[frozenset[str]] = frozenset({"token_rewards"})

    discount: float = param(1.0, ge=0, le=1, doc="Gamma, a later valid token's weight.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """The return from every token on."""
        return Advantages(batch.row_returns(batch.dense_rewards, self.discount))
