"""GAE: generalised advantage estimation.

Schulman, Moritz, Levine, Jordan and Abbeel, "High-Dimensional Continuous Control Using Generalized Advantage
Estimation", arXiv:1506.02438, Eq. 16. The length-adaptive lambda is of Yue et al., "VAPO", arXiv:2504.05118,
section 4.2. Masked tokens, such as a tool's output, are no steps: their values never enter.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.reinforce_pp import whitened, whitening_terms
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class GAE(Estimator):
    """``A_t = d_t + discount lam A_(t+1)`` with ``d_t = r_t + discount V_(t+1) - V_t``, t over valid tokens.

    The value after a response's last valid token is 0.
    """

    name: ClassVar[str] = "gae"
    needs: ClassVar[frozenset[str]] = frozenset({"values"})
    uses: ClassVar[frozenset[str]] = frozenset({"token_rewards"})
    paper: ClassVar[Paper | None] = Paper(
        "High-Dimensional Continuous Control Using Generalized Advantage Estimation", "1506.02438", "Eq. 16"
    )

    discount: float = param(1.0, ge=0, le=1, doc="Gamma, a later valid token's weight.")
    lam: float = param(0.95, ge=0, le=1, doc="Lambda: 0 trusts the critic, 1 the return. The paper: 0.92 to 0.99.")
    length_adaptive_alpha: float = param(
        0.0,
        ge=0,
        doc="Alpha of lam_i = max(1 - 1/(alpha L_i), 0) in place of lam, L_i valid tokens; 0 is off. VAPO: 0.05.",
    )
    whiten: bool = param(False, doc="Whether the advantages are standardised over the batch's valid tokens.")
    eps: float = param(1e-8, ge=0, doc="Added to the standard deviation where whitened.")
    ddof: int = param(1, ge=0, le=1, doc="Of the standard deviation where whitened: 1 sample's, 0 population's.")

    @property
    def batch_statistics(self) -> bool:
        """Only where whitened."""
        return self.whiten

    def compute(self, batch: FlatBatch) -> Advantages:
        """Eq. 16 by its backward recurrence."""
        advantages = batch.row_returns(self.errors(batch), self.discount * self.decay(batch))
        return Advantages(whitened(batch, advantages, self.eps, self.ddof) if self.whiten else advantages)

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The token's own error and what later ones add; and what their sum is measured by where whitened."""
        errors = self.errors(batch)
        advantages = batch.row_returns(errors, self.discount * self.decay(batch))
        terms = {"error": errors, "later errors": advantages - errors}
        return {**terms, **(whitening_terms(batch, advantages, self.ddof) if self.whiten else {})}

    def errors(self, batch: FlatBatch) -> Array:
        """d_t (N,)."""
        return batch.dense_rewards + self.discount * batch.row_next(batch.values) - batch.values

    def decay(self, batch: FlatBatch) -> Array | float:
        """Lambda, one for all or (N,) by the response's length."""
        if self.length_adaptive_alpha == 0:
            return self.lam
        xp = batch.xp
        lengths = xp.clip(batch.lengths, 1)  # (B,)
        return batch.to_tokens(xp.clip(1 - 1 / (self.length_adaptive_alpha * lengths), 0))
