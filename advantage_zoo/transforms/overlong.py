"""DAPO's soft overlong punishment (Yu et al., arXiv:2503.14476, Eq. 13)."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.estimator import Paper
from advantage_zoo.flat import FlatBatch
from advantage_zoo.parameters import param
from advantage_zoo.transforms.transform import RewardTransform


@dataclass(frozen=True)
class OverlongPenalty(RewardTransform):
    """Adds a penalty to the rewards of long responses.

    For a response of length |y| (valid tokens), with L_max and L_cache in tokens, it is

        0                                          if |y| <= L_max - L_cache,
        ((L_max - L_cache) - |y|) / L_cache        if L_max - L_cache < |y| <= L_max,
        -1                                         if |y| > L_max,

    times ``weight``.

    Raises:
        TypeError: A length is no whole number.
        ValueError: Not ``0 < cache_length <= max_length``, or ``weight`` is negative.
    """

    name: ClassVar[str] = "overlong"
    paper: ClassVar[Paper | None] = Paper(
        "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", "2503.14476", "Eq. 13"
    )

    max_length: int = param(kind=int, ge=1, doc="L_max, tokens; the paper's runs: 20,480.")
    cache_length: int = param(
        kind=int, ge=1, doc="L_cache, tokens before L_max over which the penalty grows; the paper's runs: 4,096."
    )
    weight: float = param(1.0, ge=0, doc="Factor of the penalty; 1 in the paper.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cache_length > self.max_length:
            raise ValueError(
                f"overlong.cache_length is {self.cache_length}; expected at most max_length, {self.max_length}."
            )

    def shape(self, batch: FlatBatch) -> Array:
        """The penalty, (B,), at most 0."""
        over = batch.lengths - (self.max_length - self.cache_length)  # (B,) tokens
        return -self.weight * batch.xp.clip(over / self.cache_length, 0, 1)
