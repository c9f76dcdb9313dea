"""ERPO: token-level Entropy-Regulated Policy Optimization, the predecessor of EP-GRPO.

Yu, Li, Zhao and Yang, "ERPO: Token-Level Entropy-Regulated Policy Optimization for Large Reasoning Models",
arXiv:2603.28204. No code was released. The equation numbers are those that readers of the paper quote.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, bucket_indices, ratio, sigmoid, standardise, unit
from advantage_zoo.estimator import Advantages, Estimator, Paper, Reduction, param
from advantage_zoo.estimators.grpo import group_advantages
from advantage_zoo.flat import FlatBatch


def half(size: Array) -> Array:
    """1/2 for each: what the gate is at temperature 0."""
    return size * 0 + 0.5


@dataclass(frozen=True)
class ERPO(Estimator):
    """``A_it = W_it A_i + progress_weight W_it sign(A_i) s_it``, s normalised among tokens at the same relative place.

    Diagnostics: ``progress_share``, a scalar, the share of the summed absolute advantage that the second term brings.
    """

    name: ClassVar[str] = "erpo"
    needs: ClassVar[frozenset[str]] = frozenset({"entropies", "logprobs", "ref_logprobs"})
    paper: ClassVar[Paper | None] = Paper(
        "ERPO: Token-Level Entropy-Regulated Policy Optimization for Large Reasoning Models", "2603.28204", "Eq. 7-10"
    )
    claims: ClassVar[frozenset[str]] = frozenset({"SCALE", "DEAD_GROUP_ZERO", "REDUCES_TO"})
    reductions: ClassVar[tuple[Reduction, ...]] = (
        Reduction({"progress_weight": 0.0, "gate_temperature": 0.0}, "grpo", half),
    )

    gate_temperature: float = param(5.0, ge=0, doc="Gamma, the gate's slope in standard deviations of entropy. Open.")
    progress_weight: float = param(0.2, ge=0, doc="Eta, weight of the process term. Open.")
    num_buckets: int = param(10, ge=1, doc="K, buckets of relative position. Open.")
    beta: float = param(0.1, gt=0, doc="Scale of the log-ratio; cancels in the z-score except against eps. Open.")
    progress_floor: float = param(
        1.0, ge=0, doc="Floor under a bucket's deviation, in nats of log-ratio. Ours; 0 is the literal z-score."
    )
    eps: float = param(1e-6, ge=0, doc="Added to every standard deviation: of rewards, entropies (nats) and signals.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """The gated outcome and the gated process term on every token."""
        xp, terms = batch.xp, self.explain(batch)
        outcome, process = terms["outcome"], terms["progress"]
        sizes = [xp.where(batch.mask, xp.abs(term), 0.0) for term in (outcome, process)]
        return Advantages(outcome + process, {"progress_share": ratio(sizes[1], sizes[0] + sizes[1])})

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """Gate, bucket (from 0) and the two terms of Eq. 10, which sum to the advantage."""
        xp, groups = batch.xp, batch.num_groups
        advantages = group_advantages(batch, self.eps, ddof=1)  # (B,)
        # A reward at its group's mean has no sign, and the rounding of that mean is none either.
        centred = unit(batch.rewards, batch.group_ids, groups, batch.nonempty).centred  # (B,)
        signs = xp.where(xp.abs(centred) > batch.reward_rounding, xp.sign(advantages), 0.0)

        normal = standardise(batch.entropies, batch.token_groups, groups, batch.mask, eps=self.eps)
        gate = sigmoid(self.gate_temperature * normal)  # (N,) Eq. 8

        places = xp.astype(batch.positions + 1, batch.lengths.dtype)  # (N,)
        progress = places / batch.to_tokens(xp.clip(batch.lengths, 1))
        buckets = bucket_indices(progress, self.num_buckets)  # (N,)
        signal = standardise(  # (N,) Eq. 7 and 9
            self.beta * (batch.logprobs - batch.ref_logprobs),
            batch.token_groups * self.num_buckets + buckets,
            groups * self.num_buckets,
            batch.mask,
            eps=self.eps,
            floor=self.beta * self.progress_floor,
        )
        outcome = gate * batch.to_tokens(advantages)
        process = self.progress_weight * gate * batch.to_tokens(signs) * signal  # Eq. 10
        return {"gate": gate, "bucket": buckets, "outcome": outcome, "progress": process}
