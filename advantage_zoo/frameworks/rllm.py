"""rLLM at 9beb6e0: the estimators of ``rllm/trainer/algorithms/advantage.py`` and ``rl_algo.py``.

rLLM's rewards are Python numbers, so that its NumPy computes in float64 and the rounding of a group's mean does not
show; this is therefore the house's own arithmetic, with rLLM's constants. One advantage a trajectory, on all tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, centre, standardise
from advantage_zoo.estimator import Advantages
from advantage_zoo.estimators.grpo import group_advantages
from advantage_zoo.flat import FlatBatch
from advantage_zoo.frameworks.preset import Preset

VERSION = "rLLM 9beb6e0"
FOLDER = "rllm/trainer/algorithms"
EPS = 1e-6
RAW = "A group of one keeps its raw reward as its advantage, where ours is 0"


def centred(batch: FlatBatch) -> Array:
    """(B,) rewards minus their group's mean."""
    return centre(batch.rewards, batch.group_ids, batch.num_groups, batch.nonempty)


@dataclass(frozen=True)
class RLLMGRPO(Preset):
    """``(r - mean) / (std + 1e-6)`` with ``np.std``: ddof 0."""

    name: ClassVar[str] = "grpo@rllm"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FOLDER}/rl_algo.py:6-18"
    differs: ClassVar[str] = (
        "The population's deviation: advantages are sqrt(n/(n - 1)) times ours, 15 % larger for groups of 4 and 41 % "
        f"for groups of 2, so that a learning rate tuned here is too large there. {RAW}."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The score on every token."""
        score = group_advantages(batch, EPS, ddof=0)
        return Advantages(batch.to_tokens(batch.xp.where(batch.alone, batch.rewards / (1 + EPS), score)))


@dataclass(frozen=True)
class RLLMDrGRPO(Preset):
    """``r - mean``: ``grpo`` with ``norm_adv_by_std_in_grpo=False``."""

    name: ClassVar[str] = "dr_grpo@rllm"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FOLDER}/rl_algo.py:6-18"
    differs: ClassVar[str] = f"{RAW}."

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred reward on every token."""
        return Advantages(batch.to_tokens(batch.xp.where(batch.alone, batch.rewards, centred(batch))))


@dataclass(frozen=True)
class RLLMRLOO(Preset):
    """``n / (n - 1) (r - mean)``, n the group's size."""

    name: ClassVar[str] = "rloo@rllm"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FOLDER}/rl_algo.py:21-27"
    differs: ClassVar[str] = f"{RAW}."

    def compute(self, batch: FlatBatch) -> Advantages:
        """Reward against the mean of the others."""
        xp, size = batch.xp, batch.xp.take(batch.group_sizes, batch.group_ids)
        largest = float(xp.finfo(batch.rewards.dtype).max) / 2  # the factor is at most 2
        against = xp.clip(centred(batch), -largest, largest) * (size / xp.clip(size - 1, 1))
        return Advantages(batch.to_tokens(xp.where(batch.alone, batch.rewards, against)))


@dataclass(frozen=True)
class RLLMReinforcePPBaseline(Preset):
    """``(r - mean of the group) / (std of these over the batch + 1e-6)``, ddof 0, a response counted once."""

    name: ClassVar[str] = "reinforce_pp_baseline@rllm"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FOLDER}/advantage.py:91-111"
    differs: ClassVar[str] = (
        "The population's deviation and 1e-6, where ours has the sample's. It is said to be in line with verl's, but "
        "verl weighs by tokens and centres again: in a ragged batch the two differ by as much as the sign."
    )

    @property
    def batch_statistics(self) -> bool:
        """The deviation is the batch's (in rLLM: that of a role)."""
        return True

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred reward over its deviation."""
        one = batch.group_ids * 0
        scaled = standardise(centred(batch), one, 1, batch.nonempty, eps=EPS, subtract_mean=False)
        return Advantages(batch.to_tokens(scaled))


@dataclass(frozen=True)
class RLLMReinforce(Preset):
    """The reward itself."""

    name: ClassVar[str] = "reinforce@rllm"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FOLDER}/advantage.py:85-88"
    differs: ClassVar[str] = (
        "The outcome on every token: no `token_rewards`, no discount, no reward to go. With 0/1 rewards only right "
        "answers train."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The outcome on every token."""
        return Advantages(batch.to_tokens(batch.rewards))
