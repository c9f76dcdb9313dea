"""Which responses are loaded together, so that memory is bounded and every group, or every batch, is whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**19
"""Token slots, padding included, that a chunk may have before it is closed: what a cache holds is computed faster."""


@dataclass(frozen=True, eq=False)
class Span:
    """Responses that one worker reads in the order of the files; it computes a chunk as soon as that is complete.

    Args:
        rows: (B,) rising.
        chunks: (B,) which chunk of the span each belongs to.
        tokens: In all.
    """

    rows: NDArray[np.int64]
    chunks: NDArray[np.int64]
    tokens: int


def slots_of(units: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(U,) token slots, padding included, of each unit: responses that must be loaded together.

    Args:
        units: (B,) which unit a response belongs to, from 0.
        lengths: (B,) tokens of each response.
    """
    widest = np.ones(int(units.max()) + 1, dtype=np.int64)
    np.maximum.at(widest, units, lengths)
    return np.bincount(units) * widest


def spans(units: NDArray[np.int64], lengths: NDArray[np.int64], most: int, rows_a_span: int) -> list[Span]:
    """Chunks of whole units, and spans of chunks.

    Args:
        units: (B,) as of :func:`slots_of`, numbered in order of appearance.
        lengths: (B,) tokens of each response.
        most: Token slots that a worker may hold.
        rows_a_span: Responses after which a span is closed.
    """
    chunk_of_unit = _packed(units, lengths, min(most, CHUNK))
    chunks = chunk_of_unit[units]  # (B,)
    order = np.argsort(chunks, kind="stable")
    ends = np.bincount(chunks).cumsum()
    begins = ends - np.bincount(chunks)
    span_of_chunk = _joined(
        order[begins], order[ends - 1], np.bincount(chunks, lengths).astype(np.float64), most, rows_a_span
    )
    edges = np.flatnonzero(np.diff(span_of_chunk)) + 1
    found: list[Span] = []
    for first, last in zip([0, *edges], [*edges, len(span_of_chunk)], strict=True):
        rows = np.sort(order[begins[first] : ends[last - 1]])
        found.append(Span(rows, chunks[rows] - first, int(lengths[rows].sum())))
    return found


def _packed(units: NDArray[np.int64], lengths: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """(U,) the chunk of each unit: one after the other, as many as fit; a unit that is larger has one to itself."""
    rows = np.bincount(units)
    widest = slots_of(units, lengths) // rows
    found = np.zeros(len(rows), dtype=np.int64)
    chunk, held, width = 0, 0, 0
    for unit, (count, wide) in enumerate(zip(rows.tolist(), widest.tolist(), strict=True)):
        if held and (held + count) * max(width, wide) > most:
            chunk, held, width = chunk + 1, 0, 0
        held, width = held + count, max(width, wide)
        found[unit] = chunk
    return found


def _joined(
    first: NDArray[np.int64], last: NDArray[np.int64], tokens: NDArray[np.float64], most: int, rows_a_span: int
) -> NDArray[np.int64]:
    """(C,) the span of each chunk: as many as are read in one go, those begun and not complete within ``most``."""
    found = np.zeros(len(first), dtype=np.int64)
    span, start = 0, int(first[0])
    begun: list[tuple[int, float]] = []
    for chunk, (a, b, size) in enumerate(zip(first.tolist(), last.tolist(), tokens.tolist(), strict=True)):
        begun = [(end, held) for end, held in begun if end >= a]
        if chunk and (a - start >= rows_a_span or sum(held for _, held in begun) + size > most):
            span, start, begun = span + 1, a, []
        begun.append((b, size))
        found[chunk] = span
    return found


def reads(found: Sequence[Span], ends: NDArray[np.int64]) -> float:
    """How often a row is read: spans read whole row groups, which end before the rows ``ends``."""
    sizes = np.diff(np.concatenate([[0], ends]))
    touched = [sizes[np.unique(np.searchsorted(ends, span.rows, side="right"))].sum() for span in found]
    return float(sum(touched) / ends[-1])
