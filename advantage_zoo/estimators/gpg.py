"""GPG: Group Policy Gradient.

Chu et al., "GPG: A Simple and Strong Reinforcement Learning Baseline for Model Reasoning", arXiv:2504.02546,
section 2.2, Eq. 5-7: responses of groups with equal rewards have no gradient, and alpha undoes their share.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, centre, saturating, unit
from advantage_zoo.estimator import Advantages, Estimator, Paper, Reduction, param
from advantage_zoo.estimators.grpo import apply_singleton, group_terms, singleton_param
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class GPG(Estimator):
    """``A_i = alpha (r_i - mean_g r)``, alpha the batch's responses over those that have a gradient."""

    name: ClassVar[str] = "gpg"
    paper: ClassVar[Paper | None] = Paper(
        "GPG: A Simple and Strong Reinforcement Learning Baseline for Model Reasoning",
        "2504.02546",
        "section 2.2, Eq. 5-7",
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {
            *("SHIFT", "SCALE_EQUIVARIANT", "ZERO_SUM", "DEAD_GROUP_ZERO", "UNIFORM", "SIGN", "MONOTONE", "SINGLETON"),
            "REDUCES_TO",
        }
    )
    reductions: ClassVar[tuple[Reduction, ...]] = (Reduction({"alpha": "one"}, "dr_grpo"),)

    alpha: str = param(
        "gradient",
        choices=("gradient", "reward", "one"),
        doc="What alpha counts: responses of groups whose rewards vary (the paper), responses with a reward other than "
        "0 (verl), or nothing, alpha = 1.",
    )
    singleton: str = singleton_param()

    @property
    def batch_statistics(self) -> bool:
        """Alpha is the batch's."""
        return self.alpha != "one"

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i."""
        centred = centre(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)  # (B,)
        advantages = saturating(centred, self.factor(batch))
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward, its group's mean, and alpha."""
        xp = batch.xp
        alpha = self.factor(batch) * xp.ones_like(batch.rewards)
        alpha = xp.where(batch.alone, 1.0, alpha) if self.singleton == "raw" else alpha
        return {**group_terms(batch, self.singleton), "alpha": alpha}

    def factor(self, batch: FlatBatch) -> Array:
        """Alpha, a scalar, at least 1."""
        xp, one = batch.xp, batch.xp.ones_like(batch.rewards)
        if self.alpha == "one":
            return one
        spread = unit(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)
        varied = xp.take(spread.varies, batch.group_ids)  # (B,)
        counts = batch.nonempty & (varied if self.alpha == "gradient" else batch.rewards != 0)
        total = xp.sum(xp.where(batch.nonempty, one, 0.0))
        return xp.clip(total, 1) / xp.clip(xp.sum(xp.where(counts, one, 0.0)), 1)
