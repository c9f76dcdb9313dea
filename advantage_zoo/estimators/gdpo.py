"""GDPO: Group reward-Decoupled normalisation Policy Optimization.

Liu et al., "GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL Optimization",
arXiv:2601.05242, Eq. 4-7. Each reward is standardised within its group before they are added; the sum is
standardised over the batch. The authors' two code bases differ in what the second step counts, responses or tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, standardise, widen
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.estimators.grpo import apply_singleton, singleton_param
from advantage_zoo.estimators.reinforce_pp_baseline import over_batch, over_batch_terms
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class GDPO(Estimator):
    """``A_i = (S_i - mean S) / (std S + eps)`` over the batch, ``S_i = sum_k w_k (r_ik - mean_g r_k) / std_g r_k``.

    The same on every token of response i. A component that is equal in a group adds exactly 0 there.
    """

    name: ClassVar[str] = "gdpo"
    needs: ClassVar[frozenset[str]] = frozenset({"reward_components"})
    paper: ClassVar[Paper | None] = Paper(
        "GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL Optimization",
        "2601.05242",
        "Eq. 4-7",
    )
    claims: ClassVar[frozenset[str]] = frozenset({"UNIFORM"})

    weights: tuple[float, ...] = param((), doc="w_k, one a component, in their order; 1 each if empty.")
    eps: float = param(1e-6, ge=0, doc="Added to the batch's standard deviation, which has no unit.")
    group_eps: float = param(
        0.0, ge=0, doc="Added to a component's deviation in its group, in its units. The paper: 0."
    )
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's deviations, 0 for the population's. The paper: 1.")
    whiten: bool = param(True, doc="Whether the sum is standardised over the batch.")
    weighting: str = param(
        "sequence",
        choices=("sequence", "token"),
        doc="What the batch's mean and deviation count: responses, or tokens.",
    )
    singleton: str = singleton_param(
        "S_i in a group of one: raise an error (reads the group sizes), 0, or the weighted sum of raw rewards."
    )

    @property
    def batch_statistics(self) -> bool:
        """Only where whitened."""
        return self.whiten

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i."""
        total = self.total(batch)[0]  # (B,)
        if self.singleton == "raise":
            total = apply_singleton("raise", total, batch)
        if self.whiten:
            total = over_batch(batch, total, self.weighting, self.eps, self.ddof, self.recentres)
        return Advantages(batch.to_tokens(total))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The components' parts, which sum to S_i, and what that is measured by."""
        total, parts = self.total(batch)
        over = over_batch_terms(batch, total, self.weighting, self.ddof, self.recentres) if self.whiten else {}
        return {**{f"component {k}": part for k, part in enumerate(parts, 1)}, **over}

    @property
    def recentres(self) -> bool:
        """Standardised groups leave the batch's mean at 0; see reinforce_pp_baseline."""
        return self.weighting == "token" or self.singleton == "raw"

    def total(self, batch: FlatBatch) -> tuple[Array, list[Array]]:
        """S_i (B,), and what it is the sum of.

        What is left of components that cancel by rounding alone is 0, or the batch would magnify it.
        """
        xp, rewards = batch.xp, widen(batch.reward_components)  # (B, K)
        weights = self.weights or (1.0,) * int(rewards.shape[1])
        if len(weights) != rewards.shape[1]:
            raise ValueError(
                f"gdpo.weights has {len(weights)} numbers; the batch has {rewards.shape[1]} reward components."
            )
        total = xp.zeros_like(batch.rewards)
        parts: list[Array] = []  # torch.compile cannot trace list[Array]()
        for k, weight in enumerate(weights):
            reward = rewards[:, k]
            z = standardise(
                reward, batch.group_ids, batch.num_groups, batch.nonempty, eps=self.group_eps, ddof=self.ddof
            )
            parts.append(weight * (xp.where(batch.alone, reward, z) if self.singleton == "raw" else z))
            total = total + parts[-1]
        rounding = 16 * float(xp.finfo(total.dtype).eps) * sum(map(abs, weights))
        return xp.where(xp.abs(total) > rounding, total, 0.0), parts
