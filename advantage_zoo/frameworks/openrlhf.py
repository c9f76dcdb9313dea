"""OpenRLHF 0.11.2: the estimators of ``RemoteExperienceMaker.compute_advantages_and_returns``.

In float32, on the CPU: a baseline turns each outcome into a number a response; ``clip_range`` is applied to that
number, not to the reward; it is put on the last valid token and joined by the KL penalty; advantages are the sums of
what is still to come, which some estimators normalise over the batch's tokens. What ``token_rewards`` hold beyond the
outcome on the last valid token is taken for the KL penalty: it enters no group's statistics and is not clipped.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array
from advantage_zoo.estimator import Advantages, param
from advantage_zoo.flat import FlatBatch
from advantage_zoo.frameworks.parts import (
    LARGEST,
    group_counts,
    held,
    row_std,
    standardised_tokens,
    tokens,
    torch_mean,
)
from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.frameworks.torch_order import group_totals

VERSION = "OpenRLHF 0.11.2"
FILE = "openrlhf/trainer/ppo_utils/experience_maker.py"
EPS = 1e-9

CLIP = "Bounds of a response's number after the baseline. `reward.clip_range`."
DISCOUNT = "Discount a token, masked ones between valid ones included. `algo.advantage.gamma`."
NO_STD = "Subtract the mean over the batch's tokens, but do not divide. `algo.advantage.no_std_norm`."
KL = frozenset({"token_rewards"})


# Numbers, one a response


def centred(batch: FlatBatch) -> Array:
    """(B,) reward minus its group's mean; the mean of equal rewards may be off by a rounding error."""
    rewards = held(batch, batch.rewards)
    return rewards - torch_mean(batch, rewards)


# Advantages, one a token


def penalties(batch: FlatBatch) -> Array | None:
    """(N,) the KL penalty: token rewards without the outcome; ``None`` if the batch has none."""
    if batch.token_rewards is None:
        return None
    outcome = batch.xp.where(batch.last_valid, batch.to_tokens(batch.rewards), 0.0)
    return batch.xp.clip(batch.token_rewards - outcome, -LARGEST, LARGEST)


def rewarded(batch: FlatBatch, x: Array, clip_range: tuple[float, ...]) -> Array:
    """(N,) ``compute_reward``: ``x`` (B,), clipped, on the last valid token, and the KL penalty."""
    xp, (low, high) = batch.xp, bounds(clip_range)
    x = xp.astype(xp.clip(x, low, high), batch.rewards.dtype)
    penalty = penalties(batch)
    dense = xp.where(batch.last_valid, batch.to_tokens(x), 0.0)
    return dense if penalty is None else dense + penalty


def bounds(clip_range: tuple[float, ...]) -> tuple[float, ...]:
    """``clip_range``, if it is a lower and a higher bound."""
    if len(clip_range) != 2 or not clip_range[0] < clip_range[1]:
        raise ValueError(f"clip_range is {list(clip_range)}; expected a lower and a higher bound.")
    return clip_range


def steps(batch: FlatBatch) -> Array:
    """(N,) slots from a token to the response's next valid one: more than 1 across masked ones."""
    here = batch.row_cumsum(batch.xp.ones_like(batch.to_tokens(batch.rewards)))
    return batch.xp.clip(batch.row_next(here) - here, 1)


def returns(batch: FlatBatch, x: Array, discount: float) -> Array:
    """(N,) ``get_cumulative_returns``: counts slots, valid or not."""
    return batch.row_returns(x, 1.0 if discount == 1 else discount ** steps(batch))


def unless_alone(batch: FlatBatch, x: Array) -> Array:
    """(N,) ``x``, and 0 in groups of one, where OpenRLHF's formula has only NaN."""
    return batch.xp.where(batch.to_tokens(group_counts(batch) > 1), x, 0.0)


# Presets


@dataclass(frozen=True)
class OpenRLHFGRPO(Preset):
    """``(r - mean) / (std + 1e-9)``, ddof 1: ``group_norm``."""

    name: ClassVar[str] = "grpo@openrlhf"
    uses: ClassVar[frozenset[str]] = KL
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:273-274"
    differs: ClassVar[str] = (
        "Equal rewards leave the rounding of their mean, over 1e-9: 119 for eight of 1.2 among other groups, which the "
        "default clip makes 10, four times the largest score that eight rewards can have; ours is 0. A group of one is "
        "NaN, here 0; the command line refuses it."
    )

    clip_range: tuple[float, ...] = param((-10.0, 10.0), doc=CLIP)

    def compute(self, batch: FlatBatch) -> Advantages:
        """The clipped score, and the penalties to come."""
        dense = rewarded(batch, centred(batch) / (row_std(batch, held(batch, batch.rewards)) + EPS), self.clip_range)
        return Advantages(unless_alone(batch, returns(batch, dense, 1.0)))


@dataclass(frozen=True)
class OpenRLHFDrGRPO(Preset):
    """``r - mean``: ``dr_grpo``; with one group in the batch also ``flash_reinforce``."""

    name: ClassVar[str] = "dr_grpo@openrlhf"
    uses: ClassVar[frozenset[str]] = KL
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:271-272"
    differs: ClassVar[str] = (
        "What is beyond the clip range is cut off, so that rewards in the hundreds lose their order."
    )

    clip_range: tuple[float, ...] = param((-10.0, 10.0), doc=CLIP)

    def compute(self, batch: FlatBatch) -> Advantages:
        """The clipped distance, and the penalties to come."""
        return Advantages(returns(batch, rewarded(batch, centred(batch), self.clip_range), 1.0))


@dataclass(frozen=True)
class OpenRLHFRLOO(Preset):
    """Reward minus the mean of the group's others: ``rloo``."""

    name: ClassVar[str] = "rloo@openrlhf"
    uses: ClassVar[frozenset[str]] = KL
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:268-270"
    differs: ClassVar[str] = (
        "What is beyond the clip range is cut off. A group of one is NaN, here 0; the command line refuses it."
    )

    clip_range: tuple[float, ...] = param((-10.0, 10.0), doc=CLIP)

    def compute(self, batch: FlatBatch) -> Advantages:
        """The clipped distance, and the penalties to come."""
        rewards = held(batch, batch.rewards)
        others = batch.xp.clip(group_counts(batch) - 1, 1)
        dense = rewarded(batch, rewards - (group_totals(batch, rewards) - rewards) / others, self.clip_range)
        return Advantages(unless_alone(batch, returns(batch, dense, 1.0)))


@dataclass(frozen=True)
class OpenRLHFReinforcePP(Preset):
    """Discounted returns, normalised over the batch's tokens: ``reinforce``."""

    name: ClassVar[str] = "reinforce_pp@openrlhf"
    uses: ClassVar[frozenset[str]] = KL
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:300-317, 325-338"
    differs: ClassVar[str] = (
        "Population variance, at least 1e-8, and a discount that counts masked tokens too. Equal returns leave the "
        "rounding of their mean times 1e4, where ours is 0; how much depends on how the batch is cut up."
    )

    discount: float = param(1.0, ge=0, le=1, doc=DISCOUNT)
    no_std_norm: bool = param(False, doc=NO_STD)
    clip_range: tuple[float, ...] = param((-10.0, 10.0), doc=CLIP)

    @property
    def batch_statistics(self) -> bool:
        """Normalisation is over the batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """Returns, normalised."""
        dense = rewarded(batch, held(batch, batch.rewards), self.clip_range)
        return tokens(batch, standardised_tokens(batch, returns(batch, dense, self.discount), not self.no_std_norm))


@dataclass(frozen=True)
class OpenRLHFReinforce(OpenRLHFReinforcePP):
    """``reinforce``, under OpenRLHF's name."""

    name: ClassVar[str] = "reinforce@openrlhf"
    differs: ClassVar[str] = (
        "It is `reinforce_pp@openrlhf`: normalised over the batch's tokens, where ours is the bare return. To compare "
        "with it is to compare with REINFORCE++."
    )


@dataclass(frozen=True)
class OpenRLHFReinforcePPBaseline(Preset):
    """``r - mean`` of the group, normalised over the batch's tokens: ``reinforce_baseline``."""

    name: ClassVar[str] = "reinforce_pp_baseline@openrlhf"
    uses: ClassVar[frozenset[str]] = KL
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:271-272, 325-338"
    differs: ClassVar[str] = (
        "Mean and population variance weigh a response by its length, so that a long answer moves the sign of a short "
        "one; equal advantages leave the rounding of their mean times 1e4, where ours is 0."
    )

    no_std_norm: bool = param(False, doc=NO_STD)
    clip_range: tuple[float, ...] = param((-10.0, 10.0), doc=CLIP)

    @property
    def batch_statistics(self) -> bool:
        """Normalisation is over the batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """Clipped distances and the penalties to come, normalised."""
        dense = rewarded(batch, centred(batch), self.clip_range)
        return tokens(batch, standardised_tokens(batch, returns(batch, dense, 1.0), not self.no_std_norm))


@dataclass(frozen=True)
class OpenRLHFGAE(Preset):
    """Generalised advantages, normalised over the batch's tokens: ``gae``, the default of the command line."""

    name: ClassVar[str] = "gae@openrlhf"
    needs: ClassVar[frozenset[str]] = frozenset({"values"})
    uses: ClassVar[frozenset[str]] = KL
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:325-338, 342-393"
    differs: ClassVar[str] = (
        "Always normalised, with the population's variance. A masked token inside a response is a step whose value is "
        "0, so that with a discount or lam below 1 the length of a tool's output changes the advantages before it; lam "
        "is 1 by default."
    )

    discount: float = param(1.0, ge=0, le=1, doc=DISCOUNT)
    lam: float = param(1.0, ge=0, le=1, doc="Trade of bias against variance. `algo.advantage.lambd`.")
    no_std_norm: bool = param(False, doc=NO_STD)
    clip_range: tuple[float, ...] = param((-10.0, 10.0), doc=CLIP)

    @property
    def batch_statistics(self) -> bool:
        """Normalisation is over the batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """Backward over the slots; a masked one hands on ``discount`` times the next value, in its turn discounted."""
        xp, decay = batch.xp, self.discount * self.lam
        dense = rewarded(batch, held(batch, batch.rewards), self.clip_range)
        values = xp.clip(batch.values, -LARGEST, LARGEST)
        following = batch.row_next(values)
        if decay < 1:
            following = following * decay ** (steps(batch) - 1)
        delta = xp.where(batch.mask, dense + self.discount * following - values, 0.0)
        return tokens(batch, standardised_tokens(batch, returns(batch, delta, decay), not self.no_std_norm))
