"""Group and bucket statistics: what advantages are made of.

Every statistic is taken in two passes around a pivot. The pivot is the segment's largest member and the unit its range,
so that inside

    u = (x - max) / (max - min), in [-1, 0],

equal members give exactly 0 in every dtype (a mean rounds: 0.81593 in float32 minus the mean of 64 copies of itself is
not 0) and no square overflows, whatever the scale of the rewards.
"""

from typing import NamedTuple

from advantage_zoo.arrays.namespace import Array, index_dtype, namespace
from advantage_zoo.arrays.segments import segment_cumsum, segment_max, segment_sum


class Unit(NamedTuple):
    """Members of each segment in units of the segment's range."""

    centred: Array
    """(N,) ``u - mean(u)``, dimensionless; 0 where not valid."""
    std: Array
    """(S,) standard deviation of ``u``; the population's where members weigh no more than ``ddof``."""
    half_range: Array
    """(S,) half of the segment's range, in units of ``x`` (the whole range may overflow); 1 where the range is 0."""
    varies: Array
    """(S,) bool: the largest member differs from the smallest. An exact test, not a rounded std against 0."""

    def half_spread(self, eps: float, floor: float = 0.0) -> Array:
        """(S,) half of ``max(std, floor) + eps`` in units of ``x``, infinity where that is 0: a divisor."""
        xp = namespace(self.std)
        half_std = self.std * self.half_range
        half = xp.where(half_std > floor * 0.5, half_std, floor * 0.5) + eps * 0.5
        return xp.where(half == 0, xp.inf, half)


def unit(
    x: Array, segment_ids: Array, num_segments: int, valid: Array, ddof: int = 0, weights: Array | None = None
) -> Unit:
    """Centre and scale the valid members of each segment; see the module's notes.

    ``weights`` (N,), not negative, weigh the members in mean and variance; their sum takes the place of the count.
    """
    xp = namespace(x)
    largest = segment_max(xp.where(valid, x, -xp.inf), segment_ids, num_segments)
    smallest = -segment_max(xp.where(valid, -x, -xp.inf), segment_ids, num_segments)
    varies = largest > smallest
    half_range = xp.where(varies, largest * 0.5 - smallest * 0.5, 1.0)
    half_range = xp.where(half_range == 0, 1.0, half_range)  # the range may be too small to be halved
    half_pivot = xp.where(varies, largest * 0.5, 0.0)

    inside = valid & xp.take(varies, segment_ids)
    u = xp.where(inside, x * 0.5 - xp.take(half_pivot, segment_ids), 0.0) / xp.take(half_range, segment_ids)
    weights = xp.astype(valid, x.dtype) if weights is None else xp.where(valid, weights, 0.0)
    count = segment_sum(weights, segment_ids, num_segments)
    mean = segment_sum(weights * u, segment_ids, num_segments) / xp.where(count > 0, count, 1.0)
    centred = xp.where(inside, u - xp.take(mean, segment_ids), 0.0)
    squares = segment_sum(weights * centred * centred, segment_ids, num_segments)
    # Weights that count a response once are rounded. Of one alone there is no sample's deviation; the population's is.
    free = xp.where(count > ddof + 0.5, count - ddof, count)
    variance = squares / xp.where(free > 0, free, 1.0)
    return Unit(centred, xp.sqrt(variance), half_range, varies)


def moments(
    x: Array, segment_ids: Array, num_segments: int, valid: Array, ddof: int = 0, weights: Array | None = None
) -> tuple[Array, Array]:
    """Mean and standard deviation of each element's segment, (N,) each, to be read: statistics are :func:`unit`'s."""
    xp = namespace(x)
    u = unit(x, segment_ids, num_segments, valid, ddof, weights)
    weights = xp.where(valid, xp.ones_like(x) if weights is None else weights, 0.0)
    total = segment_sum(xp.where(valid, weights * x, 0.0), segment_ids, num_segments)
    count = segment_sum(weights, segment_ids, num_segments)
    mean = total / xp.where(count > 0, count, 1.0)
    return xp.take(mean, segment_ids), xp.take(2 * u.std * u.half_range, segment_ids)


def centre(x: Array, segment_ids: Array, num_segments: int, valid: Array, weights: Array | None = None) -> Array:
    """``x - mean`` of its segment, (N,); exactly 0 where a segment's valid members are equal, and where not valid.

    ``weights`` (N,), not negative, weigh the members in the mean.
    """
    xp = namespace(x)
    u = unit(x, segment_ids, num_segments, valid, weights=weights)
    return saturating(u.centred * xp.take(u.half_range, segment_ids), 2.0)


def standardise(
    x: Array,
    segment_ids: Array,
    num_segments: int,
    valid: Array,
    *,
    eps: float,
    ddof: int = 0,
    floor: float = 0.0,
    subtract_mean: bool = True,
    weights: Array | None = None,
) -> Array:
    """``(x - mean) / (max(std, floor) + eps)`` over the valid members of each segment, (N,).

    Args:
        x: Values, (N,), floating, at least float32.
        segment_ids: Segment of each element, (N,), integers in ``[0, num_segments)``.
        num_segments: Static number of segments.
        valid: True on the elements that count, (N,).
        eps: Added to the standard deviation, in units of ``x``.
        ddof: 0 for the population's standard deviation, 1 for the sample's.
        floor: Smallest standard deviation, in units of ``x``.
        subtract_mean: Whether the mean is subtracted; without, ``x / (max(std, floor) + eps)``.
        weights: (N,), not negative: what each element weighs in mean and deviation; alike if not given.

    Returns:
        0 where not valid, and 0, not 0/0, where the denominator is 0.
    """
    xp = namespace(x)
    u = unit(x, segment_ids, num_segments, valid, ddof, weights)
    half_spread = u.half_spread(eps, floor)
    if subtract_mean:
        return u.centred * xp.take(u.half_range / half_spread, segment_ids)
    return xp.where(valid, x * 0.5, 0.0) / xp.take(half_spread, segment_ids)


def saturating(x: Array, factor: Array | float) -> Array:
    """``factor x``, and the largest number of the dtype, with its sign, where that overflows; ``factor`` at least 1."""
    xp = namespace(x)
    info = xp.finfo(x.dtype)
    largest = float(info.max)
    over = xp.abs(x) >= largest * (1 - 2 * float(info.eps)) / factor  # what is below stays finite when rounded
    return xp.where(over, xp.sign(x) * largest, xp.where(over, 0.0, x) * factor)


def segment_quantile(
    x: Array, segment_ids: Array, num_segments: int, valid: Array, quantile: float, *, linear: bool
) -> Array:
    """Quantile of the valid members of each segment, (num_segments,); 0 for a segment without any.

    Args:
        x: Values, (N,), floating.
        segment_ids: Segment of each element, (N,), integers in ``[0, num_segments)``.
        num_segments: Static number of segments.
        valid: True on the elements that count, (N,).
        quantile: K, from 0 to 1.
        linear: Interpolate between the two neighbours of rank ``K (n - 1)``, as torch.quantile does; else the empirical
            quantile, the smallest member that at least a share K of the members does not exceed.
    """
    xp = namespace(x)
    rising = xp.argsort(xp.where(valid, x, xp.inf))
    segments = xp.where(valid, segment_ids, num_segments)  # what does not count comes last
    order = xp.take(rising, xp.argsort(xp.take(segments, rising)))
    members = xp.take(xp.where(valid, x, 0.0), order)  # (N,) by segment, rising in each
    count = segment_sum(xp.astype(valid, x.dtype), segment_ids, num_segments)  # (S,)
    start = segment_cumsum(count, segment_ids[:1] * 0, num_segments) - count
    # A rank that is whole but for the rounding of K, or of the product in float32, is whole.
    rank = quantile * (count - 1) if linear else xp.ceil(quantile * (1 - 5e-7) * count - 1e-5) - 1
    last = xp.clip(count - 1, 0)
    low = xp.clip(xp.floor(rank), 0)
    low, high = xp.where(low > last, last, low), xp.where(low + 1 > last, last, low + 1)
    here, above = (_at(members, start + place) for place in (low, high))
    found = here + (above - here) * (rank - low) if linear else here
    return xp.where(count > 0, found, 0.0)


def _at(x: Array, places: Array) -> Array:
    xp = namespace(x)
    return xp.take(x, xp.astype(xp.clip(places, 0, x.shape[0] - 1), index_dtype(x)))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, accurate and without overflow on either side."""
    xp = namespace(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + small), small / (1 + small))


def masked_mean(x: Array, valid: Array) -> Array:
    """Mean of ``x`` (N,) over its valid elements, a scalar; 0 if there are none."""
    return ratio(namespace(x).where(valid, x, 0.0), namespace(x).astype(valid, x.dtype))


def ratio(part: Array, whole: Array) -> Array:
    """``sum(part) / sum(whole)``, a scalar; 0 if the whole is 0. For shares, which are never worth a NaN."""
    xp = namespace(part)
    total = xp.sum(whole)
    return xp.sum(part) / xp.where(total == 0, 1.0, total)


def top_share(x: Array, valid: Array, fraction: float) -> Array:
    """(N,) bool: the valid elements that are among the ``fraction`` (0 to 1] with the largest ``x``, ties included."""
    xp = namespace(x)
    falling = -xp.sort(-xp.where(valid, x, -xp.inf))
    count = xp.sum(xp.astype(valid, x.dtype))
    last = xp.astype(xp.ceil(count * fraction), index_dtype(x)) - 1
    return valid & (x >= xp.take(falling, xp.reshape(xp.clip(last, 0), (1,))))


def min_and_median_of_positive(x: Array) -> tuple[Array, Array]:
    """Smallest and median of the positive elements of ``x`` (S,), two scalars; 0 if there are none."""
    xp = namespace(x)
    rising = xp.sort(xp.where(x > 0, x, xp.inf))
    count = xp.sum(xp.astype(x > 0, index_dtype(x)))
    ranks = xp.stack([count * 0, (count - 1) // 2, count // 2])
    smallest, lower, upper = xp.unstack(xp.take(rising, xp.clip(ranks, 0)))
    return xp.where(count > 0, smallest, 0.0), xp.where(count > 0, (lower + upper) / 2, 0.0)


def bucket_indices(progress: Array, num_buckets: int) -> Array:
    """``min(floor(num_buckets * progress), num_buckets - 1)``, (N,), for progress in [0, 1].

    A progress that stands below an edge by no more than the rounding of a cumulative sum counts as on the edge. Equal
    entropies put tokens exactly on edges; without this, libraries, dtypes and layouts would disagree about those.
    """
    xp = namespace(progress)
    rounding = 1e-6 if xp.finfo(progress.dtype).bits < 64 else 1e-12
    return xp.astype(xp.clip(xp.floor(num_buckets * (progress + rounding)), 0, num_buckets - 1), index_dtype(progress))
