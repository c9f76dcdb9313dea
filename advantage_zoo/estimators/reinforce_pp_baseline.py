"""REINFORCE++ with baseline: the group's mean is subtracted, the deviation is the whole batch's.

Hu, Liu, Xu and Shen, "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Normalization",
arXiv:2501.03262 (v9), section 3.2, Eq. 6-7; Appendix B.2 takes mean and deviation over the N samples of the batch, each
response once. The KL term of Eq. 8 belongs to the loss.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, centre, moments, standardise
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.grpo import apply_singleton, group_terms, singleton_param
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class ReinforcePPBaseline(Estimator):
    """``A_i = (d_i - mean d) / (std d + eps)`` over the batch, ``d_i = r_i - mean_g r``; alike on all tokens of i.

    Exactly 0 everywhere where the rewards of every group are equal.
    """

    name: ClassVar[str] = "reinforce_pp_baseline"
    paper: ClassVar[Paper | None] = Paper(
        "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Normalization", "2501.03262", "Eq. 6-7"
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {"SHIFT", "ZERO_SUM", "DEAD_GROUP_ZERO", "UNIFORM", "SIGN", "MONOTONE"}
    )

    eps: float = param(1e-8, ge=0, doc="Added to the batch's standard deviation, in units of reward.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's. Open.")
    weighting: str = param(
        "sequence",
        choices=("sequence", "token"),
        doc="What the batch's mean and deviation count: responses, or tokens.",
    )
    recentre: bool = param(True, doc="Whether the batch's mean is subtracted, 0 but for tokens or raw singletons.")
    singleton: str = singleton_param(
        "d_i in a group of one: raise an error (reads the group sizes), 0, or the raw reward."
    )

    @property
    def batch_statistics(self) -> bool:
        """Always: the deviation is the batch's."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i."""
        d, weighting = self.distances(batch), self.weighting  # (B,)
        return Advantages(batch.to_tokens(over_batch(batch, d, weighting, self.eps, self.ddof, self.recentres)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward, its group's mean, and what their difference is measured by."""
        over = over_batch_terms(batch, self.distances(batch), self.weighting, self.ddof, self.recentres)
        return {**group_terms(batch, self.singleton), **over}

    def distances(self, batch: FlatBatch) -> Array:
        """d_i (B,)."""
        centred = centre(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)
        return apply_singleton(self.singleton, centred, batch)

    @property
    def recentres(self) -> bool:
        """Centred groups leave the batch's mean at 0; to subtract its rounding would move groups of equal rewards."""
        return self.recentre and (self.weighting == "token" or self.singleton == "raw")


def over_batch(batch: FlatBatch, x: Array, weighting: str, eps: float, ddof: int, subtract_mean: bool) -> Array:
    """``x`` (B,) standardised over the batch's responses, counted once each or as often as they have valid tokens."""
    return standardise(
        x,
        batch.group_ids * 0,
        1,
        batch.nonempty,
        eps=eps,
        ddof=ddof,
        subtract_mean=subtract_mean,
        weights=batch.lengths if weighting == "token" else None,
    )


def over_batch_terms(batch: FlatBatch, x: Array, weighting: str, ddof: int, subtract_mean: bool) -> dict[str, Array]:
    """What :func:`over_batch` measures ``x`` (B,) by, (B,) each."""
    weights = batch.lengths if weighting == "token" else None
    mean, deviation = moments(x, batch.group_ids * 0, 1, batch.nonempty, ddof, weights)
    return {"batch mean": mean, "batch deviation": deviation} if subtract_mean else {"batch deviation": deviation}
