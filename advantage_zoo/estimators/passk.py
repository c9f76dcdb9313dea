"""Pass@k Training: the advantage of pass@k in closed form.

Chen et al., "Pass@k Training for Adaptively Balancing Exploration and Exploitation of Large Reasoning Models",
arXiv:2508.10751, Eq. 11-15.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, namespace
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class PassK(Estimator):
    """Of k responses drawn from a group of n with c right ones, what a right, or a wrong, one changes.

    With f = C(n - c, k) / C(n, k), the probability that none of k is right, and sigma = sqrt(f (1 - f)): a right
    response gets ``f / sigma``, a wrong one ``(f - C(n - c - 1, k - 1) / C(n - 1, k - 1)) / sigma``; 0 if sigma is 0.
    """

    name: ClassVar[str] = "passk"
    paper: ClassVar[Paper | None] = Paper(
        "Pass@k Training for Adaptively Balancing Exploration and Exploitation of Large Reasoning Models",
        "2508.10751",
        "Eq. 11-15",
    )
    claims: ClassVar[frozenset[str]] = frozenset({"ZERO_SUM", "DEAD_GROUP_ZERO", "UNIFORM", "MONOTONE", "BOUNDED"})

    k: int = param(4, ge=1, doc="Responses that are drawn; a group of fewer is drawn whole.")
    reward_threshold: float = param(0.5, doc="A response is right if its reward is above this.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """The same on every token of a response."""
        fails, fails_with = self.explain(batch).values()  # (B,)
        variance = fails * (1 - fails)
        scale = 1 / batch.xp.sqrt(batch.xp.where(variance > 0, variance, batch.xp.inf))
        return Advantages(batch.to_tokens((fails - fails_with) * scale))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The probabilities that no one of k is right, of any k (f), and of those with this response among them."""
        xp = batch.xp
        right = batch.rewards > self.reward_threshold  # (B,)
        size = batch.group_sizes  # (G,)
        wrong = size - batch.group_sum(xp.astype(right, size.dtype))  # (G,)
        fails = all_wrong(wrong, size, self.k)  # (G,) f
        fails_with = all_wrong(wrong - 1, size - 1, self.k - 1)  # (G,) given that a wrong one is drawn
        with_this = xp.where(right, 0.0, xp.take(fails_with, batch.group_ids))
        return {"none of k is right": xp.take(fails, batch.group_ids), "the same, this one drawn": with_this}


def all_wrong(wrong: Array, size: Array, k: int) -> Array:
    """``C(wrong, k) / C(size, k)``, (G,), and 0 where the size is below k, which leaves no set of k to be wrong."""
    xp = namespace(size)
    share = xp.ones_like(size)
    for j in range(k):
        share = share * (wrong - j) / xp.clip(size - j, 1)  # no factor after a 0 counts
    return share
