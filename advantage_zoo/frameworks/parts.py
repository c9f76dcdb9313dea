"""Parts that presets share: numbers as float32, PyTorch's statistics of a group and a batch, results."""

from dataclasses import dataclass

from advantage_zoo.arrays import Array, segment_sum, unit, widen
from advantage_zoo.arrays.namespace import arange, device, library
from advantage_zoo.estimator import Advantages
from advantage_zoo.flat import FlatBatch
from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.frameworks.torch_order import CHAINS, group_totals, total

LARGEST = 1e15
"""Beyond, where squares and sums in float32 would sooner or later overflow, numbers are clipped."""


def float32(batch: FlatBatch, x: Array) -> Array:
    """``x`` in float32, as frameworks hold it."""
    return batch.xp.astype(x, batch.xp.float32)


def group_counts(batch: FlatBatch) -> Array:
    """(B,) size of each response's group, float32."""
    return float32(batch, batch.xp.take(batch.group_sizes, batch.group_ids))


def held(batch: FlatBatch, x: Array) -> Array:
    """``x`` in float32, clipped."""
    return float32(batch, batch.xp.clip(widen(x), -LARGEST, LARGEST))


def torch_mean(batch: FlatBatch, x: Array) -> Array:
    """(B,) mean of ``x`` (B,), float32, over each response's group, rounded as ``torch.mean`` rounds on a CPU."""
    return group_totals(batch, x) / batch.xp.clip(group_counts(batch), 1)


def torch_std(batch: FlatBatch, x: Array) -> Array:
    """(B,) standard deviation of ``x`` (B,) around that mean, ddof 1; 0 for a group of one.

    PyTorch subtracts and adds the squares in float64 on a CPU; so does this, where there is one.
    """
    xp, mean = batch.xp, torch_mean(batch, x)
    if library(x) != "jax" and getattr(device(x), "type", "cpu") == "cpu":  # an accelerator may have no float64
        x, mean = xp.astype(x, xp.float64), xp.astype(mean, xp.float64)
    distance = xp.where(batch.nonempty, x - mean, 0.0)
    squares = segment_sum(distance * distance, batch.group_ids, batch.num_groups) / xp.clip(batch.group_sizes - 1, 1)
    return xp.take(float32(batch, xp.sqrt(squares)), batch.group_ids)


def row_std(batch: FlatBatch, x: Array) -> Array:
    """(B,) ``std(-1)`` of ``x`` (B,), float32, where each group is a row of (prompts, n), ddof 1.

    PyTorch takes it about the true mean, so that equal numbers have 0; but about the rounded mean where the batch has
    no second group.
    """
    xp = batch.xp
    u = unit(xp.astype(x, batch.rewards.dtype), batch.group_ids, batch.num_groups, batch.nonempty, ddof=1)
    exact = float32(batch, xp.take(u.std * u.half_range * 2, batch.group_ids))
    groups = xp.sum(xp.astype(batch.group_sizes > 0, exact.dtype))
    return xp.where(groups == 1, torch_std(batch, x), exact)


def column_mean(batch: FlatBatch, x: Array) -> Array:
    """(B,) mean of ``x`` (B,) over each response's group, rounded as PyTorch rounds that of a column of (B, K).

    Numbers that do not lie side by side are added in four chains, the last few in the first; see :func:`group_totals`,
    where they do.
    """
    xp, ids = batch.xp, batch.group_ids
    rows = arange(batch.num_rows, x)
    earlier = (ids[:, None] == ids[None, :]) & batch.nonempty[None, :] & (rows[None, :] < rows[:, None])  # (B, B)
    number = xp.sum(xp.astype(earlier, ids.dtype), axis=1)  # (B,) among its group
    size = xp.astype(group_counts(batch), ids.dtype)
    chain = xp.where(number < size // CHAINS * CHAINS, number % CHAINS, xp.zeros_like(number))
    parts = segment_sum(xp.where(batch.nonempty, x, 0.0), ids * CHAINS + chain, batch.num_groups * CHAINS)
    sums = xp.reshape(parts, (-1, CHAINS))  # (G, CHAINS)
    total = ((sums[:, 0] + sums[:, 1]) + sums[:, 2]) + sums[:, 3]
    return xp.take(total, ids) / xp.clip(group_counts(batch), 1)


def standardised_component(batch: FlatBatch, k: int, eps: float, squares_side_by_side: bool = False) -> Array:
    """(B,) component ``k`` of the rewards less its group's mean, over the deviation about it (``nanstd``) plus ``eps``.

    A single component lies side by side; of several, the squares do only where the framework has taken a column out.
    """
    components = held(batch, batch.reward_components)  # (B, K)
    x, size = components[:, k], group_counts(batch)
    mean = torch_mean if components.shape[1] == 1 else column_mean
    distance = batch.xp.where(batch.nonempty, x - mean(batch, x), 0.0)
    square = (torch_mean if squares_side_by_side else mean)(batch, distance * distance)
    return distance / (batch.xp.sqrt(square * (size / batch.xp.clip(size - 1, 1))) + eps)


def tokens(batch: FlatBatch, x: Array) -> Advantages:
    """Advantages of one number a token, (N,)."""
    return Advantages(batch.xp.astype(x, batch.rewards.dtype))


def spread(batch: FlatBatch, x: Array) -> Advantages:
    """Advantages of one number a response, (B,), on all its tokens."""
    return tokens(batch, batch.to_tokens(x))


def batch_mean(batch: FlatBatch, x: Array) -> Array:
    """Scalar mean of ``x`` (B,), float32, over the responses that count."""
    xp = batch.xp
    return total(xp.where(batch.nonempty, x, 0.0)) / xp.clip(xp.sum(float32(batch, batch.nonempty)), 1)


def batch_std(batch: FlatBatch, x: Array, ddof: int = 1) -> Array:
    """Scalar standard deviation of ``x`` (B,), float32, over the responses that count; 0 where it is not defined."""
    xp, count = batch.xp, batch.xp.sum(float32(batch, batch.nonempty))
    distance = x - batch_mean(batch, x)
    defined = count > ddof
    squares = batch_mean(batch, distance * distance) * count
    return xp.sqrt(xp.where(defined, squares / xp.where(defined, count - ddof, 1.0), 0.0))


def standardised_tokens(batch: FlatBatch, x: Array, divide: bool = True) -> Array:
    """(N,) ``x`` in float32 minus its mean over the batch's valid tokens, over ``sqrt(max(var, 1e-8))``, ddof 0."""
    xp, x = batch.xp, float32(batch, x)
    count = xp.clip(xp.sum(float32(batch, batch.counted)), 1)
    distance = xp.where(batch.counted, x - total(xp.where(batch.counted, x, 0.0)) / count, 0.0)
    return distance / xp.sqrt(xp.clip(total(distance * distance) / count, 1e-8)) if divide else distance


def weights_of(name: str, weights: tuple[float, ...], count: int) -> tuple[float, ...]:
    """A weight for each of ``count`` reward components; 1 each if none are given."""
    if weights and len(weights) != count:
        raise ValueError(f"{name}.weights has {len(weights)} numbers, and the batch {count} reward components.")
    return weights or (1.0,) * count


@dataclass(frozen=True)
class BatchPreset(Preset):
    """A preset under which one group's advantages depend on other groups."""

    @property
    def batch_statistics(self) -> bool:
        """Always."""
        return True
