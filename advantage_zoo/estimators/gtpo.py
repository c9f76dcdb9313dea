"""GTPO: Group Token Policy Optimization.

Tan et al., "GTPO and GRPO-S: Token and Sequence-Level Reward Shaping with Policy Entropy", arXiv:2508.04349, Eq. 3, 5
and 6. Not the GTPO of arXiv:2508.03772, which is another method of the same name.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from advantage_zoo.arrays import (
    Array,
    centre,
    moments,
    namespace,
    segment_cumsum,
    segment_max,
    segment_sum,
    standardise,
)
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.flat import FlatBatch

PAPER = "GTPO and GRPO-S: Token and Sequence-Level Reward Shaping with Policy Entropy"


@dataclass(frozen=True)
class GTPO(Estimator):
    """Rewards shared out among the t-th tokens of a group's right responses by H, of its wrong ones by 1/H; z-score."""

    name: ClassVar[str] = "gtpo"
    needs: ClassVar[frozenset[str]] = frozenset({"entropies"})
    paper: ClassVar[Paper | None] = Paper(PAPER, "2508.04349", "Eq. 3, 5, 6")

    alpha1: float = param(1.0, ge=0, doc="Weight of the outcome. The paper's experiments: 1.")
    alpha2: float = param(0.1, ge=0, doc="Weight of the entropy's share. The paper's experiments: 0.1.")
    reward_threshold: float = param(0.5, doc="A response is right if its reward is above this.")
    zscore: str = param(
        "set",
        choices=("set", "zeros"),
        doc="Over the set's tokens, or these and a 0 for each of the other set's. Open.",
    )
    entropy_low: float = param(1e-6, gt=0, doc="Entropies below count as this, in nats: no division by 0. Open.")
    entropy_high: float = param(100.0, gt=0, doc="Entropies above count as this, in nats; 100 is no limit. Open.")
    eps: float = param(1e-6, ge=0, doc="Added to the standard deviation of shaped rewards.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's. Open.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """Eq. 6 on every token, of shaped rewards less a constant of the set, so that equal ones are exactly equal."""
        shaped = self.shaped(batch)
        z = [
            standardise(x, ids, count, shaped.valid, eps=self.eps, ddof=self.ddof)
            for x, ids, count in self.scopes(batch, shaped)
        ]
        return Advantages(batch.xp.where(shaped.right, z[0], z[-1]))

    def explain(self, batch: FlatBatch) -> dict[str, Array]:
        """The parts of the shaped reward, less a constant of the set, and what they are measured by."""
        xp, shaped = batch.xp, self.shaped(batch)
        measured = [moments(x, ids, n, shaped.valid, self.ddof) for x, ids, n in self.scopes(batch, shaped)]
        mean, deviation = (xp.where(shaped.right, x, y) for x, y in zip(measured[0], measured[-1], strict=True))
        parts = {"outcome": shaped.outcome, "entropy share": shaped.share}
        return {**parts, "set mean": mean, "set deviation": deviation}

    def shaped(self, batch: FlatBatch) -> "Shaped":
        """Eq. 3 and 5."""
        xp, groups = batch.xp, batch.num_groups
        right = batch.rewards > self.reward_threshold  # (B,)
        sets = batch.group_ids * 2 + xp.astype(right, batch.group_ids.dtype)  # (B,) O- and O+ of each group
        is_right, valid = batch.to_tokens(right), batch.mask & batch.to_tokens(batch.nonempty)  # (N,)
        entropies = xp.clip(batch.entropies, self.entropy_low, self.entropy_high)  # (N,)
        cells = xp.where(valid, cells_by_position(batch, sets, 2 * groups), 0)  # (N,)
        weights = self.alpha2 * entropy_weights(entropies, is_right, cells, cells.shape[0], valid)
        above, mean = right_rewards(batch, right, sets, self.alpha1)
        outcome = xp.where(is_right, batch.to_tokens(above), 0.0)
        return Shaped(is_right, valid, sets, outcome, xp.where(is_right, weights, -weights), mean)

    def scopes(self, batch: FlatBatch, shaped: "Shaped") -> list[tuple[Array, Array, int]]:
        """What the z-score is over, first for right tokens, last for wrong ones: values, segments and their number."""
        xp, groups, total = batch.xp, batch.num_groups, shaped.outcome + shaped.share
        if self.zscore == "set":
            return [(total, batch.to_tokens(shaped.sets), 2 * groups)]
        nothing = xp.take(-shaped.mean - self.alpha2, batch.token_groups)  # (N,) a reward of 0, less O+'s constant
        positive = xp.where(shaped.right, total, nothing)
        negative = xp.where(shaped.right, self.alpha1 + self.alpha2, total)
        return [(x, batch.token_groups, groups) for x in (positive, negative)]


class Shaped(NamedTuple):
    """A token's shaped reward, less a constant of its set, in its two parts."""

    right: Array
    """(N,) bool: whether its response is right."""
    valid: Array
    """(N,) bool: whether it counts."""
    sets: Array
    """(B,) O- and O+ of each group."""
    outcome: Array
    """(N,) reward above the mean of the set's."""
    share: Array
    """(N,) what its entropy adds."""
    mean: Array
    """(G,) mean of the right rewards."""


def cells_by_position(batch: FlatBatch, sets: Array, count: int) -> Array:
    """(N,) in [0, N) on valid tokens: one cell for each set of responses and position among valid tokens.

    A set takes as many cells as its longest response has tokens, so N cells are enough, whatever the layout.
    """
    xp = batch.xp
    longest = segment_max(xp.where(batch.nonempty, batch.lengths, 0.0), sets, count)  # (count,)
    longest = xp.astype(xp.clip(longest, 0), sets.dtype)
    return batch.to_tokens(xp.take(segment_cumsum(longest, longest, count) - longest, sets)) + batch.positions


def entropy_weights(entropies: Array, right: Array, cells: Array, count: int, valid: Array) -> Array:
    """Share of the cell's H, or 1/H where not right, times the cell's members, less 1; exactly 0 for equal ones."""
    xp = namespace(entropies)
    highest = xp.take(segment_max(xp.where(valid, entropies, -xp.inf), cells, count), cells)
    below = xp.where(valid, highest - entropies, 0.0) / entropies  # 1/H in units of the cell's smallest, less 1
    total = segment_sum(xp.where(valid, xp.where(right, entropies, below + 1), 0.0), cells, count)
    members = segment_sum(xp.astype(valid, entropies.dtype), cells, count)
    mean = xp.where(members > 0, total / xp.where(members > 0, members, 1.0), 1.0)
    return centre(xp.where(right, entropies, below), cells, count, valid) / xp.take(mean, cells)


def right_rewards(batch: FlatBatch, right: Array, sets: Array, scale: float) -> tuple[Array, Array]:
    """``scale`` times: a right response's reward above the mean of its group's right ones (B,), and that mean (G,)."""
    xp = batch.xp
    limit = float(xp.finfo(batch.rewards.dtype).max) / (8 * max(scale, 1.0))  # no overflow, whatever the rewards
    rewards = xp.where(right, xp.clip(batch.rewards, -limit, limit), 0.0)
    above = centre(rewards, sets, 2 * batch.num_groups, batch.nonempty)
    members = batch.group_sum(xp.astype(right, rewards.dtype))  # (G,)
    mean = batch.group_sum(rewards / xp.take(xp.clip(members, 1), batch.group_ids))
    return scale * above, scale * mean
