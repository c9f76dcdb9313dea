"""Rows of JSON lines and Parquet files as dictionaries, with a count of those that can't be read."""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from advantage_zoo.rollouts.parquet import RolloutFileError, read_metadata

BATCH_ROWS = 256
"""Rows of a Parquet file that are held at a time; a row group may be the whole file."""

SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass
class Rows:
    """Rows of a dump, each with the place it comes from; and what could not be read.

    Args:
        rows: (place, row) pairs, a place being for instance ``"7.jsonl, line 3,"``.
        broken: What is wrong with the first rows that can't be read, a sentence's end each.
        lost: How many rows these are.
        notes: What else was left out.
    """

    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    broken: list[str] = field(default_factory=list[str])
    lost: int = 0
    notes: list[str] = field(default_factory=list[str])

    def lose(self, reason: str, count: int = 1) -> None:
        """Count rows as lost."""
        self.broken.append(reason)
        self.lost += count


def files_of(path: Path) -> list[Path]:
    """The file, or the folder's files that may hold rows, 2.jsonl before 10.jsonl.

    Raises:
        RolloutFileError: There is none.
    """
    if not path.exists():
        raise RolloutFileError(f"{path}: there is no such file.")
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RolloutFileError(f"{path} is neither a file nor a folder, and is read more than once; save it first.")
    found = [p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file()]
    if not found:
        raise RolloutFileError(
            f"{path} is a folder without {', '.join(SUFFIXES)} files; name a file or another folder."
        )
    return sorted(found, key=lambda p: [(int(part), "") if part.isdigit() else (-1, part) for part in _parts(p.name)])


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", name) if part]


def each_row(path: Path, found: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file or of a folder's files, one after the other; ``found`` counts those that can't be read.

    Of JSON lines one is held at a time, of Parquet a few hundred, of TRL's log two files. Of several files, those that
    are empty or can't be read are left out, and said.

    Raises:
        RolloutFileError: A file is of no kind that is known, or nothing in it can be read, or in half of the files.
    """
    previous: list[dict[str, Any]] = []
    files, unreadable = files_of(path), 0
    for file in files:
        if file.suffix not in SUFFIXES:
            raise RolloutFileError(f"{file} is called neither {' nor '.join(SUFFIXES)}; rename it to what it is.")
        rows, lost = (_parquet_rows if file.suffix == ".parquet" else _line_rows)(file, found), found.lost
        try:
            first = next(rows, None)
        except RolloutFileError as error:
            unreadable += 1
            if unreadable >= len(files) / 2:
                raise
            found.notes.append(f"{str(error).removesuffix('.')}; it is left out.")
            continue
        if first is None and found.lost == lost and len(files) > 1:
            found.notes.append(f"{file} holds no rows; it is left out.")
        here = [] if first is None else [first]
        content: list[dict[str, Any]] = []
        # TRL, where it logs more often than it samples, writes the same responses again, under another step.
        if first is not None and "completion" in first[1]:
            here += rows
            content = [{k: v for k, v in row.items() if k != "step"} for _, row in here]
            if repr(content) == repr(previous):
                found.notes.append(f"{file.name} holds the same responses as the file before it and is left out.")
                continue
        previous = content
        yield from here
        yield from rows


def read_rows(path: Path) -> Rows:
    """All rows of a file or of a folder's files.

    Raises:
        RolloutFileError: A file is of no kind that is known, or nothing in it can be read.
    """
    found = Rows()
    found.rows = list(each_row(path, found))
    return found


def _line_rows(file: Path, found: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield from _read_line(f"{file.name}, line {number},", line, found)
    except OSError as error:
        raise RolloutFileError(f"{file} can't be read ({error.strerror}).") from error


def _read_line(place: str, line: bytes, found: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        row = json.loads(line.rstrip())
    except (ValueError, RecursionError) as error:  # also where the bytes are not UTF-8
        cut = "" if line.endswith(b"\n") else "; it has no end, as if writing had been cut short"
        found.lose(f"{place} is not JSON ({str(error).splitlines()[0]}{cut})")
        return
    if isinstance(row, dict):
        yield place, cast("dict[str, Any]", row)
    else:
        found.lose(f"{place} is a {type(row).__name__}; expected an object")


def _parquet_rows(file: Path, found: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True) as parquet:
            whole = read_metadata(file, parquet.schema_arrow).get("step")
            step = {} if whole is None else {"step": whole}  # the column goes before
            for i in range(parquet.num_row_groups):
                end = number + parquet.metadata.row_group(i).num_rows
                try:
                    for batch in parquet.iter_batches(BATCH_ROWS, [i]):
                        for row in batch.to_pylist():
                            yield f"{file.name}, row {number},", step | row
                            number += 1
                except (pa.ArrowException, OSError, ValueError) as error:
                    found.lose(f"{file.name}, rows {number} to {end - 1}, can't be read ({error})", end - number)
                number = end
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise RolloutFileError(f"{file} is not a readable Parquet file ({first}).") from error
