"""PRIME: Process Reinforcement through IMplicit rEwards.

Cui et al., "Process Reinforcement through Implicit Rewards", arXiv:2502.01456, Eq. 3-5. The paper's implicit reward is
that of a reward model trained beside the policy; where the batch does not have its log-probabilities, the policy's own
stand for them (docs/estimators/prime.md tells what that means).
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, centre
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.grpo import apply_singleton, singleton_param
from advantage_zoo.estimators.reinforce_pp import whitened, whitening_terms
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class PRIME(Estimator):
    """``A_it = sum_(s >= t) discount^(s - t) (p_is - mean_(j != i) p_j) + r_i - mean_(j != i) r_j``.

    ``p_it = beta (log pi_phi - log pi_ref)``, and p_j its mean over the valid tokens of response j; the means over j
    are over the other responses of the group.
    """

    name: ClassVar[str] = "prime"
    needs: ClassVar[frozenset[str]] = frozenset({"logprobs", "ref_logprobs"})
    uses: ClassVar[frozenset[str]] = frozenset({"process_logprobs"})
    paper: ClassVar[Paper | None] = Paper("Process Reinforcement through Implicit Rewards", "2502.01456", "Eq. 3-5")

    beta: float = param(0.05, ge=0, doc="Scale of the implicit reward, per nat. The paper: 0.05.")
    discount: float = param(1.0, ge=0, le=1, doc="Gamma of the implicit rewards. The authors' runs: 1.")
    baseline: str = param(
        "others",
        choices=("others", "scaled"),
        doc="p_is less the others' mean (Eq. 5), or n/(n - 1) times p_is less the group's mean (the authors' code).",
    )
    process_norm: str = param(
        "none", choices=("none", "batch"), doc="Divide p by the batch's largest absolute sum of later p. The code's."
    )
    whiten: bool = param(False, doc="Whether the sum is standardised over the batch's valid tokens. The code's.")
    eps: float = param(1e-8, ge=0, doc="Added to the standard deviation where whitened.")
    singleton: str = singleton_param(
        "A group of one: raise an error (reads the group sizes), 0, or both rewards without a baseline."
    )

    @property
    def batch_statistics(self) -> bool:
        """Only where whitened, or the implicit rewards are scaled by the batch's."""
        return self.whiten or self.process_norm == "batch"

    def compute(self, batch: FlatBatch) -> Advantages:
        """Eq. 5 on every token."""
        outcome, process = self.parts(batch)
        advantages = outcome + process
        return Advantages(whitened(batch, advantages, self.eps, ddof=1) if self.whiten else advantages)

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The two sums of Eq. 5, and what their sum is measured by where whitened."""
        outcome, process = self.parts(batch)
        over = whitening_terms(batch, outcome + process, ddof=1) if self.whiten else {}
        return {"outcome": outcome, "process": process, **over}

    def parts(self, batch: FlatBatch) -> tuple[Array, Array]:
        """What the outcome and what the implicit rewards add, (N,) each."""
        size = batch.xp.take(batch.group_sizes, batch.group_ids)  # (B,)
        scale = size / batch.xp.clip(size - 1, 1)  # (B,) turns a distance from the mean to one from the others'
        outcome = centre(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)  # (B,)
        largest = float(batch.xp.finfo(outcome.dtype).max) / 2
        outcome = scale * batch.xp.clip(outcome, -largest, largest)
        outcome = batch.to_tokens(apply_singleton(self.singleton, outcome, batch))
        return outcome, batch.row_returns(self.steps(batch, scale), self.discount)

    def steps(self, batch: FlatBatch, scale: Array) -> Array:
        """(N,) implicit reward of each token less its baseline."""
        xp = batch.xp
        emitted = batch.logprobs if batch.process_logprobs is None else batch.process_logprobs
        rewards = self.beta * (emitted - batch.ref_logprobs)  # (N,) Eq. 3
        if self.process_norm == "batch":
            rewards = rewards / (xp.max(xp.where(batch.counted, xp.abs(batch.row_returns(rewards)), 0.0)) + 1e-6)
        mean = batch.row_sum(rewards) / xp.clip(batch.lengths, 1)  # (B,)
        above = scale * centre(mean, batch.group_ids, batch.num_groups, batch.nonempty)  # (B,) the others' mean
        inside = rewards - batch.to_tokens(mean)  # (N,)
        if self.baseline == "scaled":
            inside = batch.to_tokens(scale) * inside
        alone = rewards if self.singleton == "raw" else xp.zeros_like(rewards)
        return xp.where(batch.to_tokens(batch.alone), alone, inside + batch.to_tokens(above))
