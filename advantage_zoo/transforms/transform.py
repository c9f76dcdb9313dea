"""What a transform is: something done to the rewards before an estimator, or to its advantages after it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from advantage_zoo.arrays.namespace import Array, float_dtype, widen
from advantage_zoo.batch import TASK_REWARDS, RolloutBatch
from advantage_zoo.estimator import Paper
from advantage_zoo.flat import FlatBatch
from advantage_zoo.parameters import Parameterised


@dataclass(frozen=True)
class Transform(Parameterised, ABC):
    """Base of every transform; it composes with any estimator."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Fields of the batch beyond rewards, mask and groups."""
    paper: ClassVar[Paper | None] = None
    """Where it comes from."""
    batch_statistics: ClassVar[bool] = False
    """Whether what it does to one group depends on the others."""


@dataclass(frozen=True)
class RewardTransform(Transform):
    """Shapes the rewards; stands before the estimator: ``overlong(20480, 4096) | grpo``."""

    @abstractmethod
    def shape(self, batch: FlatBatch) -> Array:
        """What is added to the rewards, (B,)."""

    def __call__(self, batch: RolloutBatch) -> RolloutBatch:
        """The batch with shaped rewards; a reward that is not finite stays so, and is refused by whoever computes.

        The rewards before are kept as ``extras["task_rewards"]``. Token rewards, which are complete, get the change at
        the response's last valid token.
        """
        flat = FlatBatch(batch, self.needs)
        xp, change = flat.xp, self.shape(flat)
        shaped = xp.astype(widen(batch.rewards) + change, float_dtype(batch.rewards))
        dense = batch.token_rewards
        if dense is not None:
            added = flat.unflatten(xp.where(flat.last_valid, flat.to_tokens(change), 0.0))
            dense = xp.astype(widen(dense) + added, dense.dtype)
        extras = {TASK_REWARDS: batch.rewards, **batch.extras}
        return replace(batch, rewards=shaped, token_rewards=dense, extras=extras)


@dataclass(frozen=True)
class AdvantageTransform(Transform):
    """Changes the advantages; stands after the estimator: ``grpo | whiten``."""

    @abstractmethod
    def apply(self, batch: FlatBatch, advantages: Array) -> Array:
        """The new advantages, (N,), of those given, (N,), which are finite, and 0 at masked tokens."""
