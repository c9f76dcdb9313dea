"""Reader and writer of rollout files, Parquet by the schema of columns.py."""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from advantage_zoo.rollouts.columns import RolloutFileError, column_as, first_line, plural, present, schema
from advantage_zoo.rollouts.rollouts import SIGNALS, Rollouts

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
_METADATA = b"advantage_zoo"


SHIPPED = {
    "arithmetic": "",
    "defects": "grpo, grpo@verl, grpo@trl, grpo@openrlhf, grpo@openrlhf(clip_range=[-1000, 1000])",
}
"""What is in the package (integrations/rollouts/ makes it), and which estimators it is there to compare, if not all."""


def shipped_rollouts(name: str = "arithmetic") -> Path:
    """Rollouts in the package.

    Args:
        name: ``"arithmetic"``, a small model's on multi-step arithmetic; ``"defects"``, a few groups that formulas
            stumble over: equal rewards, and a response that is alone.

    Raises:
        RolloutFileError: There is none of this name.
    """
    if name not in SHIPPED:
        raise RolloutFileError(f"The package has no rollouts called {name!r}; there are {', '.join(SHIPPED)}.")
    return Path(str(resources.files("advantage_zoo.rollouts") / f"{name}.parquet"))


def write_rollouts(rollouts: Rollouts, path: str | Path) -> None:
    """Write rollouts to a Parquet file, whole or not at all; columns that are ``None`` are left out.

    Raises:
        RolloutFileError: The folder is missing or can't be written to, ``path`` is a folder, the metadata is not made
            of JSON values, or a column holds a value that its type can't.
    """
    path = Path(path)
    if path.is_dir():
        raise RolloutFileError(f"{path} is a folder; name a file in it, for instance {path / 'rollouts.parquet'}.")
    if not path.parent.is_dir():
        raise RolloutFileError(f"{path} can't be written: there is no folder {path.parent}; make it first.")
    given = {str(f.name): getattr(rollouts, plural(str(f.name))) for f in schema()}
    save_table(make_table({name: x for name, x in given.items() if x is not None}, rollouts.metadata), path)


def save_table(table: "pa.Table", path: Path) -> None:
    """Write a table to a file, whole or not at all.

    Raises:
        RolloutFileError: It can't be written there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            # Checksums, or a bit that flips on the disk is read as another number.
            pq.write_table(  # pyright: ignore
                table,
                file,
                compression="zstd",
                use_dictionary=_repeating(table.schema),  # pyright: ignore
                write_page_checksum=True,
            )
            file.flush()
            os.fsync(file.fileno())  # or a machine that goes down might keep the new name and not what is in it
        unfinished.replace(path)  # a reader sees the old file or the whole new one
    except (pa.ArrowException, OSError) as error:
        raise RolloutFileError(f"{path} can't be written ({first_line(error)}).") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _repeating(stored: "pa.Schema") -> list[str]:
    """The columns that are worth a dictionary, as Parquet names them. One of a model's numbers is larger than they."""
    import pyarrow as pa

    lists = {f.name: pa.types.is_list(f.type) for f in stored}
    values = {f.name: f.type.value_type if lists[f.name] else f.type for f in stored}
    return [f"{k}.list.element" if lists[k] else k for k, x in values.items() if not pa.types.is_floating(x)]


def make_table(columns: Mapping[str, Any], metadata: Mapping[str, Any]) -> "pa.Table":
    """Columns by the schema's names, in its order and types; others follow as they are.

    Raises:
        RolloutFileError: The metadata is not made of JSON values, or a column holds a value that its type can't.
    """
    import pyarrow as pa

    known = [f for f in schema() if f.name in columns]
    arrays = [_array(f, columns[str(f.name)]) for f in known]
    others = {name: pa.array(x) for name, x in columns.items() if name not in schema().names}
    fields = [*known, *(pa.field(name, x.type) for name, x in others.items())]
    return pa.table([*arrays, *others.values()], schema=pa.schema(fields, metadata=schema_metadata(metadata)))


def schema_metadata(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The key-value metadata of a rollout file.

    Raises:
        RolloutFileError: The metadata is not made of JSON values.
    """
    try:
        return {_METADATA: json.dumps({**metadata, "format_version": FORMAT_VERSION}).encode()}
    except (TypeError, ValueError) as error:
        raise RolloutFileError(f"metadata can't be written as JSON ({error}); use plain values.") from error


def _array(f: "pa.Field[Any]", column: Any) -> "pa.Array[Any]":
    import pyarrow as pa

    if f.name == "reward":
        column = [float(reward) for reward in column]  # Arrow takes no bool for a number
    try:
        return column.cast(f.type) if isinstance(column, pa.Array) else pa.array(list(column), type=f.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise RolloutFileError(f"{plural(str(f.name))} can't be written as {f.type} ({first_line(error)}).") from error


def is_rollout_file(path: Path) -> bool:
    """Whether a Parquet file holds tokens; or can't be opened, and :func:`read_rollouts` says why."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return bool({"tokens", "token_ids"} & set(pq.read_schema(path).names))
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return True


def read_rollouts(path: str | Path) -> Rollouts:
    """Read rollouts from a Parquet file.

    Columns are cast where nothing is lost: integers, booleans and any float to rewards, wide or narrow integers and
    floats, large and fixed-size lists. Columns that the schema does not know are passed over.

    Raises:
        RolloutFileError: The file is missing, is no Parquet file, lacks a column, is of a newer format, or holds a
            value that does not fit. One sentence that names the file, the column, the row and the value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise RolloutFileError(
            f"{path}: there is no such file." if not path.exists() else f"{path} is a folder; name a Parquet file."
        )
    try:
        # ParquetFile, not read_table: that would take folders named key=value above the file for columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RolloutFileError(f"{path} is not a readable Parquet file ({first_line(error)}).") from error
    return from_table(path, table)


def from_table(path: str | Path, table: "pa.Table") -> Rollouts:
    """Rollouts from a table of a file's rows, at least one; ``path`` is what errors call it. Raises as the reader."""
    metadata = read_metadata(path, table.schema)
    columns = columns_of(path, table)
    if table.num_rows == 0:
        raise RolloutFileError(f"{path} holds no rows; a rollout file holds at least one response.")
    return made_of([columns], metadata, str(path))


def columns_of(path: str | Path, table: "pa.Table") -> dict[str, Any]:
    """The columns of a table that stands in a file, by the names of the fields of :class:`Rollouts`.

    Raises:
        RolloutFileError: One is missing, or holds a value that does not fit.
    """
    return {plural(str(f.name)): _column(path, table, f) for f in present(path, table.column_names)}


def made_of(parts: Sequence[dict[str, list[Any]]], metadata: dict[str, Any], where: str) -> Rollouts:
    """Rollouts of columns, one part after the other; a group that is met at several steps is as many groups.

    Raises:
        RolloutFileError: They don't fit together.
    """
    columns: dict[str, Any] = {name: [entry for part in parts for entry in part[name]] for name in parts[0]}
    if "steps" in columns:
        columns["groups"] = numbered(columns["groups"], columns["steps"])
    try:
        return Rollouts(**columns, metadata=metadata)
    except ValueError as error:
        raise RolloutFileError(f"{where}: {error}") from error


def numbered(groups: Sequence[int], steps: Sequence[int]) -> Sequence[int]:
    """``groups`` as they are if each is met at one step alone, else numbered anew in order of appearance."""
    pairs = list(zip(steps, groups, strict=True))
    numbers = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    return groups if len(numbers) == len(set(groups)) else [numbers[pair] for pair in pairs]


def _column(path: str | Path, table: "pa.Table", f: "pa.Field[Any]") -> list[Any]:
    column = column_as(path, table.column(f.name).combine_chunks(), f)
    if f.name in SIGNALS:
        ends = column.offsets.to_numpy()
        flat = column.values.to_numpy(zero_copy_only=False)
        return [flat[start:end] for start, end in pairwise(ends)]
    return cast("list[Any]", column.to_pylist())


def read_metadata(path: str | Path, stored: "pa.Schema") -> dict[str, Any]:
    """What a file says of its rollouts; ``path`` is what errors call it.

    Raises:
        RolloutFileError: It is no JSON object, or of a format that this release does not read.
    """
    raw = (stored.metadata or {}).get(_METADATA)
    if raw is None:
        return {}
    try:
        header = json.loads(raw)
    except ValueError as error:  # also where the bytes are not UTF-8
        raise RolloutFileError(f"{path}: the metadata {_METADATA.decode()!r} is not JSON ({error}).") from error
    if not isinstance(header, dict):
        raise RolloutFileError(f"{path}: the metadata {_METADATA.decode()!r} is {header!r}; expected a JSON object.")
    metadata = cast("dict[str, Any]", header)
    version = metadata.pop("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise RolloutFileError(
            f"{path} has format version {version!r}; this release of advantage-zoo reads version {FORMAT_VERSION}, "
            "so upgrade it or write the file anew."
        )
    return metadata
