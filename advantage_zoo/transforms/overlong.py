"""DAPO's soft overlong punishment (Yu et al., arXiv:2503.14476, Eq. 13)."""

import numbers
from dataclasses import dataclass, replace

from advantage_zoo.arrays.namespace import float_dtype, widen
from advantage_zoo.batch import TASK_REWARDS, RolloutBatch
from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class OverlongPenalty:
    """Adds a penalty to the rewards of long responses.

    For a response of length |y| (valid tokens), with L_max and L_cache in tokens, it is

        0                                          if |y| <= L_max - L_cache,
        ((L_max - L_cache) - |y|) / L_cache        if L_max - L_cache < |y| <= L_max,
        -1                                         if |y| > L_max,

    times ``weight``. The rewards before the penalty are kept as ``extras["task_rewards"]``: dynamic sampling asks
    whether a group's *task* rewards are mixed.

    Args:
        max_length: L_max, tokens; the paper's runs: 20,480.
        cache_length: L_cache, tokens, the stretch before L_max over which the penalty grows; the paper's runs: 4,096.
        weight: Factor of the penalty; 1 in the paper.

    Raises:
        TypeError: A length is no whole number.
        ValueError: Not ``0 < cache_length <= max_length``, or ``weight`` is negative.
    """

    max_length: int
    cache_length: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_length", "cache_length"):
            if not isinstance(getattr(self, name), numbers.Integral):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected a whole number of tokens.")
        if not 0 < self.cache_length <= self.max_length:
            raise ValueError(
                f"cache_length is {self.cache_length}; expected more than 0 and at most max_length, {self.max_length}."
            )
        if not isinstance(self.weight, numbers.Real) or not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight!r}; expected a finite number of at least 0.")

    def __call__(self, batch: RolloutBatch) -> RolloutBatch:
        """The batch with shaped rewards; a reward that is not finite stays so, and is refused by whoever computes."""
        flat = FlatBatch(batch)
        xp = flat.xp
        over = flat.lengths - (self.max_length - self.cache_length)  # (B,) tokens
        penalty = -self.weight * xp.clip(over / self.cache_length, 0, 1)
        shaped = xp.astype(widen(batch.rewards) + penalty, float_dtype(batch.rewards))
        return replace(batch, rewards=shaped, extras={TASK_REWARDS: batch.rewards, **batch.extras})
