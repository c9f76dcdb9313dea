"""TRL 1.16.0: the arithmetic of ``GRPOTrainer`` and ``RLOOTrainer``, in float32.

TRL takes groups of one size, rows of a prompt side by side; the presets take any.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.estimator import Advantages, param
from advantage_zoo.flat import FlatBatch
from advantage_zoo.frameworks.parts import (
    BatchPreset,
    batch_mean,
    batch_std,
    group_counts,
    held,
    spread,
    standardised_component,
    torch_mean,
    torch_std,
    weights_of,
)
from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.frameworks.torch_order import group_totals

VERSION = "TRL 1.16.0"
GRPO = "trl/trainer/grpo_trainer.py"
EPS = 1e-4
TAIL = "A reward of None has no counterpart: NaN is refused here, and TRL gives it advantage 0"


@dataclass(frozen=True)
class TRLGRPO(Preset):
    """``(r - mean) / (std + 1e-4)``, ddof 1: ``scale_rewards="group"``, the default."""

    name: ClassVar[str] = "grpo@trl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{GRPO}:2759-2810"
    differs: ClassVar[str] = (
        "An eps of 1e-4, where ours is 1e-6: rewards that differ by less than about 1e-3 bring visibly smaller steps; "
        f"equal rewards leave the rounding of their mean, over 1e-4, where ours is 0. {TAIL}."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The score on every token."""
        rewards = held(batch, batch.rewards)
        return spread(batch, (rewards - torch_mean(batch, rewards)) / (torch_std(batch, rewards) + EPS))


@dataclass(frozen=True)
class TRLDrGRPO(Preset):
    """``r - mean``: ``scale_rewards="none"``."""

    name: ClassVar[str] = "dr_grpo@trl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{GRPO}:2759-2810"
    differs: ClassVar[str] = (
        "The same up to float32. TRL's default loss divides by the number of tokens of the batch, which is not "
        'Dr. GRPO\'s constant: `loss_type="dr_grpo"` is.'
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred reward on every token."""
        rewards = held(batch, batch.rewards)
        return spread(batch, rewards - torch_mean(batch, rewards))


@dataclass(frozen=True)
class TRLLitePPO(BatchPreset):
    """``(r - group mean) / (batch std + 1e-4)``, ddof 1, of the rewards: ``scale_rewards="batch"``."""

    name: ClassVar[str] = "lite_ppo@trl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{GRPO}:2759-2810"
    differs: ClassVar[str] = (
        "An eps of 1e-4, where ours is 1e-6; a group of equal rewards keeps the rounding of its mean over the batch's "
        "deviation, where ours is 0. The batch is that of all processes, and not of one."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred reward over the batch's deviation."""
        rewards = held(batch, batch.rewards)
        return spread(batch, (rewards - torch_mean(batch, rewards)) / (batch_std(batch, rewards) + EPS))


@dataclass(frozen=True)
class TRLGDPO(BatchPreset):
    """Each component's score, weighted, summed, then standardised over responses: ``"normalize_then_sum"``."""

    name: ClassVar[str] = "gdpo@trl"
    needs: ClassVar[frozenset[str]] = frozenset({"reward_components"})
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{GRPO}:2759-2810"
    differs: ClassVar[str] = (
        "An eps of 1e-4 in both steps, where ours is 1e-6. `scale_rewards` is not looked at: with `none` it is divided "
        "all the same."
    )

    weights: tuple[float, ...] = param((), doc="One a component, 1 each if empty: `reward_weights`.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """The sum of the scores, standardised."""
        components = held(batch, batch.reward_components)  # (B, K)
        total = batch.xp.zeros_like(components[:, 0])
        for k, weight in enumerate(weights_of(self.name, self.weights, int(components.shape[1]))):
            total = total + weight * standardised_component(batch, k, EPS)
        return spread(batch, (total - batch_mean(batch, total)) / (batch_std(batch, total) + EPS))


@dataclass(frozen=True)
class TRLRLOO(Preset):
    """``r`` minus the mean of the others, ``(sum - r) / (n - 1)``; 0 for a group of one."""

    name: ClassVar[str] = "rloo@trl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = "trl/trainer/rloo_trainer.py:1653-1699"
    differs: ClassVar[str] = (
        "Before, TRL subtracts from the reward `beta` times the summed log-ratio to the reference, 0.05 unless set: "
        "the advantages of a run are not those of its rewards alone. Here `rewards` are what is left."
    )

    normalize_advantages: bool = param(False, doc="Standardise over the batch as well, eps 1e-4.")

    @property
    def batch_statistics(self) -> bool:
        """Only where the advantages are normalised."""
        return self.normalize_advantages

    def compute(self, batch: FlatBatch) -> Advantages:
        """Reward against the mean of the others."""
        xp, rewards, size = batch.xp, held(batch, batch.rewards), group_counts(batch)
        others = (group_totals(batch, rewards) - rewards) / xp.clip(size - 1, 1)
        advantages = xp.where(size > 1, rewards - others, 0.0)
        if self.normalize_advantages:
            advantages = (advantages - batch_mean(batch, advantages)) / (batch_std(batch, advantages) + EPS)
        return spread(batch, advantages)
