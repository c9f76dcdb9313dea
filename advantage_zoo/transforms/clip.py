"""Clipped advantages."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.flat import FlatBatch
from advantage_zoo.parameters import param
from advantage_zoo.transforms.transform import AdvantageTransform


@dataclass(frozen=True)
class Clip(AdvantageTransform):
    """``min(max(A, low), high)``: advantages within bounds."""

    name: ClassVar[str] = "clip"

    low: float = param(kind=float, le=0, doc="Smallest advantage, at most 0.")
    high: float = param(kind=float, ge=0, doc="Largest advantage, at least 0.")

    def apply(self, batch: FlatBatch, advantages: Array) -> Array:
        """Bounds include 0, so that no token without signal gets one."""
        return batch.xp.clip(advantages, self.low, self.high)
