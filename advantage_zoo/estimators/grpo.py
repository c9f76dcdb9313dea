"""GRPO: Group Relative Policy Optimization.

Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", arXiv:2402.03300,
section 4.1.2 (outcome supervision). The paper gives neither ddof nor epsilon; frameworks differ in both.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from advantage_zoo.arrays import Array, is_concrete, moments, standardise
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.flat import FlatBatch


def singleton_param(
    doc: str = "A group of one: raise an error (reads the group sizes), advantage 0, or the raw reward.",
) -> Any:
    """The parameter ``singleton``, see :func:`apply_singleton`."""
    return param("zero", choices=("raise", "zero", "raw"), doc=doc)


@dataclass(frozen=True)
class GRPO(Estimator):
    """``A_i = (r_i - mean_g r) / (std_g r + eps)``, the same on every token of response i.

    Exactly 0 where a group's rewards are equal, in every dtype.
    """

    name: ClassVar[str] = "grpo"
    paper: ClassVar[Paper | None] = Paper(
        "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        "2402.03300",
        "section 4.1.2",
    )
    claims: ClassVar[frozenset[str]] = frozenset(
        {"SHIFT", "SCALE", "ZERO_SUM", "DEAD_GROUP_ZERO", "UNIFORM", "SIGN", "BOUNDED", "MONOTONE", "SINGLETON"}
    )

    eps: float = param(1e-6, ge=0, doc="Added to the group's standard deviation, in units of reward.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's.")
    singleton: str = singleton_param()

    def compute(self, batch: FlatBatch) -> Advantages:
        """A_i on every token of response i."""
        advantages = group_advantages(batch, self.eps, self.ddof)  # (B,)
        return Advantages(batch.to_tokens(apply_singleton(self.singleton, advantages, batch)))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The reward, and what it is measured by."""
        return group_terms(batch, self.singleton, self.ddof)


def group_advantages(batch: FlatBatch, eps: float, ddof: int) -> Array:
    """Rewards standardised within their group, (B,); responses without a valid token do not count."""
    return standardise(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty, eps=eps, ddof=ddof)


def group_terms(batch: FlatBatch, singleton: str, ddof: int | None = None) -> dict[str, Array]:
    """Each response's reward, its group's mean and, with ``ddof``, its group's standard deviation, (B,) each."""
    mean, deviation = moments(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty, ddof or 0)
    terms = {"reward": batch.rewards, "group mean": mean}
    return singleton_terms(singleton, terms if ddof is None else {**terms, "group deviation": deviation}, batch)


def singleton_terms(policy: str, terms: dict[str, Array], batch: FlatBatch) -> dict[str, Array]:
    """``terms`` (B,), but for the raw reward of a group of one a baseline of 0 and a deviation of 1."""
    if policy != "raw":
        return terms
    instead = {name: 1.0 if "deviation" in name else 0.0 for name in terms if name != "reward"}
    return {name: batch.xp.where(batch.alone, instead[name], x) if name in instead else x for name, x in terms.items()}


def apply_singleton(policy: str, advantages: Array, batch: FlatBatch) -> Array:
    """``advantages`` (B,) with the policy for groups of one response.

    Raises:
        ValueError: The policy is ``"raise"`` and a group has one response, or its size cannot be read (under jit).
    """
    if policy == "zero":  # what the mean of one leaves
        return advantages
    xp, alone = batch.xp, batch.alone
    if policy == "raw":
        return xp.where(alone, batch.rewards, advantages)
    if not is_concrete(alone):
        raise ValueError("singleton='raise' must read the group sizes, which tracing forbids; use 'zero' or 'raw'.")
    if bool(xp.any(alone)):
        rows = [int(row) for row in xp.nonzero(alone)[0]]
        raise ValueError(
            f"singleton='raise': {len(rows)} responses are alone in their group (row {rows[0]}, group "
            f"{int(batch.group_ids[rows[0]])}, is the first); sample more a prompt, or use singleton='zero'."
        )
    return advantages
