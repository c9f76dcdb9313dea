"""The same rollouts laid out in other ways: NumPy batches in, NumPy batches out."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import OPTIONAL_FIELDS, TOKEN_FIELDS, RolloutBatch

ROW_FIELDS = ("rewards", "group_ids", "reward_components", "baseline_rewards")


def token_fields(batch: RolloutBatch) -> dict[str, NDArray[Any]]:
    """The token fields that the batch has, and no mask."""
    return {name: getattr(batch, name) for name in TOKEN_FIELDS if getattr(batch, name) is not None}


def token_extras(batch: RolloutBatch) -> dict[str, NDArray[Any]]:
    """The extras with one number a token slot."""
    return {name: x for name, x in batch.extras.items() if batch.is_token_shaped(name)}


def with_tokens(batch: RolloutBatch, changed: Callable[[NDArray[Any]], NDArray[Any]], **others: Any) -> RolloutBatch:
    """The batch with ``changed`` applied to every token field and token-shaped extra, and with other fields."""
    fields = {name: changed(x) for name, x in token_fields(batch).items()}
    extras = {**batch.extras, **{name: changed(x) for name, x in token_extras(batch).items()}}
    return replace(batch, **fields, **others, extras=extras)


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
    """The batch with ``junk`` in every token field and token-shaped extra where the mask is False."""
    return with_tokens(batch, lambda x: np.where(batch.response_mask, x, junk))


def spread(batch: RolloutBatch, columns: NDArray[Any], width: int, junk: float) -> RolloutBatch:
    """Slot (b, t) moves to column ``columns[b, t]`` of a batch of ``width`` columns; new slots are masked ``junk``."""
    count = int(columns.shape[0])
    rows: Any = np.arange(count)[:, None]

    def moved(x: NDArray[Any], filler: float = junk) -> NDArray[Any]:
        out = np.full((count, width), filler, dtype=x.dtype)
        out[rows, columns] = x
        return out

    return with_tokens(batch, moved, response_mask=moved(batch.response_mask, False))


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
    """The packed layout, of the slots where ``keep`` (B, T) is True; at least one must be.

    Where as many slots are kept as there are responses, extras could be of either, so that one masked slot is added.
    """
    ends = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    more = 1 if batch.extras and int(ends[-1]) == len(batch.rewards) else 0
    ends[-1] += more

    def kept(x: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([x[keep], np.zeros(more, dtype=x.dtype)])

    return with_tokens(batch, kept, response_mask=kept(batch.response_mask), cu_seqlens=ends)
