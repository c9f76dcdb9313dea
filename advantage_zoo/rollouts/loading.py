"""Rollouts with their text, from one or several of our files, or some rows of these."""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.rollouts.parquet import columns_of, made_of
from advantage_zoo.rollouts.rollouts import Rollouts
from advantage_zoo.rollouts.shards import Shard, common_columns, ragged, read

if TYPE_CHECKING:
    import pyarrow as pa

READ = 2**18
"""Tokens that are read at a time."""


def load(
    shards: Sequence[Shard], rows: NDArray[np.int64] | None = None, groups: NDArray[np.int64] | None = None
) -> Rollouts:
    """The responses of the files, one file after the other.

    Args:
        shards: The files.
        rows: Which rows of all, rising; all if ``None``.
        groups: What to call the group of each row of all, where that is not what the files say.

    Raises:
        RolloutFileError: A file is damaged, or a value does not fit.
    """
    names, _ = common_columns(shards)  # and the steps
    starts = np.cumsum([0, *(shard.rows for shard in shards)]).tolist()
    parts: list[dict[str, Any]] = []
    for start, shard in zip(starts, shards, strict=False):
        chosen = np.arange(shard.rows) if rows is None else _inside(rows, start, start + shard.rows)
        if not len(chosen):
            continue
        part = columns_of(shard.path, _table(shard, sorted(names), chosen))
        if shard.step is not None:
            part["steps"] = [shard.step] * len(chosen)
        if groups is not None:
            part["groups"] = groups[start + chosen].tolist()
        parts.append(part)
    return made_of(parts, metadata_of(shards), str(shards[0].path))


def _inside(rows: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    """Those of ``rows`` that are at least ``start`` and less than ``end``, less ``start``."""
    low, high = np.searchsorted(rows, [start, end])
    return rows[low:high] - start


def _table(shard: Shard, names: list[str], rows: NDArray[np.int64]) -> "pa.Table":
    """These rows of a file; only row groups that hold one are read."""
    import pyarrow as pa

    ends = np.cumsum(shard.row_groups)
    tables: list[pa.Table] = []
    for group in np.unique(np.searchsorted(ends, rows, side="right")).tolist():
        for first, batch in read(shard, names, range(group, group + 1), READ):
            inside = _inside(rows, first, first + batch.num_rows)
            some = batch.take(inside)
            ragged(shard, some, first + inside)  # refuses what does not fit, by its place in the file
            tables.append(pa.Table.from_batches([some]))
    return pa.concat_tables(tables)


def metadata_of(shards: Sequence[Shard]) -> dict[str, Any]:
    """What all files say alike, and how many they are."""
    first, others = shards[0].metadata, shards[1:]
    same = {k: v for k, v in first.items() if all(shard.metadata.get(k) == v for shard in others)}
    return {**same, "files": len(shards)} if others else same
