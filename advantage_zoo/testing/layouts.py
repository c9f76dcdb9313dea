"""The same rollouts laid out in other ways: NumPy batches in, NumPy batches out."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import OPTIONAL_FIELDS, TOKEN_FIELDS, RolloutBatch

ROW_FIELDS = ("rewards", "group_ids", "reward_components", "baseline_rewards")


def token_fields(batch: RolloutBatch) -> dict[str, NDArray[Any]]:
    """The token fields that the batch has, and no mask."""
    return {name: getattr(batch, name) for name in TOKEN_FIELDS if getattr(batch, name) is not None}


def row_fields(batch: RolloutBatch) -> dict[str, NDArray[Any]]:
    """The fields with one entry a response that the batch has."""
    return {name: getattr(batch, name) for name in ROW_FIELDS if getattr(batch, name) is not None}


def take_rows(batch: RolloutBatch, rows: NDArray[Any]) -> RolloutBatch:
    """The rows of a padded batch, in this order."""
    every = {**row_fields(batch), **token_fields(batch), "response_mask": batch.response_mask}
    extras = {name: x[rows] for name, x in batch.extras.items()}
    return replace(batch, **{name: x[rows] for name, x in every.items()}, extras=extras)


def without(batch: RolloutBatch, names: Collection[str]) -> RolloutBatch:
    """The batch without these optional fields and extras."""
    fields: dict[str, Any] = {name: None for name in names if name in OPTIONAL_FIELDS}
    return replace(batch, **fields, extras={name: x for name, x in batch.extras.items() if name not in names})


def fill_masked(batch: RolloutBatch, junk: float) -> RolloutBatch:
    """The batch with ``junk`` in every token field where the mask is False."""
    filled = {name: np.where(batch.response_mask, x, junk) for name, x in token_fields(batch).items()}
    return replace(batch, **filled)


def spread(batch: RolloutBatch, columns: NDArray[Any], width: int, junk: float) -> RolloutBatch:
    """Slot (b, t) moves to column ``columns[b, t]`` of a batch of ``width`` columns; new slots are masked ``junk``."""
    count = int(columns.shape[0])
    rows: Any = np.arange(count)[:, None]
    moved: dict[str, NDArray[Any]] = {}
    for name, x in token_fields(batch).items():
        moved[name] = np.full((count, width), junk, dtype=x.dtype)
        moved[name][rows, columns] = x
    mask = np.zeros((count, width), dtype=bool)
    mask[rows, columns] = batch.response_mask
    return replace(batch, response_mask=mask, **moved)


def pad(batch: RolloutBatch, before: int, after: int, junk: float) -> RolloutBatch:
    """More masked columns at both ends."""
    rows, width = map(int, batch.response_mask.shape)
    columns = np.tile(np.arange(width) + before, (rows, 1))
    return spread(batch, columns, before + width + after, junk)


def punch(batch: RolloutBatch, count: int, junk: float, rng: np.random.Generator) -> RolloutBatch:
    """``count`` masked slots inserted into each response, at places of their own."""
    rows, width = batch.response_mask.shape
    columns = np.stack([np.sort(rng.permutation(width + count)[:width]) for _ in range(rows)])
    return spread(batch, columns, width + count, junk)


def pack(batch: RolloutBatch, keep: NDArray[Any]) -> RolloutBatch:
    """The packed layout, of the slots where ``keep`` (B, T) is True; at least one must be."""
    ends = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    flat = {name: x[keep] for name, x in token_fields(batch).items()}
    return replace(batch, response_mask=batch.response_mask[keep], cu_seqlens=ends, **flat)
