"""SkyRL 0.4.0: the estimators of ``skyrl/backends/skyrl_train/utils/ppo_utils.py``, ported there from verl's.

SkyRL sums ``token_level_rewards`` over each response and computes in float32. Here they are ``token_rewards`` where the
batch has them, else the outcome at the last valid token.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import segment_scan
from advantage_zoo.estimator import Advantages, param
from advantage_zoo.flat import FlatBatch
from advantage_zoo.frameworks.parts import group_counts, held, spread, tokens, torch_mean
from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.frameworks.verl import EPS, NOISE, RAW, REWARDS, centred, grouped, normalised, scores, whitened

VERSION = "SkyRL 0.4.0"
FILE = "skyrl/backends/skyrl_train/utils/ppo_utils.py"
TRAINER = "SkyRL's trainer masks padding alone: in a run of its own the span's tokens count like the policy's"


@dataclass(frozen=True)
class SkyRLGRPO(Preset):
    """``(r - mean) / (std + 1e-6)``, ddof 1, in float32."""

    name: ClassVar[str] = "grpo@skyrl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:1343-1393"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = f"{RAW}, so that a prompt with one sample trains plain REINFORCE; {NOISE}."

    def compute(self, batch: FlatBatch) -> Advantages:
        """The score on every token."""
        return spread(batch, normalised(batch, scores(batch)))


@dataclass(frozen=True)
class SkyRLDrGRPO(Preset):
    """``r - mean`` in float32: ``grpo`` with ``grpo_norm_by_std=False``."""

    name: ClassVar[str] = "dr_grpo@skyrl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:1343-1393"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = f"{RAW}; a prompt left with one sample pulls with its whole reward."

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred score on every token."""
        return spread(batch, centred(batch, scores(batch)))


@dataclass(frozen=True)
class SkyRLRLOO(Preset):
    """``(r - mean) n / (n - 1)`` in float32, n the group's size; 0 for a group of one."""

    name: ClassVar[str] = "rloo@skyrl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:1259-1309"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "In float32: equal rewards leave the rounding of their mean, about 1e-7 of the reward, where ours is 0. A "
        "group of one gets 0 and a warning, while `grpo` of the same framework keeps its raw reward."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """Reward against the mean of the others."""
        xp, size, score = batch.xp, group_counts(batch), scores(batch)
        factor = xp.where(size > 1, size / xp.clip(size - 1, 1), 0.0)
        return spread(batch, centred(batch, score) * factor)


@dataclass(frozen=True)
class SkyRLMaxRL(Preset):
    """``(r - mean) / (mean + 1e-6)`` in float32, whatever the sign of the mean."""

    name: ClassVar[str] = "maxrl@skyrl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:1396-1428"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "A group whose mean is below 0 is trained towards its worst responses, and one whose mean is near -1e-6 gets "
        f"advantages without bound: rewards must not be negative. {RAW}."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """Relative distance from the mean, on every token."""
        xp, score = batch.xp, scores(batch)
        scale = xp.where(grouped(batch), torch_mean(batch, score) + EPS, 1.0)
        return spread(batch, xp.where(scale == 0, 0.0, centred(batch, score) / xp.where(scale == 0, 1.0, scale)))


@dataclass(frozen=True)
class SkyRLReinforcePP(Preset):
    """Discounted returns, cut at every masked token, whitened over the batch's tokens."""

    name: ClassVar[str] = "reinforce_pp@skyrl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:1224-1256"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "A masked span inside a response, such as a tool's output, cuts the return: with a reward at the end, nothing "
        f"before the last tool call learns whether the answer was right. {TRAINER}. A batch of one token is an error, "
        "here 0."
    )

    discount: float = param(1.0, ge=0, le=1, doc="A later valid token's weight: `trainer.algorithm.gamma`.")

    @property
    def batch_statistics(self) -> bool:
        """Whitening is over the batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """Returns within each run of valid tokens, whitened."""
        rewards = held(batch, batch.dense_rewards)
        kept = batch.xp.where(batch.mask, self.discount + batch.xp.zeros_like(rewards), 0.0)
        return tokens(batch, whitened(batch, segment_scan(rewards, kept, batch.row_ids)))


@dataclass(frozen=True)
class SkyRLGAE(Preset):
    """Generalised advantages over every slot, masked or not, whitened over the batch's tokens."""

    name: ClassVar[str] = "gae@skyrl"
    needs: ClassVar[frozenset[str]] = frozenset({"values"})
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:1312-1340"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "Always whitened, where ours is not. The tokens of a masked span inside a response are steps, with value 0 "
        f"here: each costs a factor `discount * lam`, and ours skips them. {TRAINER}, with the critic's values."
    )

    discount: float = param(1.0, ge=0, le=1, doc="A later slot's weight, masked or not: `trainer.algorithm.gamma`.")
    lam: float = param(1.0, ge=0, le=1, doc="Lambda: `trainer.algorithm.lambd`.")

    @property
    def batch_statistics(self) -> bool:
        """Whitening is over the batch."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """Backward from the last slot, no slot skipped."""
        xp, values = batch.xp, held(batch, batch.values)
        same = xp.astype(batch.row_ids[1:] == batch.row_ids[:-1], values.dtype)
        following = xp.concat([values[1:] * same, xp.zeros_like(values[:1])])
        delta = held(batch, batch.dense_rewards) + self.discount * following - values
        decay = self.discount * self.lam + xp.zeros_like(delta)
        return tokens(batch, whitened(batch, segment_scan(delta, decay, batch.row_ids)))
