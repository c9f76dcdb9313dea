"""Comparison of rollout files that memory does not hold: exact, in three passes, with several workers.

The first pass reads rewards, groups and lengths, and with the second finds the quantiles. Then it is known which
responses belong together, and the third loads whole groups, or whole batches, in chunks.
"""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.compare.comparison import Comparison, assembled
from advantage_zoo.compare.engines import Map
from advantage_zoo.compare.landmarks import (
    Landmarks,
    at_ranks,
    halves_of,
    landmarks,
    lower_counts,
    upper_counts,
    wanted,
)
from advantage_zoo.compare.plan import Span, reads, slots_of, spans
from advantage_zoo.compare.survey import Survey
from advantage_zoo.compare.work import ComparisonError, Partial, Request, work
from advantage_zoo.rollouts.loading import load
from advantage_zoo.rollouts.ragged import A_TOKEN, Ragged
from advantage_zoo.rollouts.shards import Shard, computed_from, ragged, read

READ = 2**18
"""Tokens that are read at a time."""

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Files:
    """The files, and the columns that all have."""

    shards: Sequence[Shard]
    columns: frozenset[str]

    @property
    def starts(self) -> list[int]:
        """Row of all at which each file begins."""
        return [0, *np.cumsum([shard.rows for shard in self.shards]).tolist()]


# --- first and second pass


@dataclass(frozen=True)
class Stretch:
    """Row groups of one file that are scanned together."""

    shard: Shard
    groups: range

    @property
    def tokens(self) -> int:
        """About how many there are."""
        return sum(self.shard.tokens[self.groups.start : self.groups.stop])


def stretches(files: Files, tokens: int) -> list[Stretch]:
    """All row groups, in stretches of about so many tokens."""
    found: list[Stretch] = []
    for shard in files.shards:
        begin, held = 0, 0
        for i, size in enumerate(shard.tokens):
            held += size
            if held >= tokens or i == len(shard.tokens) - 1:
                if sum(shard.row_groups[begin : i + 1]):  # a row group may be empty
                    found.append(Stretch(shard, range(begin, i + 1)))
                begin, held = i + 1, 0
    return found


def scan(stretch: Stretch, names: Sequence[str]) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """(rewards, groups, batches, lengths, valid tokens) of each response, and the upper counts of the entropies."""
    columns: list[list[NDArray[Any]]] = [[] for _ in range(5)]
    counts = np.zeros(2**16, dtype=np.int64)
    for first, batch in read(stretch.shard, names, stretch.groups, READ):
        part = ragged(stretch.shard, batch, np.arange(first, first + batch.num_rows))
        found = (part.rewards, part.groups, part.batches, part.lengths, part.valid)
        for column, x in zip(columns, found, strict=True):
            column.append(x)
        if "entropies" in part.tokens:
            counts += upper_counts(part.tokens["entropies"][part.mask])
    return [np.concatenate(column) for column in columns], counts


def scan_lower(stretch: Stretch, names: Sequence[str], halves: Sequence[int]) -> NDArray[np.int64]:
    """The lower counts of the entropies."""
    counts = np.zeros((len(halves), 2**16), dtype=np.int64)
    for first, batch in read(stretch.shard, names, stretch.groups, READ):
        part = ragged(stretch.shard, batch, np.arange(first, first + batch.num_rows))
        counts += lower_counts(part.tokens["entropies"][part.mask], halves)
    return counts


def survey(files: Files, mapped: Map, advance: Advance) -> Survey:
    """The first two passes."""
    have = files.columns
    tokens = [name for name in ("entropies", "response_mask") if name in have]
    other = next((name for name in A_TOKEN if name in have), "token_ids")
    names = ["reward", "group", *(tokens or [other])]
    tasks = stretches(files, 16 * READ)
    columns: list[list[NDArray[Any]]] = [[] for _ in range(5)]
    upper = np.zeros(2**16, dtype=np.int64)
    for task, (found, counts) in zip(tasks, mapped(partial(scan, names=names), tasks), strict=True):
        for column, x in zip(columns, found, strict=True):
            column.append(x)
        upper += counts
        advance(task.tokens)
    rewards, groups, steps, lengths, valid = map(np.concatenate, columns)
    ranks = None
    if "entropies" in have and upper.any():
        ranked = wanted(int(upper.sum()))
        lower = reduce(add, mapped(partial(scan_lower, names=names, halves=halves_of(ranked, upper)), tasks))
        ranks = at_ranks(ranked, upper, lower)
    return Survey(rewards, unique_groups(groups, steps), steps, lengths, valid, landmarks(valid, ranks))


def unique_groups(groups: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """``groups`` as they are if each is met at one step alone, else numbered anew in order of appearance."""
    codes = in_order(np.stack([steps, groups]))
    return groups if codes.max() + 1 == len(np.unique(groups)) else codes


def in_order(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K, B) or (B,) to (B,): equal keys get equal numbers, from 0 in order of appearance."""
    _, first, codes = np.unique(keys, axis=-1, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[codes]


# --- third pass


@dataclass(frozen=True, eq=False)
class Job:
    """What a worker has to know, whatever its span.

    Args:
        files: The files.
        lines: Where the metrics draw their lines.
        request: What to do.
        whole_batches: Whether a chunk has whole batches, or else groups, of which nobody asks what batch they are of.
    """

    files: Files
    lines: Landmarks
    request: Request
    whole_batches: bool

    def __call__(self, span: Span) -> Partial:
        """Read the span, and work on each chunk as soon as it is complete."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            done = self._done(span)
        return replace(done, notes=tuple(dict.fromkeys(" ".join(str(w.message).split()) for w in caught)))

    def _done(self, span: Span) -> Partial:
        sizes = np.bincount(span.chunks)
        waiting: dict[int, list[tuple[NDArray[np.int64], Ragged]]] = {}
        done: Partial | None = None
        for rows, part in self._read(span.rows):
            chunks = span.chunks[np.searchsorted(span.rows, rows)]
            for chunk in np.unique(chunks).tolist():
                mine = np.flatnonzero(chunks == chunk)
                waiting.setdefault(chunk, []).append((rows[mine], part.take(mine)))
                if sum(len(r) for r, _ in waiting[chunk]) == sizes[chunk]:
                    one = self._work(*zip(*waiting.pop(chunk), strict=True))
                    done = one if done is None else done + one
        assert done is not None, "a span holds at least one chunk"
        return done

    def _read(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Ragged]]:
        """Those of the files' rows that are among ``rows``, in this order."""
        names = computed_from(self.files.columns)
        for start, shard in zip(self.files.starts, self.files.shards, strict=False):
            ends = start + np.cumsum(shard.row_groups)
            inside = rows[(rows >= start) & (rows < start + shard.rows)]
            for group in np.unique(np.searchsorted(ends, inside, side="right")).tolist():
                for first, batch in read(shard, names, range(group, group + 1), READ):
                    low, high = np.searchsorted(inside, [start + first, start + first + batch.num_rows])
                    if low < high:
                        local = inside[low:high] - start
                        some = batch if len(local) == batch.num_rows else batch.take(local - first)
                        yield inside[low:high], ragged(shard, some, local)

    def _work(self, rows: Sequence[NDArray[np.int64]], parts: Sequence[Ragged]) -> Partial:
        whole = Ragged.joined(parts)
        groups = in_order(np.stack([whole.batches, whole.groups]))
        batches = whole.batches if self.whole_batches else np.zeros_like(whole.batches)
        return work(replace(whole, groups=groups, batches=batches), np.concatenate(rows), self.lines, self.request)


# --- all of it


@dataclass(frozen=True)
class Bounds:
    """How much a worker may hold, and how much it reads at a time.

    Args:
        memory: Bytes of all workers together, beyond what a Python process takes anyway.
        jobs: Workers.
    """

    memory: float
    jobs: int

    def slots(self, estimators: int, tasks: int) -> int:
        """Token slots that a worker may hold, where there are so many tasks."""
        return int(self.memory / min(self.jobs, tasks) / bytes_a_slot(estimators))


def bytes_a_slot(estimators: int) -> int:
    """What a token slot of a chunk takes at most: its columns, an estimator's own arrays, the advantages of each.

    Measured: `gtpo` peaks at 203 bytes a slot, `ep_grpo` at 149; advantages are held as float64, scaled, and as signs.
    """
    return 300 + 28 * estimators


def whole_batches_fit(found: Survey, bounds: Bounds, estimators: int) -> bool:
    """Whether the largest batch is within the bounds."""
    batches = slots_of(in_order(found.batches), found.lengths)
    return int(batches.max()) <= bounds.slots(estimators, len(batches))


def compare_files(
    files: Files,
    found: Survey,
    request: Request,
    mapped: Map,
    bounds: Bounds,
    *,
    left_out: Mapping[str, str],
    advance: Advance = lambda _: None,
) -> tuple[Comparison, tuple[str, ...]]:
    """The third pass, and the advantages of the rows that ``request`` keeps.

    Args:
        files: The files.
        found: What :func:`survey` found in them.
        request: Estimators and settings; it names the rows that are shown.
        mapped: Who does the work.
        bounds: On memory.
        left_out: Estimators that are not run, with the reason.
        advance: Called with the tokens that are done.

    Returns:
        The comparison; and what is to be said of it, a sentence each.

    Raises:
        ComparisonError: A group is larger than memory, or an estimator failed.
    """
    number = len(request.estimators)
    whole = whole_batches_fit(found, bounds, number)
    units = in_order(found.batches if whole else found.groups)
    slots = slots_of(units, found.lengths)
    most = bounds.slots(number, len(slots))
    if slots.max() > most:
        group = found.groups[int((units == slots.argmax()).argmax())]
        needed = slots.max() * bytes_a_slot(number) * bounds.jobs / 1e9
        raise ComparisonError(
            f"Group {group} has {slots.max():,} token slots, more than fit; give --memory at least {needed:.2g}, or "
            "--jobs less."
        )
    ends = np.cumsum([rows for shard in files.shards for rows in shard.row_groups])
    largest = max(rows for shard in files.shards for rows in shard.row_groups)
    tasks = spans(units, found.lengths, most, max(largest, len(found) // (16 * bounds.jobs)))
    done: Partial | None = None
    for task, one in zip(tasks, mapped(Job(files, found.lines, request, whole), tasks), strict=True):
        done = one if done is None else done + one
        advance(task.tokens)
    assert done is not None, "there is at least one response"
    if not whole:  # an estimator's own numbers are of a batch
        done = replace(done, diagnostics=[{} for _ in request.estimators])
    rows = sorted(request.keep or ())
    rollouts = load(files.shards, np.array(rows), found.groups)
    comparison = assembled(done, request, found, rollouts, Ragged.of(rollouts), left_out, rows)
    times = reads(tasks, ends)
    far = f"The responses of a group lie far apart, so that rows were read {times:.0f} times; sorted by group, once."
    return comparison, (*done.notes, far) if times > 3 else done.notes
