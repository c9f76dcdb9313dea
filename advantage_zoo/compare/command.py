"""What the command ``compare`` does: from files and options to a comparison."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.compare.choosing import ChoiceError, by_reason, choose, configure, listed, to_score
from advantage_zoo.compare.comparison import Comparison, compare, missing_inputs
from advantage_zoo.compare.engines import Map, workers
from advantage_zoo.compare.sizes import text_size
from advantage_zoo.compare.stream import Bounds, Files, bytes_a_slot, compare_files, in_order, survey, whole_batches_fit
from advantage_zoo.compare.survey import Survey
from advantage_zoo.compare.work import Keyed, Request
from advantage_zoo.progress import bar
from advantage_zoo.rollouts import SHIPPED, RolloutFileError, Rollouts, column_map, read, shipped_rollouts
from advantage_zoo.rollouts.loading import load
from advantage_zoo.rollouts.parquet import is_rollout_file
from advantage_zoo.rollouts.rollouts import SIGNALS
from advantage_zoo.rollouts.rows import files_of
from advantage_zoo.rollouts.shards import common_columns, open_shards
from advantage_zoo.spelling import split
from advantage_zoo.validation import validate

TEXT = 250
"""Bytes that a token's text and ids take in memory."""

TEXT_A_BYTE = 40
"""Bytes in memory of a byte of JSON lines: a word of five letters is a string of 54, and has ids and advantages."""

NO_RAY = (
    "--engine ray is not used, this process does the work: these are no rollout files, and only such are read a part "
    "at a time (docs/scale.md)."
)
"""What is said of other tables."""

SHOWN = 1_000_000
"""Tokens, of groups evenly spaced, that a report of more than memory holds has to choose from."""

GLANCED = 50_000
"""Likewise for the picture in the terminal."""


@dataclass(frozen=True)
class Options:
    """The command's options, as the user gave them; ``report`` is whether there is to be one."""

    estimators: Sequence[str] = ()
    settings: Sequence[str] = ()
    step: int | None = None
    threshold: float = 0.5
    columns: Sequence[str] = ()
    show: int | None = None
    report: bool = False
    memory: float = 4.0
    jobs: int = 1
    engine: str = "processes"
    ray_address: str | None = None


def found(given: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """The files and folders that are meant, and the estimators that these are there to compare, if not all.

    Args:
        given: Paths, patterns such as ``run/*.parquet``, or one name of rollouts in the package; nothing is the first
            of these.

    Raises:
        RolloutFileError: No file fits a pattern.
    """
    if not given:
        return [shipped_rollouts()], ()
    if len(given) == 1 and str(given[0]) in SHIPPED and not given[0].exists():
        return [shipped_rollouts(str(given[0]))], tuple(filter(None, [SHIPPED[str(given[0])]]))
    paths: list[Path] = []
    for path in given:
        if path.exists() or not glob.has_magic(str(path)):
            paths.append(path)
            continue
        fitting = sorted(glob.glob(str(path)))
        if not fitting:
            raise RolloutFileError(f"{path}: no file fits this pattern.")
        paths += map(Path, fitting)
    return paths, ()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(paths: Sequence[Path], options: Options, note: Callable[[str], None]) -> Comparison:
    """Compare what the files hold.

    Args:
        paths: Files, or folders of such.
        options: What to do.
        note: Told of what was left out, or stands for something else, a sentence each.

    Raises:
        ValueError: There is nothing to compare, or something is wrong with it; one sentence.
        LookupError: An estimator is not known.
    """
    columns = column_map(options.columns)
    files = [file for path in paths for file in files_of(path)]
    twice = [file for file, count in Counter(file.resolve() for file in files).items() if count > 1]
    if twice:
        raise ChoiceError(f"{twice[0]} is named twice, and its responses would count twice; name it once.")
    if columns or not all(file.suffix == ".parquet" and is_rollout_file(file) for file in files):
        if len(paths) > 1:
            raise ChoiceError(
                f"{paths[0]} and {paths[1]} are not both rollout files (docs/rollouts.md); of other tables name one "
                "file, or one folder."
            )
        _refuse_too_much(paths[0], files, options.memory)
        rollouts, notes = read(paths[0], columns)
        if options.engine == "ray":
            notes = [*notes, NO_RAY]
        return _in_memory(rollouts, str(paths[0]), options, notes, note)
    shards, notes = open_shards(files)
    have, more = common_columns(shards)
    source = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and so on"
    chosen, left_out = _chosen(have & set(SIGNALS), source, options, note)
    size = sum(sum(shard.tokens) for shard in shards)
    bounds = Bounds(options.memory * 1e9, options.jobs)
    if options.engine == "processes" and size * (TEXT + bytes_a_slot(len(chosen))) <= bounds.memory:
        rollouts = load(shards)
        return _in_memory(rollouts, source, options, [*notes, *more], note, (chosen, left_out))
    for sentence in (*notes, *more):
        note(sentence)
    with workers(options.engine, options.jobs, options.ray_address) as mapped:
        return _streamed(Files(shards, have), (chosen, left_out), options, bounds, mapped, note)


def _refuse_too_much(path: Path, files: Sequence[Path], memory: float) -> None:
    enough = memory * 1e9 / TEXT_A_BYTE
    size = sum(text_size(file, enough) for file in files) / 1e9
    if size * TEXT_A_BYTE > memory:
        raise ChoiceError(
            f"{path} has {size:.2g} GB of text and would take about {size * TEXT_A_BYTE:.2g}; give --memory that much, "
            "or make rollout files of it, which are read a part at a time (docs/scale.md)."
        )


Choice = tuple[list[Keyed], dict[str, str]]


def _chosen(have: frozenset[str], source: str, options: Options, note: Callable[[str], None]) -> Choice:
    """The instances that --estimators and --set ask for; and what was left out, with the reasons."""
    asked = [name for words in options.estimators for name in split(words)]
    if options.estimators and not asked:
        raise ChoiceError("--estimators names none; advantage-zoo list shows what there is.")
    names, left_out = choose(have, source, asked)
    _note_left_out(left_out, note)
    score = to_score(missing_inputs(have, SIGNALS), source) if left_out else ""
    if score:
        note(f"{score} computes what these rollouts do not have.")
    return configure(names, options.settings), left_out


def _note_left_out(left_out: dict[str, str], note: Callable[[str], None]) -> None:
    if left_out:
        which = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason(left_out).items())
        note(f"left out: {which}.")


def _in_memory(
    rollouts: Rollouts,
    source: str,
    options: Options,
    notes: Sequence[str],
    note: Callable[[str], None],
    choice: Choice | None = None,
) -> Comparison:
    for sentence in notes:
        note(sentence)
    if options.show is not None:
        _rows_of(options.show, np.asarray(rollouts.groups), source)
    chosen, left_out = choice or _chosen(rollouts.fields, source, options, note)
    validate(rollouts.batch())
    batches = len(set(rollouts.steps or ())) or 1
    with bar("comparing", len(chosen) * batches, show=len(chosen) * len(rollouts) > 10_000) as advance:
        return compare(
            rollouts,
            chosen,
            threshold=options.threshold,
            step=options.step,
            left_out=left_out,
            advance=advance,
        )


def _rows_of(group: int, groups: NDArray[np.int64], source: str) -> list[int]:
    rows = np.flatnonzero(groups == group).tolist()
    if not rows:
        some = ", ".join(map(str, list(dict.fromkeys(groups.tolist()))[:5]))
        raise ChoiceError(
            f"--show {group}: {source} has no such group; it has {len(np.unique(groups))}, such as {some}."
        )
    return rows


def _streamed(
    files: Files, choice: Choice, options: Options, bounds: Bounds, mapped: Map, note: Callable[[str], None]
) -> Comparison:
    chosen, left_out = choice
    size = sum(sum(shard.tokens) for shard in files.shards)
    with bar("reading", size) as advance:
        found = survey(files, mapped, advance)
    for sentence in found.waste():
        note(sentence)
    if not whole_batches_fit(found, bounds, len(chosen)):
        chosen, without = _by_group(chosen, found, options, bounds)
        left_out = left_out | without
        _note_left_out(without, note)
    keep: set[int] = set()
    if options.show is not None:
        keep.update(_rows_of(options.show, found.groups, str(files.shards[0].path)))
    if options.show is None or options.report:
        keep.update(sample(found, SHOWN if options.report else GLANCED))
    request = Request(chosen, options.threshold, options.step, frozenset(keep))
    with bar("comparing", int(found.lengths.sum())) as advance:
        done, notes = compare_files(files, found, request, mapped, bounds, left_out=left_out, advance=advance)
    for sentence in notes:
        note(sentence)
    return done


def _by_group(chosen: list[Keyed], found: Survey, options: Options, bounds: Bounds) -> Choice:
    """The estimators that see a group at a time; and the others, which would need the whole batch."""
    rest = [(key, estimator) for key, estimator in chosen if not estimator.batch_statistics]
    others = [key for key, estimator in chosen if estimator.batch_statistics]
    largest = np.bincount(in_order(found.batches), found.lengths).max()
    asked = {name for words in options.estimators for name in split(words)}
    reason = (
        f"takes statistics over a batch, which has {largest:,.0f} tokens, more than --memory {options.memory:g} holds"
    )
    if others and (asked or not rest):
        raise ChoiceError(
            f"{listed(others)}: {reason}; give more, or the files a column step (docs/scale.md), or leave it out."
        )
    return rest, dict.fromkeys(others, reason)


def sample(found: Survey, tokens: int) -> list[int]:
    """Rows of groups that are evenly spaced, about so many tokens; at least one group."""
    groups = in_order(found.groups)
    count = int(groups.max()) + 1
    keep = int(np.clip(tokens * count / max(found.lengths.sum(), 1), 1, count))
    places = np.unique(np.linspace(0, count - 1, keep).round().astype(np.int64))
    return np.flatnonzero(np.isin(groups, places)).tolist()
