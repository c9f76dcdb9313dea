"""The columns of a rollout file, their types, and what is said of those that are otherwise. See docs/rollouts.md."""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advantage_zoo.rollouts.rollouts import SIGNALS

if TYPE_CHECKING:
    import pyarrow as pa

_OPTIONAL = ("step", *SIGNALS, "response_mask", "step_index", "step_correct")


class RolloutFileError(ValueError):
    """A file cannot be read as rollouts; the message names the file, the column and what to do."""


@cache
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
            pa.field("step", pa.int64()),
            pa.field("logprobs", pa.list_(pa.float32())),
            pa.field("ref_logprobs", pa.list_(pa.float32())),
            pa.field("entropies", pa.list_(pa.float32())),
            pa.field("response_mask", pa.list_(pa.bool_())),
            pa.field("step_index", pa.list_(pa.int32())),
            pa.field("step_correct", pa.list_(pa.bool_())),
        ]
    )


def plural(column: str) -> str:
    """Columns are called after one response, fields after all."""
    return {"prompt": "prompts", "text": "texts", "reward": "rewards", "group": "groups", "step": "steps"}.get(
        column, column
    )


def present(path: str | Path, names: Sequence[str]) -> "list[pa.Field[Any]]":
    """The fields of the schema that a file with columns ``names`` has.

    Raises:
        RolloutFileError: It lacks one that is needed, or has one twice.
    """
    found: list[pa.Field[Any]] = []
    for f in schema():
        if names.count(f.name) == 1:
            found.append(f)
        elif f.name in names:
            raise RolloutFileError(f"{path} has more than one column {f.name!r}; keep one.")
        elif f.name not in _OPTIONAL:
            raise RolloutFileError(
                f"{path} has no column {f.name!r}; it has {', '.join(names) or 'none'}. "
                "docs/rollouts.md lists the columns of a rollout file."
            )
    return found


def column_as(
    path: str | Path, column: "pa.Array[Any]", f: "pa.Field[Any]", rows: Sequence[int] | None = None
) -> "pa.Array[Any]":
    """``column`` as the type of ``f``, without nulls but in ``step_correct``.

    Args:
        path: The file, for the messages.
        column: What stands in it.
        f: The field of the schema.
        rows: Which rows of the file these are; all if ``None``.

    Raises:
        RolloutFileError: It has another type, a value that does not fit, or a null.
    """
    import pyarrow as pa

    stored = column.type
    if not _fits(stored, f.type):
        raise RolloutFileError(f"{path}: column {f.name!r} has type {stored}; expected {f.type}.")
    try:
        if pa.types.is_boolean(stored) and f.name == "reward":
            column = column.cast(pa.int8())
        column = column.cast(f.type)
    except pa.ArrowException as error:
        raise RolloutFileError(
            f"{path}: column {f.name!r}, of type {stored}, can't be read as {f.type} ({first_line(error)})."
        ) from error
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        row = row if rows is None else rows[row]
        raise RolloutFileError(f"{path}: column {f.name!r}, row {row}, is null; expected {f.type}.")
    if pa.types.is_list(f.type) and f.name != "step_correct" and column.flatten().null_count:
        _refuse_null_entry(path, f, column, rows or range(len(column)))
    return column


def _refuse_null_entry(path: str | Path, f: "pa.Field[Any]", column: "pa.Array[Any]", rows: Sequence[int]) -> None:
    for row, entry in zip(rows, column.to_pylist(), strict=True):
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


def first_line(error: Exception) -> str:
    """The error's first line, without a full stop."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
