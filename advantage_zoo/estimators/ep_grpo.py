"""EP-GRPO: Entropy-Progress Aligned Group Relative Policy Optimization with Implicit Process Guidance.

Yu, Li, Zhao and Yang, arXiv:2605.04960; its predecessor by the same authors, ERPO, arXiv:2603.28204. No code was
released.

What the paper leaves open is a parameter. One default departs from the literal reading: ``progress_floor``, without
which the progress term can stop learning (docs/estimators/ep_grpo.md tells when, with the numbers).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from advantage_zoo.arrays import (
    Array,
    bucket_indices,
    masked_mean,
    min_and_median_of_positive,
    ratio,
    segment_sum,
    sigmoid,
    standardise,
    top_share,
    unit,
)
from advantage_zoo.estimator import Advantages, Estimator, Paper, Reduction, param
from advantage_zoo.estimators.grpo import group_advantages
from advantage_zoo.flat import FlatBatch


class Terms(NamedTuple):
    """The parts that EP-GRPO's advantage is made of."""

    grpo: Array
    """(B,) A_i, exactly 0 where the reward is its group's mean up to rounding."""
    zero_variance: Array
    """(B,) bool: the rewards of the response's group are equal."""
    gate: Array
    """(N,) W_it."""
    buckets: Array
    """(N,) index of the token's cell among groups times buckets."""
    outcome: Array
    """(N,) W_it A_i."""
    progress: Array
    """(N,) progress_weight W_it z_it."""


@dataclass(frozen=True)
class EPGRPO(Estimator):
    """``A_it = W_it A_i + progress_weight W_it z_it``: gated outcome plus anchored, progress-normalised process signal.

    Diagnostics, scalars: ``gate_top_entropy``, the mean gate on the 20 % of tokens with the highest entropy;
    ``zero_variance_groups``, the share of groups whose rewards are equal; ``progress_share``, the share of the summed
    absolute advantage that the progress term brings; ``sign_flips``, the share of tokens whose sign is opposite to
    GRPO's; ``bucket_tokens_min`` and ``bucket_tokens_median``, tokens in a bucket of a group, over the buckets that
    hold any.
    """

    name: ClassVar[str] = "ep_grpo"
    needs: ClassVar[frozenset[str]] = frozenset({"entropies", "logprobs", "ref_logprobs"})
    paper: ClassVar[Paper | None] = Paper(
        "EP-GRPO: Entropy-Progress Aligned Group Relative Policy Optimization with Implicit Process Guidance",
        "2605.04960",
        "Eq. 18-26, Table I",
    )
    claims: ClassVar[frozenset[str]] = frozenset({"DEAD_GROUP_ALIVE", "REDUCES_TO"})
    reductions: ClassVar[tuple[Reduction, ...]] = (
        Reduction({"progress_weight": 0.0, "gate_mean_one": True, "gate_temperature": 0.0}, "grpo"),
    )

    eps: float = param(1e-6, ge=0, doc="Added to every standard deviation: of rewards, entropies (nats) and signals.")
    gate_temperature: float = param(5.0, ge=0, doc="Gamma, the gate's slope in standard deviations of entropy. Open.")
    beta: float = param(0.1, gt=0, doc="Lambda, scale of the log-ratio; cancels in z except against eps. Open.")
    progress_weight: float = param(0.2, ge=0, doc="Eta, weight of the progress term. Open.")
    num_buckets: int = param(10, ge=1, doc="K, buckets of cumulative entropy. The paper: 10.")
    reward_threshold: float = param(0.5, doc="Theta, where equal rewards turn from wrong to right. Open.")
    gate_scope: str = param(
        "group", choices=("group", "batch", "sequence"), doc="Tokens that the gate's mean and deviation are of. Open."
    )
    bucket_norm: str = param(
        "zscore", choices=("zscore", "scale"), doc="Scale alone leaves the bucket's mean in. Open."
    )
    gate_progress: bool = param(True, doc="Whether the gate weighs the progress term as well (Theorem VI.1). Open.")
    gate_mean_one: bool = param(False, doc="Rescale the gate to mean 1 within its scope. Ours, not the paper's.")
    progress_anchor: str = param(
        "sign", choices=("sign", "advantage", "none"), doc="d_i: sign of A_i (Table I), A_i itself, or 1."
    )
    progress_coordinate: str = param(
        "entropy", choices=("entropy", "position"), doc="What buckets are of: cumulative entropy (Eq. 22), or position."
    )
    progress_groups: str = param(
        "all", choices=("all", "zero_variance"), doc="Groups that have a progress term. The paper: all."
    )
    progress_floor: float = param(
        1.0, ge=0, doc="Floor under a bucket's deviation, in nats of log-ratio. Ours; 0 is the paper's literal z-score."
    )

    @property
    def batch_statistics(self) -> bool:
        """Only where the gate's scope is the batch."""
        return self.gate_scope == "batch"

    def compute(self, batch: FlatBatch) -> Advantages:
        """Eq. 26 on every token."""
        terms = self.terms(batch)
        return Advantages(terms.outcome + terms.progress, self.diagnose(batch, terms))

    def terms(self, batch: FlatBatch) -> Terms:
        """Every part of the advantage, for diagnostics and pictures."""
        xp = batch.xp
        advantages = group_advantages(batch, self.eps, ddof=1)  # (B,)
        spread = unit(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)
        zero_variance = xp.take(~spread.varies, batch.group_ids)  # (B,)
        # A reward at its group's mean has no polarity, and the rounding of that mean is none either.
        polar = xp.where(xp.abs(spread.centred) > batch.reward_rounding, advantages, 0.0)  # (B,)
        gate = self.gate(batch)  # (N,) Eq. 18-19
        outcome = gate * batch.to_tokens(advantages)  # (N,)

        signal = self.beta * (batch.logprobs - batch.ref_logprobs)  # (N,) Eq. 20
        oriented = batch.to_tokens(self.anchor(batch, polar, zero_variance)) * signal  # (N,) Eq. 21
        tau = progress(batch, self.progress_coordinate)  # (N,)
        buckets = batch.token_groups * self.num_buckets + bucket_indices(tau, self.num_buckets)  # (N,)
        z = standardise(  # (N,) Eq. 24-25
            oriented,
            buckets,
            batch.num_groups * self.num_buckets,
            batch.mask,
            eps=self.eps,
            floor=self.beta * self.progress_floor,
            subtract_mean=self.bucket_norm == "zscore",
        )
        if self.progress_groups == "zero_variance":
            z = xp.where(batch.to_tokens(zero_variance), z, 0.0)
        weight = self.progress_weight * gate if self.gate_progress else self.progress_weight
        return Terms(polar, zero_variance, gate, buckets, outcome, weight * z)

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """Gate, bucket (from 0) and the two terms of Eq. 26, which sum to the advantage."""
        terms = self.terms(batch)
        buckets = terms.buckets - batch.token_groups * self.num_buckets
        return {"gate": terms.gate, "bucket": buckets, "outcome": terms.outcome, "progress": terms.progress}

    def gate(self, batch: FlatBatch) -> Array:
        """``W_it = sigmoid(gate_temperature (H_it - mu) / (sigma + eps))``, (N,); in (0, 1) but for gate_mean_one."""
        scopes = {
            "group": (batch.token_groups, batch.num_groups),
            "batch": (batch.row_ids * 0, 1),
            "sequence": (batch.row_ids, batch.num_rows),
        }
        scope, count = scopes[self.gate_scope]
        gate = sigmoid(self.gate_temperature * standardise(batch.entropies, scope, count, batch.mask, eps=self.eps))
        if not self.gate_mean_one:
            return gate
        xp = batch.xp
        tokens = xp.astype(batch.mask, gate.dtype)
        total = segment_sum(xp.where(batch.mask, gate, 0.0), scope, count)
        mean = total / xp.clip(segment_sum(tokens, scope, count), 1)
        return gate / xp.take(xp.where(mean == 0, 1.0, mean), scope)

    def anchor(self, batch: FlatBatch, advantages: Array, zero_variance: Array) -> Array:
        """``d_i`` (B,): what turns the process signal towards the outcome (Eq. 21, Table I)."""
        xp = batch.xp
        if self.progress_anchor == "none":
            return xp.ones_like(advantages)
        alive = xp.sign(advantages) if self.progress_anchor == "sign" else advantages
        return xp.where(zero_variance, xp.sign(batch.rewards - self.reward_threshold), alive)

    def diagnose(self, batch: FlatBatch, terms: Terms) -> dict[str, Array]:
        """The scalars that the class describes."""
        xp = batch.xp
        tokens = xp.astype(batch.mask, terms.gate.dtype)
        equal = batch.group_sum(xp.astype(terms.zero_variance, batch.rewards.dtype)) > 0  # (G,)
        flips = (terms.outcome + terms.progress) * batch.to_tokens(xp.sign(terms.grpo)) < 0
        outcome, process = (xp.where(batch.mask, xp.abs(term), 0.0) for term in (terms.outcome, terms.progress))
        cells = segment_sum(tokens, terms.buckets, batch.num_groups * self.num_buckets)
        smallest, median = min_and_median_of_positive(cells)
        return {
            "gate_top_entropy": masked_mean(terms.gate, top_share(batch.entropies, batch.mask, 0.2)),
            "zero_variance_groups": masked_mean(xp.astype(equal, tokens.dtype), batch.group_sizes > 0),
            "progress_share": ratio(process, outcome + process),
            "sign_flips": masked_mean(xp.astype(flips, tokens.dtype), batch.mask),
            "bucket_tokens_min": smallest,
            "bucket_tokens_median": median,
        }


def progress(batch: FlatBatch, coordinate: str = "entropy") -> Array:
    """``tau_it`` (N,), cumulative entropy as a share of the response's, 1 at its last valid token (Eq. 22-23).

    A response whose total entropy is 0 takes the token's position among its valid tokens instead, as every response
    does where ``coordinate`` is "position".
    """
    xp = batch.xp
    entropies = xp.clip(batch.entropies, 0)  # an entropy below 0 is a rounding error, and no way back
    if coordinate == "position":
        entropies = xp.zeros_like(entropies)
    total = batch.to_tokens(batch.row_sum(entropies))  # (N,)
    step = xp.where(total > 0, entropies, xp.astype(batch.mask, entropies.dtype))
    so_far = batch.row_cumsum(step)  # (N,)
    last = batch.to_tokens(batch.row_last(so_far))  # (N,) the running sum's own end, so that tau ends at exactly 1
    return so_far / xp.where(last == 0, 1.0, last)
