"""Float32 sums in the order in which PyTorch adds numbers that lie side by side on a CPU, to the bit.

A framework that keeps its rewards as (prompts, n) takes ``sum(-1)`` and ``mean(-1)``, one that whitens sums over
(B, T). The kernel (``SumKernel.cpp``, PyTorch 2.13) deals the numbers out to 8 lanes (to 1 where there are fewer than
8), four chains in each, and adds the chains up, then the lanes. Chains of more than 16 numbers are added in four
levels. The order decides whether the mean of equal numbers is off by a rounding error, and so whether an eps of 1e-9
makes 0 or 119 of it.
"""

import math

from advantage_zoo.arrays import Array, segment_sum
from advantage_zoo.arrays.namespace import arange, library, namespace
from advantage_zoo.flat import FlatBatch

LANES = 8
CHAINS = 4
LEVELS = 4
SLOTS = LANES * CHAINS + 1  # the last for what does not fill the lanes


def total(x: Array) -> Array:
    """Scalar sum of ``x`` (N,), as one thread adds it."""
    xp = namespace(x)
    if library(x) == "torch":
        return xp.sum(x)
    lanes = LANES if x.shape[0] >= LANES else 1
    vectors = x.shape[0] // lanes
    rows = vectors // CHAINS
    step = 2 ** max(4, math.ceil(math.log2(max(rows, 1))) // LEVELS)
    chains = _in_levels(xp.reshape(x[: rows * CHAINS * lanes], (rows, CHAINS * lanes)), step)
    chains = xp.reshape(chains, (CHAINS, lanes))
    first = _one_by_one(xp.reshape(x[rows * CHAINS * lanes : vectors * lanes], (-1, lanes)), chains[0, :])
    added = _one_by_one(chains[1:, :], first)  # (lanes,)
    return _one_by_one(added, _one_by_one(x[vectors * lanes :], xp.zeros_like(x[0])))


def _one_by_one(x: Array, start: Array) -> Array:
    """``start`` plus the elements of ``x`` along its first axis, one after the other."""
    for i in range(x.shape[0]):
        start = start + x[i, ...]
    return start


def _in_levels(x: Array, step: int) -> Array:
    """(K,) sum of the rows of ``x`` (n, K): each ``step`` of them by themselves, and so the sums; rests come first."""
    xp = namespace(x)
    added = nothing = xp.zeros(x.shape[1:], dtype=x.dtype)
    for _ in range(LEVELS - 1):
        steps = x.shape[0] // step
        added = added + _one_by_one(x[steps * step :, :], nothing)
        whole = xp.reshape(x[: steps * step, :], (steps, step, x.shape[1]))
        x = _one_by_one(xp.moveaxis(whole, 1, 0), xp.zeros_like(whole[:, 0, :]))  # (steps, K)
    return added + _one_by_one(x, nothing)


def group_totals(batch: FlatBatch, x: Array) -> Array:
    """(B,) sum of ``x`` (B,), float32, over each response's group, of up to 512 members.

    Responses without a valid token do not count.
    """
    xp, groups = batch.xp, batch.num_groups
    nobody = xp.zeros_like(batch.group_ids) + groups
    ids = xp.where(batch.nonempty, batch.group_ids, nobody)  # (B,)
    order = xp.argsort(ids, stable=True)  # (B,)
    ids = xp.take(ids, order)  # (B,) sorted
    each = arange(groups + 1, x)
    first = xp.searchsorted(ids, each)  # (G + 1,)
    size = xp.take(xp.searchsorted(ids, each, side="right") - first, ids)  # (B,)
    slot = _slot(batch, arange(batch.num_rows, x) - xp.take(first, ids), size)
    sums = segment_sum(xp.take(x, order), ids * SLOTS + slot, (groups + 1) * SLOTS)
    sums = xp.reshape(sums, (groups + 1, SLOTS))
    total = sums[:, -1]
    for lane in range(0, LANES * CHAINS, CHAINS):
        chains = [sums[:, lane + chain] for chain in range(CHAINS)]
        total = total + (((chains[0] + chains[1]) + chains[2]) + chains[3])
    return xp.take(total, batch.group_ids)


def _slot(batch: FlatBatch, number: Array, size: Array) -> Array:
    """(B,) where number ``number`` of a row of ``size`` is added: ``lane * 4 + chain``, or the last slot."""
    xp = batch.xp
    one = xp.ones_like(size)
    lanes = xp.where(size < LANES, one, one * LANES)
    block, blocks = number // lanes, size // lanes
    chain = xp.where(block < blocks // CHAINS * CHAINS, block % CHAINS, 0 * one)
    return xp.where(block < blocks, number % lanes * CHAINS + chain, one * (SLOTS - 1))
