"""NeMo-RL at 7ea279a: the estimators of ``nemo_rl/algorithms/advantage_estimator.py``.

NeMo-RL compares a response with the others of its group, in float32, and takes their deviation in one pass,
``sqrt(E[x^2] - E[x]^2)``, which loses what is small against the mean. The outcome reward only; its KL is not read.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array
from advantage_zoo.arrays.namespace import arange
from advantage_zoo.estimator import Advantages, param
from advantage_zoo.flat import FlatBatch
from advantage_zoo.frameworks.parts import (
    batch_mean,
    batch_std,
    float32,
    group_counts,
    held,
    spread,
    standardised_tokens,
    tokens,
    weights_of,
)
from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.frameworks.verl import REWARDS, whitened

VERSION = "NeMo-RL 7ea279a"
FILE = "nemo_rl/algorithms/advantage_estimator.py"
EPS = 1e-6
LANES = 4


def group_sum(batch: FlatBatch, x: Array, leave_one_out: bool) -> Array:
    """(B,) sum of ``x`` (B,) over each response's group, itself left out or not.

    Row by row, as NeMo-RL's product with a matrix of ones and zeros, so that equal addends are rounded alike; in four
    running sums, added in pairs, as a processor with vectors of four does. NeMo-RL's own order is its library's.
    """
    xp, ids = batch.xp, batch.group_ids
    member = (ids[:, None] == ids[None, :]) & batch.nonempty[None, :]  # (B, B)
    if leave_one_out:
        rows = arange(batch.num_rows, x)
        member = member & (rows[:, None] != rows[None, :])
    addends = xp.where(member, x[None, :], xp.zeros_like(x)[None, :])
    missing = -int(x.shape[0]) % LANES
    addends = xp.concat([addends] + [xp.zeros_like(addends[:, :1])] * missing, axis=1)
    lanes = xp.sum(xp.reshape(addends, (x.shape[0], -1, LANES)), axis=1)  # (B, LANES)
    return (lanes[:, 0] + lanes[:, 1]) + (lanes[:, 2] + lanes[:, 3])


def baseline_and_std(batch: FlatBatch, x: Array, leave_one_out: bool) -> tuple[Array, Array]:
    """Mean and deviation of ``x`` (B,) over the group, as ``calculate_baseline_and_std_per_prompt`` takes them, (B,).

    A group of one is its own baseline. A negative variance, and that of one number, become a deviation of 0.
    """
    xp, size = batch.xp, group_counts(batch)
    count = xp.clip(size - 1 if leave_one_out else size, 1)
    mean, square = (group_sum(batch, power, leave_one_out) / count for power in (x, x * x))
    variance = (square - mean * mean) * (count / xp.clip(count - 1, 1))
    std = xp.sqrt(xp.where((count > 1) & (variance > 0), variance, 0.0))
    return xp.where(size > 1, mean, x), xp.where(size > 1, std, 0.0)


def normalised(batch: FlatBatch, x: Array, leave_one_out: bool, divide: bool) -> Array:
    """(B,) distance of ``x`` from the baseline, over the deviation plus 1e-6 where there is any."""
    baseline, std = baseline_and_std(batch, x, leave_one_out)
    return (x - baseline) / batch.xp.where(std > 0, std + EPS, 1.0) if divide else x - baseline


@dataclass(frozen=True)
class NeMoGRPO(Preset):
    """``(r - mean) / (std + 1e-6)``, mean and deviation of the others in the group; undivided where that is 0."""

    name: ClassVar[str] = "grpo@nemo_rl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:57-98"
    differs: ClassVar[str] = (
        "The response itself is left out of the deviation too. One that stands alone against equal others is compared "
        "with a deviation of 0, and keeps its distance undivided, or of a rounding error: the advantage of the odd one "
        "out is 1, or thousands. A group of two is never divided."
    )

    use_leave_one_out_baseline: bool = param(True, doc="Leave the response out. The option of that name.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """The score on every token."""
        return spread(batch, normalised(batch, held(batch, batch.rewards), self.use_leave_one_out_baseline, True))


@dataclass(frozen=True)
class NeMoRLOO(Preset):
    """``r`` minus the mean of the others: ``grpo`` with ``normalize_rewards=false``."""

    name: ClassVar[str] = "rloo@nemo_rl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:57-98"
    differs: ClassVar[str] = (
        "In float32: equal rewards may leave the rounding of their mean, about 1e-7 of the reward, where ours is 0."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """Reward against the mean of the others."""
        return spread(batch, normalised(batch, held(batch, batch.rewards), True, False))


@dataclass(frozen=True)
class NeMoDrGRPO(Preset):
    """``r - mean``: ``grpo`` with ``normalize_rewards=false`` and ``use_leave_one_out_baseline=false``."""

    name: ClassVar[str] = "dr_grpo@nemo_rl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:57-98"
    differs: ClassVar[str] = (
        "In float32: equal rewards may leave the rounding of their mean, about 1e-7 of the reward, where ours is 0. "
        "Unless both switches are set it is another estimator, `rloo@nemo_rl` or `grpo@nemo_rl`."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred reward on every token."""
        return spread(batch, normalised(batch, held(batch, batch.rewards), False, False))


@dataclass(frozen=True)
class NeMoReinforcePP(Preset):
    """``r - mean`` of the group, standardised over the batch's tokens: variance of the population, at least 1e-8."""

    name: ClassVar[str] = "reinforce_pp@nemo_rl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:193-267"
    differs: ClassVar[str] = (
        "By default the -baseline variant. No discount and no reward to go: a token's KL penalty, which the preset "
        "leaves out, would count at that token alone. A long answer moves the sign of a short one."
    )

    minus_baseline: bool = param(True, doc="Subtract the group's mean. The option of that name.")

    @property
    def batch_statistics(self) -> bool:
        """Standardised over the batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """The standardised score of every token."""
        score = held(batch, batch.rewards)
        score = normalised(batch, score, False, False) if self.minus_baseline else score
        return tokens(batch, standardised_tokens(batch, batch.to_tokens(score)))


@dataclass(frozen=True)
class NeMoGDPO(Preset):
    """``grpo@nemo_rl`` of each component, weighted, added, standardised over the batch's responses without an eps."""

    name: ClassVar[str] = "gdpo@nemo_rl"
    needs: ClassVar[frozenset[str]] = frozenset({"reward_components"})
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:101-190"
    differs: ClassVar[str] = (
        "One component's odd one out, divided by a rounding error, sets the batch's deviation and shrinks everybody "
        "else's advantage to nothing. Where all that is left is rounding, it is blown up to unit size."
    )

    weights: tuple[float, ...] = param((), doc="One a component, in their order; 1 each if empty. `reward_weights`.")
    use_leave_one_out_baseline: bool = param(True, doc="Leave the response out. The option of that name.")

    @property
    def batch_statistics(self) -> bool:
        """The sum is standardised over the batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """The standardised sum on every token."""
        xp, components = batch.xp, held(batch, batch.reward_components)  # (B, K)
        score = xp.zeros_like(components[:, 0])  # (B,)
        for k, weight in enumerate(weights_of(self.name, self.weights, int(components.shape[1]))):
            score = score + weight * normalised(batch, components[:, k], self.use_leave_one_out_baseline, True)
        std = batch_std(batch, score)
        return spread(batch, (score - batch_mean(batch, score)) / xp.where(std > 0, std, 1.0))


@dataclass(frozen=True)
class NeMoGAE(Preset):
    """Generalised advantages over valid tokens, standardised over the batch's tokens."""

    name: ClassVar[str] = "gae@nemo_rl"
    needs: ClassVar[frozenset[str]] = frozenset({"values"})
    uses: ClassVar[frozenset[str]] = REWARDS
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:302-548"
    differs: ClassVar[str] = (
        "Standardised by default, with 1e-8 under the root: equal advantages leave the rounding of their mean times "
        "1e4, where ours, not standardised, are what they are."
    )

    discount: float = param(1.0, ge=0, le=1, doc="A later valid token's weight: `gae_gamma`.")
    lam: float = param(0.95, ge=0, le=1, doc="Lambda: `gae_lambda`, or `gae_lambda_policy` where it is set.")
    length_adaptive_alpha: float = param(0.0, ge=0, doc="If above 0, lam is 1 - 1/(alpha length). VAPO: 0.05.")
    normalize_advantages: bool = param(True, doc="Standardise. The option of that name.")

    @property
    def batch_statistics(self) -> bool:
        """Only where standardised."""
        return self.normalize_advantages

    def compute(self, batch: FlatBatch) -> Advantages:
        """Backward from the last valid token; masked tokens are skipped."""
        xp, values = batch.xp, held(batch, batch.values)
        delta = held(batch, batch.dense_rewards) + self.discount * batch.row_next(values) - values
        lam = self.lam + xp.zeros_like(delta)
        if self.length_adaptive_alpha > 0:
            length = xp.clip(self.length_adaptive_alpha * float32(batch, batch.lengths), 1.0)
            lam = batch.to_tokens(1 - 1 / length)
        advantages = batch.row_returns(xp.where(batch.mask, delta, 0.0), self.discount * lam)
        return tokens(batch, whitened(batch, advantages) if self.normalize_advantages else advantages)
