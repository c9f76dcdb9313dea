"""Rollout files that are too large to hold: a few rows at a time, as flat arrays, checked as on reading them whole."""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.rollouts.columns import RolloutFileError, column_as, first_line, present, schema
from advantage_zoo.rollouts.parquet import read_metadata
from advantage_zoo.rollouts.ragged import A_TOKEN, Ragged
from advantage_zoo.rollouts.rollouts import NO_STEP, SIGNALS
from advantage_zoo.validation import SLACK

if TYPE_CHECKING:
    import pyarrow as pa

BUFFER = 2**20
"""Bytes of a column that are read at a time: a row group is never in memory whole."""


@dataclass(frozen=True)
class Shard:
    """One file.

    Args:
        path: Where it is.
        columns: Those of the schema that it has.
        row_groups: Rows of each row group.
        tokens: About how many tokens each row group has.
        metadata: What the file says of its rollouts.
    """

    path: Path
    columns: frozenset[str]
    row_groups: tuple[int, ...]
    tokens: tuple[int, ...]
    metadata: dict[str, Any]

    @cached_property
    def rows(self) -> int:
        """Responses in it."""
        return sum(self.row_groups)

    @property
    def stepped(self) -> bool:
        """Whether the training steps of its rows are known."""
        return "step" in self.columns or self.step is not None

    @property
    def step(self) -> int | None:
        """The training step that the whole file is of, as files that a trainer dumps say it."""
        step = self.metadata.get("step")
        whole = isinstance(step, int) and not isinstance(step, bool) and -(2**63) <= step < 2**63
        return step if whole and "step" not in self.columns else None


def open_shards(paths: Sequence[Path]) -> tuple[list[Shard], list[str]]:
    """What the files hold, from their footers; and a sentence on each that is left out.

    Raises:
        RolloutFileError: None can be read, or most can't; or one lacks a column that is needed.
    """
    import pyarrow as pa

    found: list[Shard] = []
    broken: list[str] = []
    for path in paths:
        try:
            found.append(_opened(path))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            broken.append(f"{path} is not a readable Parquet file ({first_line(error)})")
    if len(broken) >= len(found):
        many = f"; so are {len(broken)} of {len(paths)} files" if len(broken) > 1 else ""
        raise RolloutFileError(f"{broken[0]}{many}.")
    empty = [shard.path for shard in found if not shard.rows]
    found = [shard for shard in found if shard.rows]
    rows = sum(shard.rows for shard in found)
    if rows == 0:
        raise RolloutFileError(f"{paths[0]} holds no rows; a rollout file holds at least one response.")
    without = [*broken, *(f"{path} holds no rows" for path in empty)]
    return found, [f"{words}; it is left out, the other {len(found)} files hold {rows} rows." for words in without]


def _opened(path: Path) -> Shard:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        metadata = read_metadata(path, file.schema_arrow)
        names = [str(f.name) for f in present(path, file.schema_arrow.names)]
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        tokens = [_leaves(group, "token_ids") for group in groups]
        together = {"step_index", "step_correct"}
        if len(together & set(names)) == 1:
            raise RolloutFileError(
                f"{path}: {(together - set(names)).pop()} is missing; step_index and step_correct belong together, "
                "give both or none."
            )
        return Shard(path, frozenset(names), tuple(g.num_rows for g in groups), tuple(tokens), metadata)


def _leaves(group: Any, column: str) -> int:
    """Entries of a list column, each empty list counting as one."""
    chunks = (group.column(i) for i in range(group.num_columns))
    return sum(int(chunk.num_values) for chunk in chunks if chunk.path_in_schema.partition(".")[0] == column)


def common_columns(shards: Sequence[Shard]) -> tuple[frozenset[str], list[str]]:
    """The columns that all have; and a sentence on each that only some have.

    Raises:
        RolloutFileError: Only some say of which training step they are.
    """
    everywhere = frozenset.intersection(*(shard.columns for shard in shards))
    unstepped = [shard.path for shard in shards if not shard.stepped]
    if 0 < len(unstepped) < len(shards):
        raise RolloutFileError(
            f"{unstepped[0]} has no training step, neither a column 'step' nor one in its metadata, and other files "
            "have; give it one."
        )
    notes: list[str] = []
    for name in sorted(frozenset[str]().union(*(shard.columns for shard in shards)) - everywhere):
        lacking = [shard.path for shard in shards if name not in shard.columns]
        if name == "step":
            continue
        notes.append(f"{name} is left out: {len(lacking)} of {len(shards)} files have none, the first {lacking[0]}.")
    return everywhere, notes


def read(shard: Shard, names: Iterable[str], groups: range, tokens: int) -> Iterator[tuple[int, "pa.RecordBatch"]]:
    """Columns of some row groups, about so many tokens at a time, each with the row of the file that it begins with.

    The step comes with them where it is a column, which other files may have in their metadata.

    Raises:
        RolloutFileError: The file is damaged there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = sum(shard.row_groups[: groups.start])
    rows = sum(shard.row_groups[groups.start : groups.stop])
    a_row = max(1, sum(shard.tokens[groups.start : groups.stop]) // max(rows, 1))
    wanted = sorted({*names, *({"step"} & shard.columns)})
    try:
        # Without pre_buffer, pyarrow's default, which holds the bytes of all row groups that are asked for.
        with pq.ParquetFile(shard.path, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True) as file:
            size = max(1, tokens // a_row)
            for batch in file.iter_batches(size, list(groups), wanted, use_threads=False):
                yield row, batch
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise RolloutFileError(
            f"{shard.path}, from row {row} on, can't be read ({first_line(error)}); write it anew or leave it out."
        ) from error


def computed_from(columns: frozenset[str]) -> list[str]:
    """The columns that a comparison reads, of those that there are: not the text."""
    names = [name for name in A_TOKEN if name in columns]
    steps = ["step_correct"] if "step_index" in columns else []
    return ["reward", "group", *(names or ["token_ids"]), *steps]


def ragged(shard: Shard, batch: "pa.RecordBatch", rows: NDArray[np.int64]) -> Ragged:
    """Rows as flat arrays; groups and steps as the file has them, step 0 if it has none.

    Args:
        shard: The file.
        batch: Some of its rows.
        rows: Which these are.

    Raises:
        RolloutFileError: A value does not fit. The message names the file, the column, the row and the token.
    """
    columns = {
        str(f.name): column_as(shard.path, batch.column(f.name), f, rows.tolist())
        for f in schema()
        if f.name in batch.schema.names
    }
    rewards = columns["reward"].to_numpy(zero_copy_only=False)
    _refuse(shard.path, "rewards", ~np.isfinite(rewards), rewards, rows)
    lengths: NDArray[np.int64] | None = None
    tokens: dict[str, NDArray[Any]] = {}
    for name in (*A_TOKEN, "token_ids", "tokens"):
        if name not in columns:
            continue
        own = _lengths(columns[name])
        lengths = own if lengths is None else lengths
        if not np.array_equal(own, lengths):
            row = int((own != lengths).argmax())
            raise RolloutFileError(
                f"{shard.path}: {name}, row {rows[row]}, has {own[row]} entries; expected {lengths[row]}, one a token."
            )
        if name in A_TOKEN:
            tokens[name] = columns[name].flatten().to_numpy(zero_copy_only=False)
    assert lengths is not None, "at least one column is read with one entry a token"
    counts, correct = _steps(shard, columns, tokens, lengths, rows)
    _refuse_values(shard, tokens, lengths, rows)
    step = columns["step"].to_numpy() if "step" in columns else np.full(len(rewards), shard.step or 0)
    return Ragged(
        rewards=rewards,
        groups=columns["group"].to_numpy(),
        batches=step,
        lengths=lengths,
        tokens=tokens,
        step_counts=counts,
        step_correct=correct,
    )


def _lengths(column: "pa.Array[Any]") -> NDArray[np.int64]:
    return np.diff(column.offsets.to_numpy()).astype(np.int64)


def _steps(
    shard: Shard,
    columns: dict[str, Any],
    tokens: dict[str, NDArray[Any]],
    lengths: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    import pyarrow as pa

    if "step_correct" not in columns:
        return np.zeros(len(lengths), dtype=np.int64), np.zeros(0, dtype=np.int8)
    counts = _lengths(columns["step_correct"])
    index = tokens["step_index"]
    wrong = (index < NO_STEP) | (index >= np.repeat(counts, lengths))
    if wrong.any():
        row, token = _place(wrong, lengths)
        raise RolloutFileError(
            f"{shard.path}: step_index, row {rows[row]}, token {token}, is {index[wrong.argmax()]}; expected -1 to "
            f"{counts[row] - 1}, as step_correct has {counts[row]} entries there."
        )
    return counts, columns["step_correct"].flatten().cast(pa.int8()).fill_null(-1).to_numpy()


def _refuse_values(
    shard: Shard, tokens: dict[str, NDArray[Any]], lengths: NDArray[np.int64], rows: NDArray[np.int64]
) -> None:
    """Numbers that are none, and nats that can't be, at emitted tokens."""
    for name in SIGNALS:
        if name not in tokens:
            continue
        x = tokens[name]
        for bad, wanted in (
            (~np.isfinite(x), "a finite number of nats"),
            (
                x < -SLACK if name == "entropies" else x > SLACK,
                "at least 0 nats" if name == "entropies" else "at most 0 nats",
            ),
        ):
            if bad.any() and "response_mask" in tokens:
                bad &= tokens["response_mask"]
            if bad.any():
                row, token = _place(bad, lengths)
                raise RolloutFileError(
                    f"{shard.path}: {name}, row {rows[row]}, token {token}, is {x[bad.argmax()]}; expected {wanted}, "
                    "mend or drop this response."
                )


def _refuse(path: Path, name: str, bad: NDArray[np.bool_], values: NDArray[Any], rows: NDArray[np.int64]) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise RolloutFileError(
            f"{path}: {name}, row {rows[row]}, is {values[row]}; expected a finite number, mend or drop this response."
        )


def _place(bad: NDArray[np.bool_], lengths: NDArray[np.int64]) -> tuple[int, int]:
    """Row and token of the first of the flat tokens that are ``bad``."""
    ends, at = lengths.cumsum(), int(bad.argmax())
    row = int(np.searchsorted(ends, at, side="right"))
    return row, at - int(ends[row] - lengths[row])
