"""Group statistics as frameworks take them: float32, sums in the order of the rows, no guard against rounding.

The house's own (`advantage_zoo.arrays.statistics`) give exactly 0 for equal rewards; these give what a framework gives,
which may be one rounding error, divided by an eps.
"""

from advantage_zoo.arrays import Array, segment_sum
from advantage_zoo.flat import FlatBatch


def float32(batch: FlatBatch, x: Array) -> Array:
    """``x`` as the frameworks hold it."""
    return batch.xp.astype(x, batch.xp.float32)


def group_counts(batch: FlatBatch) -> Array:
    """(B,) size of each response's group."""
    return float32(batch, batch.xp.take(batch.group_sizes, batch.group_ids))


def group_mean(batch: FlatBatch, x: Array) -> Array:
    """(B,) mean of ``x`` (B,), float32, over each response's group; responses without a valid token do not count."""
    xp = batch.xp
    total = segment_sum(xp.where(batch.nonempty, x, xp.zeros_like(x)), batch.group_ids, batch.num_groups)
    return xp.take(total, batch.group_ids) / xp.clip(group_counts(batch), 1, None)


def group_std(batch: FlatBatch, x: Array, ddof: int = 1) -> Array:
    """(B,) standard deviation of ``x`` (B,), float32, over each response's group; 0 where it is not defined."""
    xp = batch.xp
    distance = x - group_mean(batch, x)
    count = group_counts(batch)
    mean_square = group_mean(batch, distance * distance)
    defined = count > ddof
    return xp.sqrt(xp.where(defined, mean_square * count / xp.where(defined, count - ddof, 1.0), 0.0))
