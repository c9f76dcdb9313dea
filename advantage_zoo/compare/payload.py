"""What the report's page draws responses from: groups, tokens and advantages, packed into one line of text.

The packed form is base64 of gzip of: the length of a JSON header (four bytes, little-endian), the header, and columns
with one entry a token, byte by byte. templates/data.js unpacks it. A number of a token is the square of a float16,
signed, relative to the largest of its column: three digits down to 4e-9 of it, and only 0 is 0.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.compare.columns import Column, lanes, signals
from advantage_zoo.compare.comparison import Comparison
from advantage_zoo.compare.selection import rows_of_groups, telling_failure
from advantage_zoo.compare.texts import harmless, paragraph, readable
from advantage_zoo.rollouts.rollouts import NO_STEP, Rollouts

MAX_BYTES = 18_000_000
"""Of columns, before compression: as base64, and with the texts, the page stays under 20 MB."""

MAX_TEXT = 18_000_000
"""Characters of the packed form."""

MAX_ROWS = 1000
"""Responses of a group that the page holds."""

MAX_TOKENS = 4096
"""Tokens of a response that the page holds."""

FEW_LANES = 5
"""Up to so many estimators are all drawn to begin with."""

_SMALLEST = 2.0**-24
_MASKED, _STEP_BEGINS = 1, 8
_STEP = {True: 2, False: 4, None: 6}


@dataclass(frozen=True)
class Payload:
    """The packed text, and what of the rollouts is in it.

    Args:
        packed: Base64.
        groups: Groups in it, evenly spaced in the file.
        all_groups: Groups that were compared.
        thinned: Groups of which only ``MAX_ROWS`` responses are in it, evenly spaced.
        cut: Responses of which only the first ``max_tokens`` tokens are in it.
        max_tokens: Tokens of a response at most.
        max_rows: Responses of a group at most.
    """

    packed: str
    groups: int
    all_groups: int
    thinned: int
    cut: int
    max_tokens: int
    max_rows: int = MAX_ROWS


def pack(comparison: Comparison) -> Payload:
    """As many groups as fit, each of them with all of its responses, or a thousand."""
    rollouts = comparison.rollouts
    batch = rollouts.batch()
    facts, advantages = signals(batch), lanes(comparison, batch)
    first = telling_failure(rollouts, comparison.threshold)
    whole = list(rows_of_groups(rollouts).values())
    groups = [_spread(rows, MAX_ROWS, first) for rows in whole]
    a_token = 4 + 2 * sum(column.a_token for column in (*facts, *advantages))
    max_tokens = int(np.clip(MAX_BYTES // (max(map(len, groups)) * a_token), 16, MAX_TOKENS))
    sizes = [sum(min(len(rollouts.tokens[row]), max_tokens) for row in rows) for rows in groups]
    keep = min(len(groups), max(1, int(MAX_BYTES / (a_token * max(float(np.mean(sizes)), 1)))))
    holding = next((rows for rows in groups if first in rows), None)
    while True:
        chosen = _spread(groups, keep, holding)
        packed = _packed(comparison, chosen, first, facts, advantages, max_tokens)
        if len(packed) <= MAX_TEXT or keep == 1:
            cut = sum(len(rollouts.tokens[row]) > max_tokens for rows in chosen for row in rows)
            ids = {rollouts.groups[rows[0]] for rows in chosen}
            thinned = sum(len(rows) > MAX_ROWS and rollouts.groups[rows[0]] in ids for rows in whole)
            return Payload(packed, len(chosen), comparison.totals.groups, thinned, cut, max_tokens)
        keep = max(1, int(0.9 * keep * MAX_TEXT / len(packed)))  # long prompts, many different tokens


Entry = TypeVar("Entry")


def _spread(entries: list[Entry], keep: int, must: Entry | None) -> list[Entry]:
    """``keep`` of them, evenly spaced, that which ``must`` be there in place of its nearest."""
    places = np.unique(np.linspace(0, len(entries) - 1, min(keep, len(entries))).round().astype(int))
    if must in entries:
        at = entries.index(must)
        places[np.abs(places - at).argmin()] = at
    return [entries[place] for place in places]


def _packed(
    comparison: Comparison,
    groups: list[list[int]],
    first: int | None,
    facts: Sequence[Column],
    advantages: Sequence[Column],
    max_tokens: int,
) -> str:
    rollouts = comparison.rollouts
    rows = [row for group in groups for row in group]
    writer = _Writer(rollouts, rows, max_tokens)
    names = [column.name for column in advantages]
    known = [name for name in ("grpo", "ep_grpo") if name in names]
    opening = names if len(names) <= FEW_LANES else list(dict.fromkeys([*known, *names]))[:2]
    header = {
        "threshold": comparison.threshold,
        "groups": [
            {"id": int(rollouts.groups[group[0]]), "prompt": paragraph(rollouts.prompts[group[0]]), "size": len(group)}
            for group in groups
        ],
        "prompts": {  # of a response that has another one than its group's first
            at: paragraph(rollouts.prompts[row])
            for at, (row, head) in enumerate((row, group[0]) for group in groups for row in group)
            if rollouts.prompts[row] != rollouts.prompts[head]
        },
        "rows": [comparison.rows[row] for row in rows],
        "rewards": [float(rollouts.rewards[row]) for row in rows],
        "lengths": [len(rollouts.tokens[row]) for row in rows],
        "kept": writer.kept.tolist(),
        "signals": [writer.column(column) for column in facts],
        "lanes": [writer.column(column) for column in advantages],
        "opening": [names.index(name) for name in opening],
        "first": rows.index(first) if first is not None else 0,
        "steps": rollouts.step_index is not None,
        "vocabulary": writer.vocabulary,
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")
    whole = len(text).to_bytes(4, "little") + text + b"".join(writer.planes)
    return base64.b64encode(gzip.compress(whole, 6, mtime=0)).decode("ascii")


class _Writer:
    """Columns of the chosen rows' tokens, one after the other; token ids and flags come first."""

    def __init__(self, rollouts: Rollouts, rows: Sequence[int], max_tokens: int) -> None:
        self.rows = np.asarray(rows)
        self.kept = np.array([min(len(rollouts.tokens[row]), max_tokens) for row in rows], dtype=np.int64)
        self._row_of = np.repeat(self.rows, self.kept)
        begins = np.repeat(self.kept.cumsum() - self.kept, self.kept)
        self._token_of = np.arange(begins.size) - begins
        self.planes: list[bytes] = []
        self._columns = 0
        texts = [
            harmless(piece)
            for row, n in zip(rows, self.kept, strict=True)
            for piece in readable(rollouts.tokens[row], rollouts.texts[row])[:n]
        ]
        number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        self.vocabulary = list(number)
        ids = np.array([number[text] for text in texts], dtype="<u4").view(np.uint8).reshape(-1, 4)
        flags = [_flags(rollouts, row)[:n] for row, n in zip(rows, self.kept, strict=True)]
        self.planes += [ids[:, i].tobytes() for i in range(3)] + [np.concatenate(flags).tobytes()]

    def column(self, column: Column) -> dict[str, Any]:
        """What the header says of the column; its numbers, if they are a token's, go behind."""
        said: dict[str, Any] = {"name": column.name}
        if column.values.ndim == 1:
            said["rows"] = [float(f"{x:.8g}") for x in column.values[self.rows]]
        else:
            said |= self._tokens(column.values[self._row_of, self._token_of])
        return said | ({"parts": [self.column(part) for part in column.parts]} if column.parts else {})

    def _tokens(self, x: NDArray[np.float64]) -> dict[str, Any]:
        scale = float(np.abs(x).max(initial=0.0)) or 1.0
        small = (np.sign(x) * np.sqrt(np.abs(x) / scale)).astype("<f2")
        small[(small == 0) & (x > 0)], small[(small == 0) & (x < 0)] = _SMALLEST, -_SMALLEST
        halves = small.view(np.uint8).reshape(-1, 2)
        self.planes += [halves[:, 0].tobytes(), halves[:, 1].tobytes()]  # apart, they compress better
        self._columns += 1
        return {"scale": scale, "at": self._columns - 1}


def _flags(rollouts: Rollouts, row: int) -> NDArray[np.uint8]:
    """A byte a token: whether it is masked, whether a step begins, and whether that step is right, wrong or unknown."""
    n = len(rollouts.tokens[row])
    flags = np.zeros(n, dtype=np.uint8)
    if rollouts.response_mask is not None:
        flags[~np.asarray(rollouts.response_mask[row], dtype=bool)] |= _MASKED
    if rollouts.step_index is not None and rollouts.step_correct is not None:
        index, correct = np.asarray(rollouts.step_index[row], dtype=int), rollouts.step_correct[row]
        verdicts = np.array([_STEP[verdict] for verdict in correct] + [0], dtype=np.uint8)  # the last is NO_STEP's, -1
        flags |= verdicts[index]
        begins = (index != NO_STEP) & (index != np.concatenate([[NO_STEP], index[:-1]]))[:n]
        flags[begins] |= _STEP_BEGINS
    return flags
