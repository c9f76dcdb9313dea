"""The Parquet schema of rollouts, and its reader and writer. docs/rollouts.md describes the columns."""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import json
import os
from collections.abc import Mapping
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from advantage_zoo.rollouts.rollouts import SIGNALS, Rollouts

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
_METADATA = b"advantage_zoo"
_OPTIONAL = (*SIGNALS, "response_mask", "step_index", "step_correct")


class RolloutFileError(ValueError):
    """A file cannot be read as rollouts; the message names the file, the column and what to do."""


def schema() -> "pa.Schema":
    """Columns and types. The per-token signals, the mask and the steps may be absent."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("prompt", pa.string()),
            pa.field("text", pa.string()),
            pa.field("tokens", pa.list_(pa.string())),
            pa.field("token_ids", pa.list_(pa.int32())),
            pa.field("reward", pa.float64()),
            pa.field("group", pa.int64()),
            pa.field("logprobs", pa.list_(pa.float32())),
            pa.field("ref_logprobs", pa.list_(pa.float32())),
            pa.field("entropies", pa.list_(pa.float32())),
            pa.field("response_mask", pa.list_(pa.bool_())),
            pa.field("step_index", pa.list_(pa.int32())),
            pa.field("step_correct", pa.list_(pa.bool_())),
        ]
    )


def _plural(column: str) -> str:
    """Columns are called after one response, fields after all."""
    return {"prompt": "prompts", "text": "texts", "reward": "rewards", "group": "groups"}.get(column, column)


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
    given = {str(f.name): getattr(rollouts, _plural(str(f.name))) for f in schema()}
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
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())  # or a machine that goes down might keep the new name and not what is in it
        unfinished.replace(path)  # a reader sees the old file or the whole new one
    except (pa.ArrowException, OSError) as error:
        raise RolloutFileError(f"{path} can't be written ({_first_line(error)}).") from error
    finally:
        unfinished.unlink(missing_ok=True)


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
        raise RolloutFileError(
            f"{_plural(str(f.name))} can't be written as {f.type} ({_first_line(error)})."
        ) from error


def is_rollout_file(path: Path) -> bool:
    """Whether a Parquet file holds tokens; or can't be opened, and :func:`read_rollouts` says why."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return bool({"tokens", "token_ids"} & set(pq.read_schema(path).names))
    except (pa.ArrowException, OSError):
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
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise RolloutFileError(f"{path} is not a readable Parquet file ({_first_line(error)}).") from error
    return from_table(path, table)


def from_table(path: str | Path, table: "pa.Table") -> Rollouts:
    """Rollouts from a table of a file's rows, at least one; ``path`` is what errors call it. Raises as the reader."""
    metadata = read_metadata(path, table.schema)
    columns: dict[str, Any] = {}
    for f in schema():
        if table.column_names.count(f.name) == 1:
            columns[_plural(str(f.name))] = _column(path, table, f)
        elif f.name in table.column_names:
            raise RolloutFileError(f"{path} has more than one column {f.name!r}; keep one.")
        elif f.name not in _OPTIONAL:
            raise RolloutFileError(
                f"{path} has no column {f.name!r}; it has {', '.join(table.column_names) or 'none'}. "
                "docs/rollouts.md lists the columns of a rollout file."
            )
    if table.num_rows == 0:
        raise RolloutFileError(f"{path} holds no rows; a rollout file holds at least one response.")
    try:
        return Rollouts(**columns, metadata=metadata)
    except ValueError as error:
        raise RolloutFileError(f"{path}: {error}") from error


def _column(path: str | Path, table: "pa.Table", f: "pa.Field[Any]") -> list[Any]:
    import pyarrow as pa

    stored = table.schema.field(f.name).type
    if not _fits(stored, f.type):
        raise RolloutFileError(f"{path}: column {f.name!r} has type {stored}; expected {f.type}.")
    column = table.column(f.name)
    try:
        if pa.types.is_boolean(stored) and f.name == "reward":
            column = column.cast(pa.int8())
        column = column.cast(f.type).combine_chunks()
    except pa.ArrowException as error:
        raise RolloutFileError(
            f"{path}: column {f.name!r}, of type {stored}, can't be read as {f.type} ({_first_line(error)})."
        ) from error
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise RolloutFileError(f"{path}: column {f.name!r}, row {row}, is null; expected {f.type}.")
    if not pa.types.is_list(f.type):
        return cast("list[Any]", column.to_pylist())
    ends = column.offsets.to_numpy()
    values = column.values
    if values.null_count and f.name != "step_correct":
        _refuse_null_entry(path, f, column)
    if f.name in SIGNALS:
        flat = values.to_numpy(zero_copy_only=False)
        return [flat[start:end] for start, end in pairwise(ends)]
    return cast("list[Any]", column.to_pylist())


def _refuse_null_entry(path: str | Path, f: "pa.Field[Any]", column: "pa.Array[Any]") -> None:
    for row, entry in enumerate(column.to_pylist()):
        if None in entry:
            raise RolloutFileError(
                f"{path}: column {f.name!r}, row {row}, entry {entry.index(None)}, is null; expected one value a token."
            )


def _fits(stored: "pa.DataType", wanted: "pa.DataType") -> bool:
    """Whether a column is of the right kind: Arrow itself would cast text to numbers and numbers to text."""
    import pyarrow.types as kind

    if kind.is_list(wanted):
        is_list = kind.is_list(stored) or kind.is_large_list(stored) or kind.is_fixed_size_list(stored)
        # A list column without a single entry may have lost its type.
        return is_list and (kind.is_null(stored.value_type) or _fits(stored.value_type, wanted.value_type))
    if kind.is_string(wanted):
        text = stored.value_type if kind.is_dictionary(stored) else stored
        return kind.is_string(text) or kind.is_large_string(text) or str(text) == "string_view"
    if kind.is_boolean(wanted):
        return kind.is_boolean(stored)
    if kind.is_integer(wanted):
        return kind.is_integer(stored)
    is_number = kind.is_floating(stored) or kind.is_integer(stored) or kind.is_decimal(stored)
    return is_number or (kind.is_float64(wanted) and kind.is_boolean(stored))


def read_metadata(path: str | Path, schema: "pa.Schema") -> dict[str, Any]:
    """What a file says of its rollouts; ``path`` is what errors call it. Raises as the reader."""
    raw = (schema.metadata or {}).get(_METADATA)
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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
