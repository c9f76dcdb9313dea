"""DAPO: Decoupled Clip and Dynamic sAmpling Policy Optimization.

Yu et al., "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", arXiv:2503.14476.

Its advantage (Eq. 9) is GRPO's. Of its four changes, dynamic sampling (Eq. 11) is the ``keep`` diagnostic here,
overlong reward shaping (Eq. 13) is :class:`advantage_zoo.transforms.OverlongPenalty`; clip-higher (Eq. 10) and the
token-mean (Eq. 12) are the loss's.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import masked_mean, widen
from advantage_zoo.batch import TASK_REWARDS
from advantage_zoo.estimator import Advantages, Paper, param
from advantage_zoo.estimators.grpo import GRPO
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class DAPO(GRPO):
    """GRPO's advantage, and which responses dynamic sampling would keep.

    Diagnostics: ``keep`` (B,) bool, True on the responses of groups with 0 < correct < G; ``kept_groups``, their share
    of the groups. Correctness is that of the task reward: of ``extras["task_rewards"]`` where a transform has shaped
    ``rewards`` (the overlong penalty makes an all-right group look mixed), else of ``rewards``.
    """

    name: ClassVar[str] = "dapo"
    paper: ClassVar[Paper | None] = Paper(
        "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", "2503.14476", "Eq. 9, 11"
    )

    reward_threshold: float = param(0.5, doc="A response is correct if its task reward is above this.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """GRPO's A_i on every token of response i, with the diagnostics of dynamic sampling."""
        xp = batch.xp
        right = widen(batch.extras.get(TASK_REWARDS, batch.rewards)) > self.reward_threshold  # (B,)
        correct, size = batch.group_sum(xp.astype(right, batch.rewards.dtype)), batch.group_sizes  # (G,)
        mixed = (correct > 0) & (correct < size)  # (G,)
        diagnostics = {
            "keep": batch.nonempty & xp.take(mixed, batch.group_ids),
            "kept_groups": masked_mean(xp.astype(mixed, size.dtype), size > 0),
        }
        return Advantages(super().compute(batch).values, diagnostics)

    explain = GRPO.explain
