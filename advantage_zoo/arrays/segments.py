"""Sums, maxima, running sums and backward recurrences over segments of a flat array.

``segment_ids`` names the segment of each element and ``num_segments`` is a static count, so nothing here reads a value
back from the device. Elements that should not count are the caller's to zero, by ``where(mask, x, 0)`` and never by
``x * mask``: padding may hold NaN.
"""

import sys

from advantage_zoo.arrays.namespace import Array, arange, library, namespace, zeros


def segment_sum(x: Array, segment_ids: Array, num_segments: int) -> Array:
    """Sum of ``x`` (N,) over each segment: (num_segments,), in the dtype of ``x``; 0 for a segment without elements.

    Args:
        x: Addends, (N,). Widen float16 and bfloat16 first.
        segment_ids: Segment of each element, (N,), integers in ``[0, num_segments)``.
        num_segments: Static number of segments.
    """
    xp = namespace(x)
    if num_segments == 1:  # also because inductor (PyTorch 2.13) fails on an index_add into one element
        return xp.reshape(xp.sum(x), (1,))
    match library(x):
        case "numpy" if x.dtype == xp.float64:
            return xp.bincount(segment_ids, weights=x, minlength=num_segments)
        case "numpy":  # one after the other, as the dtype rounds
            out = xp.zeros(num_segments, dtype=x.dtype)
            xp.add.at(out, segment_ids, x)
            return out
        case "torch":
            return zeros(num_segments, x).index_add(0, segment_ids, x)
        case "jax":
            return sys.modules["jax"].ops.segment_sum(x, segment_ids, num_segments)
        case _:
            member = segment_ids[None, :] == arange(num_segments, x)[:, None]  # (num_segments, N)
            return xp.sum(xp.where(member, x[None, :], 0.0), axis=1)


def segment_max(x: Array, segment_ids: Array, num_segments: int) -> Array:
    """Largest element of each segment of ``x`` (N,): (num_segments,); minus infinity for a segment without elements.

    Args:
        x: Values, (N,), floating.
        segment_ids: Segment of each element, (N,), integers in ``[0, num_segments)``.
        num_segments: Static number of segments.
    """
    xp = namespace(x)
    match library(x):
        case "numpy":
            out = xp.full(num_segments, -xp.inf, dtype=x.dtype)
            xp.maximum.at(out, segment_ids, x)
            return out
        case "torch":
            return (zeros(num_segments, x) - xp.inf).scatter_reduce(0, segment_ids, x, "amax")
        case "jax":
            return sys.modules["jax"].ops.segment_max(x, segment_ids, num_segments)
        case _:
            member = segment_ids[None, :] == arange(num_segments, x)[:, None]  # (num_segments, N)
            return xp.max(xp.where(member, x[None, :], -xp.inf), axis=1)


def segment_cumsum(x: Array, segment_ids: Array, width: int | None = None) -> Array:
    """Running sum of ``x`` (N,) within each segment, inclusive: (N,). Elements of a segment stand side by side.

    Args:
        x: Addends, (N,).
        segment_ids: Segment of each element, (N,), each segment contiguous.
        width: Static length of every segment where all are equally long (a padded batch), else ``None``.
    """
    xp = namespace(x)
    if width is not None:
        rows = xp.reshape(x, (-1, width))
        match library(x):
            case "torch":
                sums = rows.cumsum(1)  # array_api_compat's own cumulative_sum warns under torch.compile
            case "jax":
                sums = xp.cumulative_sum(rows, axis=1)
            case _:  # one after the other, which float32 alone would leave too far from the rest
                sums = xp.astype(xp.cumulative_sum(rows, axis=1, dtype=xp.float64), x.dtype)
        return xp.reshape(sums, (-1,))
    # Ragged segments: doubling. After the step with offset d, element i holds the sum of its last 2d predecessors in
    # its segment. What a segment gets never depends on its neighbours, as differences of one long running sum would.
    n = x.shape[0]
    offset = 1
    while offset < n:
        same = segment_ids[offset:] == segment_ids[:-offset]
        x = xp.concat([x[:offset], x[offset:] + xp.where(same, x[:-offset], 0.0)])
        offset *= 2
    return x


def segment_scan(x: Array, decay: Array, segment_ids: Array, width: int | None = None) -> Array:
    """``y_i = x_i + decay_i y_(i+1)`` from the end of each segment, (N,): returns, generalised advantages.

    By doubling, so that a response of T tokens costs log2(T) passes and no loop over tokens. A sum that overflows stays
    at the dtype's largest number, so that two such sums of opposite sign do not make NaN.

    Args:
        x: Addends, (N,).
        decay: Factors, (N,), at least 0; where one is 0 nothing is carried over.
        segment_ids: Segment of each element, (N,), each segment contiguous.
        width: Static length of every segment where all are equally long (a padded batch), else ``None``.
    """
    xp = namespace(x)
    n = x.shape[0]
    limit = float(xp.finfo(x.dtype).max) * 0.5  # sums of halves do not overflow
    x = xp.clip(x * 0.5, -limit, limit)
    nothing = xp.zeros_like(decay[:1])
    inside = xp.concat([xp.where(segment_ids[1:] == segment_ids[:-1], decay[:-1], 0.0), nothing])
    offset = 1
    while offset < (n if width is None else width):  # y_i holds the sum up to i + offset, inside_i the factor to there
        carried = xp.where(inside[:-offset] > 0, inside[:-offset] * x[offset:], 0.0)  # 0 times NaN is nothing
        x = xp.concat([xp.clip(x[:-offset] + carried, -limit, limit), x[-offset:]])
        inside = xp.concat([inside[:-offset] * inside[offset:], xp.zeros_like(inside[-offset:])])
        offset *= 2
    return x * 2


def pair_ids(first: Array, second: Array) -> Array:
    """(N,) integers in ``[0, N)`` that are equal exactly where ``first`` and ``second``, (N,) integers, both are.

    For pairs so many that a segment for each possible one would not fit in memory.
    """
    xp = namespace(first)
    order = xp.argsort(second)
    order = xp.take(order, xp.argsort(xp.take(first, order)))  # the standard's argsort is stable
    a, b = xp.take(first, order), xp.take(second, order)
    new = xp.astype((a[1:] != a[:-1]) | (b[1:] != b[:-1]), order.dtype)
    ids = segment_cumsum(xp.concat([xp.zeros_like(order[:1]), new]), order, order.shape[0])
    return xp.take(ids, xp.argsort(order))
