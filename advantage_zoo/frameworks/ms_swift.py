"""ms-swift 4.6.0: ``compute_advantages`` of ``swift/rl_core/advantage.py``, one preset a setting.

ms-swift adds the weighted rewards of a response (minus its KL) and computes in float32. Here that sum is the one of
``token_rewards`` where the batch has them, else the outcome.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from advantage_zoo.arrays import Array
from advantage_zoo.estimator import Advantages, param
from advantage_zoo.flat import FlatBatch
from advantage_zoo.frameworks.parts import (
    batch_mean,
    batch_std,
    group_counts,
    held,
    row_std,
    spread,
    standardised_component,
    torch_mean,
    torch_std,
    weights_of,
)
from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.frameworks.verl import REWARDS, scores

VERSION = "ms-swift 4.6.0"
FILE = "swift/rl_core/advantage.py"
EPS = 1e-4
NOISE = "equal rewards leave the rounding of their mean, over 1e-4, where ours is 0"


def centred(batch: FlatBatch, x: Array) -> Array:
    """(B,) ``x`` minus its group's mean."""
    return x - torch_mean(batch, x)


def group_std(batch: FlatBatch, x: Array) -> Array:
    """(B,) deviation of ``x`` (B,) in each response's group: of rows, or of one after the other if sizes differ."""
    xp, size = batch.xp, group_counts(batch)
    same = xp.all((size == xp.max(size)) | ~batch.nonempty)
    return xp.where(same, row_std(batch, x), torch_std(batch, x))


def scaled(batch: FlatBatch, advantages: Array, spread_of: Array, scale: str) -> Array:
    """(B,) ``advantages`` over the deviation of ``spread_of`` (B,), of group or batch, plus 1e-4."""
    if scale == "none":
        return advantages
    return advantages / ((group_std if scale == "group" else batch_std)(batch, spread_of) + EPS)


def scale_rewards(default: str) -> Any:
    """The switch of that name, at the default that the estimator sets."""
    return param(default, choices=("group", "batch", "none"), doc="Whose deviation divides. `scale_rewards`.")


@dataclass(frozen=True)
class MsSwiftGRPO(Preset):
    """``(r - mean) / (std + 1e-4)``, ddof 1, in float32: ``advantage_estimator=grpo``, ``scale_rewards=group``."""

    name: ClassVar[str] = "grpo@ms_swift"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:58-97"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        f"1e-4 instead of 1e-6: rewards that differ by less than 1e-3 are damped; {NOISE}. A NaN reward of a component "
        "counts as 0, where ours is refused."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The score on every token."""
        score = scores(batch)
        return spread(batch, scaled(batch, centred(batch, score), score, "group"))


@dataclass(frozen=True)
class MsSwiftDrGRPO(Preset):
    """``r - mean`` in float32: ``advantage_estimator=grpo``, ``scale_rewards=none``."""

    name: ClassVar[str] = "dr_grpo@ms_swift"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:58-97"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "In float32: equal rewards leave the rounding of their mean, about 1e-7 of the reward, where ours is 0. "
        "`scale_rewards` alone is not the method: without `loss_type=dr_grpo` the loss still divides by the length."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred score on every token."""
        return spread(batch, centred(batch, scores(batch)))


@dataclass(frozen=True)
class MsSwiftLitePPO(Preset):
    """``(r - mean of the group) / (std of the batch + 1e-4)``: ``grpo`` with ``scale_rewards=batch``."""

    name: ClassVar[str] = "lite_ppo@ms_swift"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:58-97"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "1e-4 is added to the deviation: a batch whose rewards all but agree is damped by it, and a batch of equal "
        "rewards leaves the rounding of its mean, over 1e-4, where ours is 0."
    )

    @property
    def batch_statistics(self) -> bool:
        """The deviation is the batch's."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred score over the batch's deviation."""
        score = scores(batch)
        return spread(batch, scaled(batch, centred(batch, score), score, "batch"))


@dataclass(frozen=True)
class MsSwiftRLOO(Preset):
    """``r n / (n - 1) - mean n / (n - 1)``, n the group's size, over the deviation that ``scale_rewards`` asks for."""

    name: ClassVar[str] = "rloo@ms_swift"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:58-97"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "`scale_rewards` is none unless it is set: set to group or batch, the leave-one-out advantage is divided by a "
        "deviation that RLOO does not have. A group of one gets 0."
    )

    scale_rewards: str = scale_rewards("none")

    @property
    def batch_statistics(self) -> bool:
        """Only where scaled by the batch."""
        return self.scale_rewards == "batch"

    def compute(self, batch: FlatBatch) -> Advantages:
        """Reward against the mean of the others."""
        xp, size, score = batch.xp, group_counts(batch), scores(batch)
        others = xp.clip(size - 1, 1)
        advantages = score * size / others - torch_mean(batch, score) * size / others
        return spread(batch, scaled(batch, advantages, score, self.scale_rewards))


@dataclass(frozen=True)
class MsSwiftReinforcePP(Preset):
    """``r - mean`` of the group over its own deviation, of the batch unless ``scale_rewards`` says otherwise."""

    name: ClassVar[str] = "reinforce_pp@ms_swift"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:58-97"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "It is the -baseline variant under the other's name: a group mean, no discount, no reward to go, and a "
        "deviation that counts responses, where ours counts tokens. Plain REINFORCE++ is not to be had."
    )

    scale_rewards: str = scale_rewards("batch")

    @property
    def batch_statistics(self) -> bool:
        """Only where scaled by the batch."""
        return self.scale_rewards == "batch"

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred score over its deviation."""
        advantages = centred(batch, scores(batch))
        return spread(batch, scaled(batch, advantages, advantages, self.scale_rewards))


@dataclass(frozen=True)
class MsSwiftGDPO(Preset):
    """Each component standardised in its group, weighted, added, standardised over the batch; eps 1e-8."""

    name: ClassVar[str] = "gdpo@ms_swift"
    needs: ClassVar[frozenset[str]] = frozenset({"reward_components"})
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:83-94"
    differs: ClassVar[str] = (
        "1e-8 is below float32's rounding: where a component is 0.9 throughout a group, all its members may get a push "
        "as large as a real reward's, where ours is 0. With a varying number of samples the setting is ignored."
    )

    weights: tuple[float, ...] = param((), doc="One a component, in their order; 1 each if empty. `reward_weights`.")

    @property
    def batch_statistics(self) -> bool:
        """The sum is standardised over the batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """The standardised sum on every token."""
        xp, components = batch.xp, held(batch, batch.reward_components)  # (B, K)
        total = xp.zeros_like(components[:, 0])  # (B,)
        for k, weight in enumerate(weights_of(self.name, self.weights, int(components.shape[1]))):
            total = total + weight * standardised_component(batch, k, 1e-8, squares_side_by_side=True)
        return spread(batch, (total - batch_mean(batch, total)) / (batch_std(batch, total) + 1e-8))
