"""Scored rows on disk, shard by shard, until they are the file; what a killed run leaves, the next one goes on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from advantage_zoo.rollouts.columns import first_line
from advantage_zoo.rollouts.parquet import read_metadata, save_table, schema_metadata
from advantage_zoo.rollouts.rollouts import NO_STEP, SIGNALS

HOW = "scored"
"""Key of the metadata that tells how the rows were scored; shards that were scored otherwise are not taken."""


class Shards:
    """The folder ``OUT.parts``, made if it is not there.

    Args:
        out: The file that the shards become.
        metadata: Of that file.

    Raises:
        OSError: The folder can't be made.
        ValueError: It holds shards that were scored otherwise.
    """

    def __init__(self, out: Path, metadata: Mapping[str, Any]) -> None:
        self._out, self._metadata = out, dict(metadata)
        self.folder = out.with_name(f"{out.name}.parts")
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OSError(
                f"{self.folder}, where scored rows go first, can't be made ({error.strerror}); name another file than "
                f"{out}."
            ) from error
        for left in self.folder.glob(".*.part"):
            left.unlink()
        self._there = set(self.folder.glob("*.parquet"))
        for path in self._there:
            self._refuse_others(read_metadata(path, pq.read_schema(path)).get(HOW, {}))

    def _refuse_others(self, there: Mapping[str, Any]) -> None:
        now = self._metadata[HOW]
        for key in now:
            if there.get(key) != now[key]:
                raise ValueError(
                    f"{self.folder} holds rows that were scored with another {key.replace('_', ' ')} "
                    f"({there.get(key)!r}, now {now[key]!r}): remove the folder, or name another file than "
                    f"{self._out.name}."
                )

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def __contains__(self, number: int) -> bool:
        return self._path(number) in self._there

    def write(self, number: int, table: pa.Table) -> None:
        """Write a shard, whole or not at all."""
        save_table(table.replace_schema_metadata(schema_metadata(self._metadata)), self._path(number))

    def join(self) -> dict[str, Any]:
        """Make the shards the file, and remove them; counts and means of what is in it."""
        paths = sorted(self.folder.glob("*.parquet"))
        schema = pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="permissive")
        schema = schema.with_metadata(schema_metadata(self._metadata))
        totals = _Totals()
        unfinished = self.folder / ".joined.part"
        with pq.ParquetWriter(unfinished, schema, compression="zstd", write_page_checksum=True) as writer:
            for path in paths:
                table = _with_all(_read(path), schema)
                writer.write_table(table)
                totals.add(table)
        unfinished.replace(self._out)
        for path in paths:
            path.unlink()
        self.folder.rmdir()
        return totals.to_dict()


def _read(path: Path) -> pa.Table:
    try:
        # ParquetFile, not read_table: that would take folders named key=value above the file for columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}, rows that were scored, is damaged ({first_line(error)}); remove this file, and the same command "
            "scores them anew."
        ) from error


def _with_all(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns that only other files have: a mask of emitted tokens, no steps, else nulls."""
    lengths = [len(tokens) for tokens in table.column("token_ids").to_pylist()]
    absent = {
        "response_mask": [[True] * length for length in lengths],
        "step_index": [[NO_STEP] * length for length in lengths],
        "step_correct": [[] for _ in lengths],
    }
    for f in schema:
        if f.name not in table.column_names:
            table = table.append_column(f, pa.array(absent.get(f.name, [None] * table.num_rows), type=f.type))
    return table.select(schema.names).cast(schema)


class _Totals:
    def __init__(self) -> None:
        self.responses = self.tokens = self.emitted = 0
        self.sums = dict.fromkeys(SIGNALS, 0.0)
        self.absent: set[str] = set()

    def add(self, table: pa.Table) -> None:
        tokens = len(table.column("token_ids").combine_chunks().flatten())
        mask = np.ones(tokens, bool)
        if "response_mask" in table.column_names:
            mask = table.column("response_mask").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        self.responses, self.tokens, self.emitted = (
            self.responses + table.num_rows,
            self.tokens + tokens,
            self.emitted + int(mask.sum()),
        )
        for name in SIGNALS:
            if name in table.column_names:
                x = table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
                self.sums[name] += float(x[mask].sum(dtype=np.float64))
            else:
                self.absent.add(name)

    def to_dict(self) -> dict[str, Any]:
        means = {
            name: None if name in self.absent or not self.emitted else total / self.emitted
            for name, total in self.sums.items()
        }
        return {"responses": self.responses, "tokens": self.tokens, "means": means}
