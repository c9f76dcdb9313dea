"""Batch normalisation of advantages."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import standardise
from advantage_zoo.arrays.namespace import Array
from advantage_zoo.flat import FlatBatch
from advantage_zoo.parameters import param
from advantage_zoo.transforms.transform import AdvantageTransform


@dataclass(frozen=True)
class Whiten(AdvantageTransform):
    """``(A - mean) / (std + eps)`` over the batch's valid tokens; exactly 0 where all are equal."""

    name: ClassVar[str] = "whiten"
    batch_statistics: ClassVar[bool] = True

    weight: str = param(
        "token",
        choices=("token", "sequence"),
        doc="What counts alike in mean and deviation: every token, or every response, whatever its length.",
    )
    centre: bool = param(True, doc="Whether the mean is subtracted.")
    eps: float = param(1e-8, ge=0, doc="Added to the standard deviation, in units of advantage.")
    ddof: int = param(1, ge=0, le=1, doc="1 for the sample's standard deviation, 0 for the population's.")

    def apply(self, batch: FlatBatch, advantages: Array) -> Array:
        """Standardised over the batch as one segment."""
        xp = batch.xp
        counts = batch.mask & batch.to_tokens(batch.nonempty)  # (N,)
        weights = xp.astype(counts, advantages.dtype)
        if self.weight == "sequence":
            weights = weights / batch.to_tokens(xp.clip(batch.lengths, 1))
        return standardise(
            advantages,
            batch.row_ids * 0,
            1,
            counts,
            eps=self.eps,
            ddof=self.ddof,
            subtract_mean=self.centre,
            weights=weights,
        )
