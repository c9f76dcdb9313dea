"""Sums over groups in the order in which PyTorch adds the rows of a float32 matrix on a CPU, to the bit.

A framework that keeps its rewards as (prompts, n) takes ``sum(-1)`` and ``mean(-1)``. The kernel (``SumKernel.cpp``,
PyTorch 2.13) deals a row's numbers out to 8 lanes (to 1 where there are fewer than 8), four chains in each, and adds
the chains up, then the lanes. The order decides whether the mean of equal rewards is off by a rounding error, and so
whether an eps of 1e-9 makes 0 or 119 of it. This holds for up to 512 numbers a row; beyond, the kernel adds in more
stages.
"""

from advantage_zoo.arrays import Array, segment_sum
from advantage_zoo.arrays.namespace import arange
from advantage_zoo.flat import FlatBatch

LANES = 8
CHAINS = 4
SLOTS = LANES * CHAINS + 1  # the last for what does not fill the lanes


def group_totals(batch: FlatBatch, x: Array) -> Array:
    """(B,) sum of ``x`` (B,), float32, over each response's group; responses without a valid token do not count."""
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
