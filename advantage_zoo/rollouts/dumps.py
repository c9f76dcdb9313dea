"""Readers of what training frameworks write: verl's and TRL's dumps, and plain tables with a map of their columns.

Written from the released sources: verl 0.9.1, ``_write_generations`` (trainer/ppo/ray_trainer.py, and trainer_base.py
of v1), and TRL 1.16.0, ``GRPOTrainer.log``. OpenRLHF 0.11.2 writes no log of its completions.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advantage_zoo.rollouts.lists import TOKEN_LISTS, RowError, token_lists, token_texts
from advantage_zoo.rollouts.messages import pieces, prompt_text
from advantage_zoo.rollouts.parquet import RolloutFileError, is_rollout_file, read_rollouts
from advantage_zoo.rollouts.rewards import Reward, trl_reward
from advantage_zoo.rollouts.rollouts import SIGNALS, Rollouts
from advantage_zoo.rollouts.rows import Rows, each_row, files_of, read_rows
from advantage_zoo.suggestions import nearest

NEEDED = ("prompt", "text", "reward")
"""Columns without which there is nothing to compare."""

COLUMNS = (*NEEDED, "group", "step", "tokens", *TOKEN_LISTS, "step_correct")
"""What ``--columns`` maps from; the names of the rollout file's schema."""

UNKNOWN_ID = -1
"""``token_ids`` of words that stand for tokens."""

WORDS = (
    "There are no tokens: words stand for them. What an estimator gives a response does not change, unless it minds "
    "length or takes statistics over all tokens; shares of tokens are shares of words."
)
_VERL_KEY = re.compile(r"(.+)_(\d+)_(\d+)")


@dataclass(frozen=True)
class Format:
    """Whose dump it is, and which of its columns is what."""

    name: str
    columns: Mapping[str, str]
    group: Callable[[Mapping[str, Any]], Hashable]


def column_map(given: Iterable[str]) -> dict[str, str]:
    """From ``NAME=COLUMN,NAME=COLUMN`` texts.

    Raises:
        RolloutFileError: One can't be read, or maps a name that no rollout file has.
    """
    found: dict[str, str] = {}
    for pair in (pair for words in given for pair in words.split(",") if pair.strip()):
        name, equals, column = (part.strip() for part in pair.partition("="))
        if not (equals and name and column):
            raise RolloutFileError(f"--columns {pair}: expected NAME=COLUMN, for instance reward=score.")
        if name not in COLUMNS:
            raise RolloutFileError(
                f"--columns {pair}: {name!r} is no column of a rollout file{nearest(name, COLUMNS)}; these are "
                f"{', '.join(COLUMNS)}."
            )
        found[name] = column
    return found


def read(path: str | Path, columns: Mapping[str, str] | None = None) -> tuple[Rollouts, list[str]]:
    """Rollouts from our own files, from the dumps of verl and TRL, and from any table of JSON lines or Parquet.

    Args:
        path: A file, or a folder of such files, as verl and TRL write one a step.
        columns: Which of the file's columns holds what, by the names of the rollout file's schema (docs/rollouts.md),
            where it is not called so; a reward may be a sum, ``"right + 0.5*format"``.

    Returns:
        The rollouts; and what was left out or stands for something else, a sentence each.

    Raises:
        RolloutFileError: There is nothing to compare; the message says what is missing and what to do.
    """
    path, columns = Path(path), columns or {}
    if not columns and path.suffix == ".parquet" and path.is_file() and is_rollout_file(path):
        return read_rollouts(path), []
    return Dump(path, columns, read_rows(path)).rollouts()


def recognise(row: Mapping[str, Any]) -> Format:
    """The format of a row's file, by its columns."""
    if {"input", "output", "score"} <= set(row):
        return Format("verl", {"prompt": "input", "text": "output", "reward": "score"}, _verl_group)
    if {"prompt", "completion", "step"} <= set(row):
        return Format("TRL", {"text": "completion"}, lambda row: prompt_text(row["prompt"]))
    return Format("plain", {}, lambda row: prompt_text(row.get("prompt")))


def _verl_group(row: Mapping[str, Any]) -> Hashable:
    """v1 writes ``uid``, which is the prompt's, the session's number and the output's; others only the prompt."""
    key = _VERL_KEY.fullmatch(str(row.get("uid", "")))
    return key[1] if key else prompt_text(row.get("input"))


def _plain(value: Any) -> Any:
    """Whole numbers as such, which pandas makes floats where another row has none; no number is no value."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


class Dump:
    """A dump's rows by the names of our schema; those that can't be used are counted.

    Args:
        path: The file, or the folder of files.
        columns: As for :func:`read`.
        held: The dump's rows, where they are held; without, every pass reads the files anew and holds a row at a time.

    Raises:
        RolloutFileError: There is no row, or a column is missing.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], held: Rows | None = None) -> None:
        self.path, self._held = path, held
        self.left_out = ""  # a sentence, after a pass that left rows out
        found = self._found()
        formats: dict[str, Format] = {}
        counts: Counter[str] = Counter()
        here: dict[str, None] = {}
        log: list[dict[str, Any]] = []
        for _, row in self._each(found):
            one = recognise(row)
            formats.setdefault(one.name, one)
            counts[one.name] += 1
            here.update(dict.fromkeys(row))
            if one.name == "TRL":
                log.append({**row, "prompt": hash(prompt_text(row["prompt"])), "completion": None})
        if not counts:
            first = f" that can be read: {found.broken[0]}" if found.broken else ""
            raise RolloutFileError(f"{path} holds no rows{first}; a dump holds at least one response.")
        self.notes = list(found.notes)
        # Of several versions the commonest; what the others lack is counted row by row.
        self.format = formats[counts.most_common(1)[0][0]]
        self.names = {name: name for name in COLUMNS} | dict(self.format.columns) | dict(columns)
        if self.format.name == "TRL" and "reward" not in columns:
            self.reward, said = trl_reward(log, self._key)
            self.notes += said
        else:
            self.reward = Reward.parsed(self.names["reward"])
        for name in (*columns, *NEEDED):
            wanted = self.reward.columns if name == "reward" else [self.names[name]]
            for column in wanted:
                if column not in here:
                    self._refuse_column(name, column, list(here))

    def _found(self) -> Rows:
        held = self._held
        return Rows() if held is None else Rows(broken=list(held.broken), lost=held.lost, notes=list(held.notes))

    def _each(self, found: Rows) -> Iterable[tuple[str, dict[str, Any]]]:
        return each_row(self.path, found) if self._held is None else self._held.rows

    def _refuse_column(self, name: str, column: str, here: list[str]) -> None:
        raise RolloutFileError(
            f"{self.path} has no column {column!r}{nearest(column, here)}, of which {name} would be; it has "
            f"{', '.join(here) or 'none'}. --columns {name}=COLUMN names another."
        )

    def _key(self, row: Mapping[str, Any]) -> Hashable:
        step, named = (_plain(row.get(self.names[name])) for name in ("step", "group"))
        return repr(step), self.format.group(row) if named is None else (repr(named),)

    def rows(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """The place, the row as it stands in the file, and the row by the names of our schema, of each usable row.

        Raises:
            RolloutFileError: At the end, if most could not be used.
        """
        found, good = self._found(), 0
        for place, raw in self._each(found):
            try:
                row = self._row(raw)
            except RowError as error:
                found.lose(f"{place} {error}")
            else:
                good += 1
                yield place, raw, row
        total = good + found.lost
        if not good or good < total / 2:
            raise RolloutFileError(
                f"{self.path}: {found.lost} of {total} rows can't be used, too many to compare the rest; the first: "
                f"{found.broken[0]}."
            )
        if found.lost:
            self.left_out = (
                f"{found.lost} of {total} rows are left out, and their groups are compared without them; the first: "
                f"{found.broken[0]}."
            )

    def rollouts(self) -> tuple[Rollouts, list[str]]:
        """The rows that can be used, and the notes."""
        good = [row for _, _, row in self.rows()]
        self.notes += [self.left_out] if self.left_out else []
        return self._assembled(good), self.notes

    def _assembled(self, rows: list[dict[str, Any]]) -> Rollouts:
        numbers: dict[Hashable, int] = {}
        groups = [numbers.setdefault(row["group"], len(numbers)) for row in rows]
        if any(row["words"] for row in rows):
            self.notes.append(WORDS)
        optional: dict[str, Any] = {}
        unstepped = sum("step" not in row for row in rows)
        if unstepped and any(row["stepped"] for row in rows):
            column = self.names["step"]
            self.notes.append(f"{column} is no batch's: {unstepped} of {len(rows)} rows have no integer there.")
        for name in (*SIGNALS, "response_mask", "step_index", "step_correct"):
            lacking = sum(name not in row for row in rows)
            if lacking == 0:
                optional[name] = [row[name] for row in rows]
            elif lacking < len(rows) and name == "response_mask":
                optional[name] = [row.get(name, [True] * len(row["tokens"])) for row in rows]
            elif lacking < len(rows):
                self.notes.append(f"{name} is left out: {lacking} of {len(rows)} rows have none.")
        try:
            return Rollouts(
                prompts=[row["prompt"] for row in rows],
                texts=[row["text"] for row in rows],
                tokens=[row["tokens"] for row in rows],
                token_ids=[row["token_ids"] for row in rows],
                rewards=[row["reward"] for row in rows],
                groups=groups,
                steps=None if unstepped else [row["step"] for row in rows],
                metadata={"format": self.format.name, "files": len(files_of(self.path)), "notes": list(self.notes)},
                **optional,
            )
        except ValueError as error:
            raise RolloutFileError(f"{self.path}: {error}") from error

    def _row(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """One row by the names of our schema."""
        given = {name: raw.get(self.names[name]) for name in COLUMNS if name != "reward"}
        for name in ("text", "prompt"):
            if _plain(given[name]) is None:
                raise RowError(f"has no {self.names[name]}")
        row: dict[str, Any] = {"prompt": prompt_text(given["prompt"]), "group": self._key(raw)}
        step = _plain(given["step"])
        row["stepped"] = step is not None
        if isinstance(step, int):
            row["step"] = step
            if not -(2**63) <= step < 2**63:
                raise RowError(f"has step {step}, which is no 64-bit integer")
        row["reward"] = self.reward.of(raw)
        if not math.isfinite(row["reward"]):
            raise RowError(f"has no finite number in {self.reward}: {self.reward.found(raw)}")
        row["text"], words, mask = pieces(given["text"])
        row["words"] = given["tokens"] is None
        row["tokens"] = words if row["words"] else token_texts(given["tokens"])
        row["token_ids"] = [UNKNOWN_ID] * len(row["tokens"])
        if row["words"] and not all(mask):
            row["response_mask"] = mask
        if not row["words"]:
            row |= token_lists(given, len(row["tokens"]))
        return row
