"""The Parquet schema of rollouts, and its reader and writer. docs/rollouts.md describes the columns."""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import json
import os
from importlib import resources
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


def shipped_rollouts() -> Path:
    """The rollouts in the package: a small model's on multi-step arithmetic (integrations/rollouts/ makes them)."""
    return Path(str(resources.files("advantage_zoo.rollouts") / "arithmetic.parquet"))


def write_rollouts(rollouts: Rollouts, path: str | Path) -> None:
    """Write rollouts to a Parquet file; columns that are ``None`` are left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    present = [(f, getattr(rollouts, _plural(str(f.name)))) for f in schema()]
    present = [(f, column) for f, column in present if column is not None]
    header = {"format_version": FORMAT_VERSION, **rollouts.metadata}
    fields = pa.schema([f for f, _ in present], metadata={_METADATA: json.dumps(header).encode()})
    table = pa.table([pa.array(list(column), type=f.type) for f, column in present], schema=fields)
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.replace(path)  # a reader sees the old file or the whole new one
    finally:
        unfinished.unlink(missing_ok=True)


def read_rollouts(path: str | Path) -> Rollouts:
    """Read rollouts from a Parquet file.

    Raises:
        RolloutFileError: The file is missing, is no Parquet file, lacks a column, or holds a value that does not fit.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise RolloutFileError(f"{path}: there is no such file." if not path.exists() else f"{path} is not a file.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise RolloutFileError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}).") from error
    columns: dict[str, Any] = {}
    for f in schema():
        if f.name in table.column_names:
            columns[_plural(str(f.name))] = _column(path, table, f)
        elif f.name not in _OPTIONAL:
            raise RolloutFileError(
                f"{path} has no column {f.name!r}; it has {', '.join(table.column_names) or 'none'}. "
                "docs/rollouts.md lists the columns of a rollout file."
            )
    if table.num_rows == 0:
        raise RolloutFileError(f"{path} holds no rows.")
    try:
        return Rollouts(**columns, metadata=_header(path, table))
    except ValueError as error:
        raise RolloutFileError(f"{path}: {error}") from error


def _column(path: Path, table: "pa.Table", f: "pa.Field[Any]") -> list[Any]:
    import pyarrow as pa

    try:
        column = table.column(f.name).cast(f.type)
    except pa.ArrowException as error:
        raise RolloutFileError(
            f"{path}: column {f.name!r} has type {table.schema.field(f.name).type}; expected {f.type}."
        ) from error
    for row, entry in enumerate(column):
        if not entry.is_valid:
            raise RolloutFileError(f"{path}: column {f.name!r}, row {row}, is null; expected {f.type}.")
        if pa.types.is_list(f.type) and f.name != "step_correct" and entry.values.null_count:
            raise RolloutFileError(f"{path}: column {f.name!r}, row {row}, has an entry that is null.")
    if f.name in SIGNALS:
        return [entry.values.to_numpy(zero_copy_only=False) for entry in column]
    return cast("list[Any]", column.to_pylist())


def _header(path: Path, table: "pa.Table") -> dict[str, Any]:
    raw = (table.schema.metadata or {}).get(_METADATA)
    try:
        header: dict[str, Any] = dict(json.loads(raw)) if raw else {}
    except (ValueError, TypeError) as error:
        raise RolloutFileError(f"{path}: the metadata under {_METADATA.decode()!r} is not a JSON object.") from error
    version = header.pop("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise RolloutFileError(f"{path} has format version {version}; this release reads version {FORMAT_VERSION}.")
    return header
