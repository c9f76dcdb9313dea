"""Rollouts that are to be scored, a few rows at a time: our own Parquet files, and whatever else `compare` reads."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advantage_zoo.rollouts import RolloutFileError
from advantage_zoo.rollouts.columns import first_line
from advantage_zoo.rollouts.dumps import UNKNOWN_ID, Dump
from advantage_zoo.rollouts.messages import POLICY
from advantage_zoo.rollouts.parquet import from_table, is_rollout_file, make_table, read_metadata, schema
from advantage_zoo.rollouts.rollouts import SIGNALS
from advantage_zoo.rollouts.rows import files_of
from advantage_zoo.rollouts.shards import BUFFER
from advantage_zoo_transformers.tokenising import Tokeniser, UnfaithfulError
from advantage_zoo_transformers.verdicts import token_texts

PROMPT_IDS = "prompt_ids"
"""Column of a prompt's token ids; where a file has it, no prompt is tokenized."""

NO_TOKEN_IDS = (
    "There are no token ids, so the text is tokenized. That gives neither the end-of-sequence token of a response nor, "
    "where the policy spelled a text in other tokens than its tokenizer would, the tokens that it emitted."
)

Row = dict[str, Any]
"""By the names of our schema."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """A few rows.

    Args:
        table: The rows by our schema, and whatever else the file has.
        places: What errors call each row.
        pairs: (prompt ids, response ids) of each.
        signals: What each row has of the signals, ``None`` where it is to be computed.
    """

    table: pa.Table
    places: list[str]
    pairs: list[tuple[list[int], list[int]]]
    signals: dict[str, list[NDArray[np.float32] | None]]


class OurFile:
    """A Parquet file of our schema."""

    prompts = "text"

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, list[str]()
        try:
            with pq.ParquetFile(path) as file:
                self.rows = file.metadata.num_rows
                stored = file.schema_arrow
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise RolloutFileError(f"{path} is not a readable Parquet file ({first_line(error)}).") from error
        if self.rows == 0:
            raise RolloutFileError(f"{path} holds no rows; a rollout file holds at least one response.")
        self.metadata = read_metadata(path, stored)
        self.lacking: dict[str, int] = {name: 0 if name in stored.names else self.rows for name in SIGNALS}
        self._step = self.metadata.pop("step", None)  # of several files, each has its own
        self.steps = {self._step} - {None}
        self.has_step = self._step is not None or "step" in stored.names

    def chunks(self, tokeniser: Tokeniser, size: int) -> Iterator[Chunk]:
        """All rows, in order."""
        start = 0
        for table in self._tables(size):
            yield self._chunk(tokeniser, table, start)
            start += table.num_rows

    def _tables(self, size: int) -> Iterator[pa.Table]:
        try:
            with pq.ParquetFile(
                self.path, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True
            ) as file:
                for batch in file.iter_batches(batch_size=size):
                    yield pa.Table.from_batches([batch]).replace_schema_metadata(file.schema_arrow.metadata)
        except (pa.ArrowException, OSError) as error:
            raise RolloutFileError(f"{self.path} is damaged ({first_line(error)}); write it anew.") from error

    def _chunk(self, tokeniser: Tokeniser, table: pa.Table, start: int) -> Chunk:
        rollouts = from_table(f"{self.path}, counted from row {start}", table)
        places = [f"{self.path.name}, row {start + i}," for i in range(len(rollouts))]
        given = table.column(PROMPT_IDS).to_pylist() if PROMPT_IDS in table.column_names else None
        pairs: list[tuple[list[int], list[int]]] = []
        for i, (place, ids) in enumerate(zip(places, rollouts.token_ids, strict=True)):
            prompt = rollouts.prompts[i] if given is None else given[i]
            pairs.append((_prompt(tokeniser, place, prompt, ids=given is not None), list(ids)))
        signals = {name: getattr(rollouts, name) or [None] * len(rollouts) for name in SIGNALS}
        if self._step is not None and "step" not in table.column_names:
            table = table.append_column("step", pa.array([self._step] * table.num_rows, pa.int64()))
        return Chunk(table, places, pairs, {name: list(column) for name, column in signals.items()})


class DumpFile:
    """A dump, or another table, whose rows become rows of our schema."""

    def __init__(self, path: Path, columns: Mapping[str, str], groups: dict[bytes, int]) -> None:
        self.path, self._dump, self._groups = path, Dump(path, columns), groups
        # verl decodes its prompts without special tokens; TRL logs what it was given.
        self.prompts = "decoded" if self._dump.format.name == "verl" else "text"
        self.lacking: dict[str, int] = dict.fromkeys(SIGNALS, 0)
        self.rows, words = 0, 0
        self.steps: set[Any] = set()
        self._stepped = True
        some: set[str] = set()
        self.has_step = True
        for _, _, row in self._dump.rows():
            self.rows += 1
            words += row["words"]
            self.steps |= {row.get("step")} - {None}
            self.has_step &= "step" in row
            self._stepped &= "step" in row
            some |= {"response_mask", "step_index"} & set(row)
            for name in SIGNALS:
                self.lacking[name] += name not in row
        self._some = some | ({"step_correct"} if "step_index" in some else set())
        self.notes = [*self._dump.notes, *filter(None, [self._dump.left_out]), *([NO_TOKEN_IDS] if words else [])]
        self.metadata = {"format": self._dump.format.name, "notes": self.notes}

    def chunks(self, tokeniser: Tokeniser, size: int) -> Iterator[Chunk]:
        """All rows that can be used, in order."""
        held: list[tuple[str, Row]] = []
        for place, raw, row in self._dump.rows():
            held.append((place, self._finished(tokeniser, place, raw, row)))
            if len(held) == size:
                yield self._chunk(held)
                held = []
        if held:
            yield self._chunk(held)

    def _finished(
        self, tokeniser: Tokeniser, place: str, raw: Mapping[str, Any], row: dict[str, Any]
    ) -> dict[str, Any]:
        """The row with ids in place of words, and a number for its group."""
        given, names = raw.get(PROMPT_IDS), self._dump.names
        prompt = _prompt(tokeniser, place, raw.get(names["prompt"]) if given is None else given, ids=given is not None)
        key = repr((self.path, row["group"])).encode(errors="surrogatepass")  # a digest: groups may be whole prompts
        group = self._groups.setdefault(hashlib.blake2b(key, digest_size=16).digest(), len(self._groups))
        row = {**row, PROMPT_IDS: prompt, "group": group}
        if row["words"]:
            _refuse_messages(place, raw[names["text"]])
            row["token_ids"] = _told(place, lambda: tokeniser.response(prompt, row["text"]))
            row["tokens"] = token_texts(tokeniser.tokenizer, row["token_ids"])
        elif UNKNOWN_ID in row["token_ids"]:
            raise ValueError(f"{place} has tokens without token_ids; give it these, or leave its tokens out.")
        count = len(row["tokens"])
        absent = {"response_mask": [True] * count, "step_index": [-1] * count, "step_correct": []}
        return {**{name: absent[name] for name in self._some}, **row}

    def _chunk(self, held: Sequence[tuple[str, Row]]) -> Chunk:
        rows = [row for _, row in held]
        if not self._stepped:  # a step that only some rows know divides nothing into batches
            rows = [{name: x for name, x in row.items() if name != "step"} for row in rows]
        # A signal that every row has is the file's; where some lack it, it is put together after scoring.
        names = {name for name in (*schema().names, PROMPT_IDS) if all(name in row for row in rows)}
        names -= set() if self.has_step else {"step"}
        table = make_table({name: [row[name] for row in rows] for name in names}, {})
        pairs = [(row[PROMPT_IDS], row["token_ids"]) for row in rows]
        signals = {name: [row.get(name) for row in rows] for name in SIGNALS}
        return Chunk(table, [place for place, _ in held], pairs, signals)


Part = OurFile | DumpFile


def parts_of(paths: Sequence[Path], columns: Mapping[str, str]) -> list[Part]:
    """What stands in files and folders.

    Raises:
        RolloutFileError: Something can't be read, or both our files and others are among them.
    """
    groups: dict[bytes, int] = {}
    parts: list[Part] = []
    for path in paths:
        files = files_of(path)
        ours = not columns and all(file.suffix == ".parquet" and is_rollout_file(file) for file in files)
        parts += [OurFile(file) for file in files] if ours else [DumpFile(path, columns, groups)]
    if len({type(part) for part in parts}) > 1:
        raise RolloutFileError(
            f"{' and '.join(map(str, paths))}: some are rollout files and some are not, so that their groups can't be "
            "told apart; score them one by one."
        )
    stepless = [part.path for part in parts if not part.has_step]
    if 0 < len(stepless) < len(parts):
        raise RolloutFileError(f"{stepless[0]} has no training step, which others have; score them one by one.")
    return parts


def _prompt(tokeniser: Tokeniser, place: str, prompt: Any, *, ids: bool) -> list[int]:
    if not ids:
        return _told(place, lambda: tokeniser.prompt(prompt))
    if isinstance(prompt, list) and all(isinstance(i, int) for i in prompt):
        return prompt
    raise ValueError(f"{place} has {PROMPT_IDS} that are no integers; expected the token ids of the prompt.")


def _told(place: str, tokenise: Any) -> list[int]:
    try:
        return tokenise()
    except UnfaithfulError as error:
        raise ValueError(f"{place} {error}.") from error


def _refuse_messages(place: str, completion: Any) -> None:
    if not isinstance(completion, list):
        return
    roles = [message.get("role") if isinstance(message, dict) else None for message in completion]
    if roles != [POLICY]:
        raise ValueError(
            f"{place} has a completion of {len(roles)} messages ({', '.join(map(str, roles))}), of which the tokens "
            "that the policy emitted can't be told; give the file token_ids and response_mask."
        )
