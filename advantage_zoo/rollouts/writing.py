"""A step's rollouts, copied to the host, as a file: what is done for each token, away from what trains the policy.

It runs in a process of its own (:func:`serve`), as the interpreter's lock and a thread's share of its time would be
taken from the training.
"""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advantage_zoo.arrays.namespace import Array, library
from advantage_zoo.batch import RolloutBatch
from advantage_zoo.rollouts.parquet import make_table, save_table
from advantage_zoo.rollouts.rollouts import SIGNALS

if TYPE_CHECKING:
    import pyarrow as pa

GROUPS_A_PART = 1_000_000
"""Groups of part 1 of a step are numbered from here, so that no two groups of a step have one number."""


@dataclass(frozen=True)
class Tokens:
    """Token ids, of prompts or of responses.

    Args:
        ids: (B, T) integers; (N,), for the responses of a packed batch.
        present: The same shape; 0 where there is no token (padding, on either side), not 0 on tokens, tool output too.
    """

    ids: Array
    present: Array


@dataclass(frozen=True)
class Shard:
    """What is written, in copies on the host: NumPy arrays, (B,), or of the slots (B, T) or (N,)."""

    prompts: Tokens | list[str]
    responses: Tokens
    mask: Array
    rewards: Array
    groups: Array
    lengths: Array
    """Slots of each row."""
    signals: dict[str, Array]

    @classmethod
    def of(cls, batch: RolloutBatch, part: int, prompts: Tokens | Sequence[str], responses: Tokens) -> "Shard":
        """Checks shapes and copies."""
        import numpy as np

        rows, slots = batch.rewards.shape[0], tuple(batch.response_mask.shape)
        for name, x in (("ids", responses.ids), ("present", responses.present)):
            if tuple(x.shape) != slots:
                raise ValueError(f"responses.{name} has shape {tuple(x.shape)}; expected {slots}, as response_mask.")
        count = prompts.ids.shape[0] if isinstance(prompts, Tokens) else len(prompts)
        if count != rows:
            raise ValueError(f"prompts has {count} rows; expected {rows}, one a response.")
        groups = _host(batch.group_ids)
        if groups.max() >= GROUPS_A_PART:
            raise ValueError(f"group_ids has {groups.max()}; a part of a step holds fewer than {GROUPS_A_PART} groups.")
        signals = {name: getattr(batch, name) for name in SIGNALS}
        return cls(
            prompts=_tokens(prompts) if isinstance(prompts, Tokens) else list(prompts),
            responses=_tokens(responses),
            mask=_host(batch.response_mask),
            rewards=_host(batch.rewards),
            groups=groups + part * GROUPS_A_PART,
            lengths=np.full(rows, slots[-1]) if batch.cu_seqlens is None else np.diff(_host(batch.cu_seqlens)),
            signals={name: _host(x) for name, x in signals.items() if x is not None},
        )

    def layout(self) -> tuple[Array, list[int], Array]:
        """(N,) the slots to write; the rows that have an emitted token; and how many slots each of these has."""
        import numpy as np

        rows = len(self.lengths)
        row_of = np.repeat(np.arange(rows), self.lengths)  # (N,)
        mask, present = self.mask.reshape(-1), self.responses.present.reshape(-1)
        stray = mask & ~present
        if stray.any():
            raise ValueError(f"response_mask, row {row_of[stray.argmax()]}, is True on a slot that holds no token.")
        counted = np.bincount(row_of[mask], minlength=rows) > 0
        kept = present & counted[row_of]
        return kept, np.flatnonzero(counted).tolist(), np.bincount(row_of[kept], minlength=rows)[counted]


class Writer:
    """Writes rollouts to files.

    Args:
        tokenizer: As in :class:`~advantage_zoo.rollouts.RolloutDump`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._text_of: dict[int, str] = {}

    def save(self, shard: Shard, path: Path, metadata: dict[str, Any]) -> None:
        """The file, whole or not at all. What is done for each token is done in NumPy and Arrow.

        Raises:
            RolloutFileError: It cannot be written.
            ValueError: The mask is True where there is no token.
        """
        import numpy as np
        import pyarrow as pa

        try:
            kept, rows, lengths = shard.layout()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        ids, mask = shard.responses.ids.reshape(-1)[kept], shard.mask.reshape(-1)[kept]
        numbers = {name: x.reshape(-1)[kept] for name, x in shard.signals.items()}
        columns: dict[str, Any] = {
            "text": [self._decode(x) for x in _cut(ids, lengths)],
            "tokens": _lists(self._texts(ids), lengths),
            "reward": shard.rewards[rows],
            "group": shard.groups[rows],
            "step": np.full(len(rows), metadata["step"]),
        }
        if isinstance(shard.prompts, Tokens):
            there = shard.prompts.present[rows]
            counts, prompts = there.sum(axis=1), shard.prompts.ids[rows][there]
            columns["prompt"] = self._prompts(_cut(prompts, counts))
            columns["prompt_ids"] = _lists(pa.array(prompts), counts)
        else:
            columns["prompt"] = [shard.prompts[row] for row in rows]
        for name, x in ({"token_ids": ids, "response_mask": mask} | numbers).items():
            columns[name] = _lists(pa.array(x), lengths)
        save_table(make_table(columns, metadata), path)

    def _prompts(self, ids: list[Array]) -> list[str]:
        """The prompts' texts; that of a group is decoded once."""
        texts = {key: self._decode(x) for key, x in {x.tobytes(): x for x in ids}.items()}
        return [texts[x.tobytes()] for x in ids]

    def _decode(self, ids: Array) -> str:
        # An array: of a list, transformers looks at each number in Python, which takes longer than decoding.
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _texts(self, ids: Array) -> "pa.Array[Any]":
        """The text of each token; each id is decoded once a run."""
        import pyarrow as pa

        known = self._text_of
        encoded = pa.array(ids).dictionary_encode()
        different: list[int] = encoded.dictionary.to_pylist()
        for i in different:
            if i not in known:
                known[i] = self._tokenizer.decode([i])
        return pa.array([known[i] for i in different], pa.string()).take(encoded.indices)


def serve() -> None:
    """The process: reads a tokenizer, then what :meth:`Writer.save` takes, and answers each with None or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that trains says when to end
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a tokenizer prints is no answer.
    os.dup2(sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def answer(error: Exception | None) -> None:
        if error is not None and not isinstance(error, ValueError):  # these, RolloutFileError among them, are sentences
            error.add_note("".join(traceback.format_exception(error)))
        try:
            said = pickle.dumps(error)
            pickle.loads(said)  # some can be written and not be read
        except Exception:
            said = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        answers.write(said)
        answers.flush()

    try:
        try:
            writer = Writer(pickle.load(requests))
            _warm_up()
        except Exception as error:
            return answer(error)
        answer(None)
        while True:
            try:
                request = pickle.load(requests)
            except (EOFError, pickle.UnpicklingError):
                return None  # the process that trains has ended, perhaps amid a sentence
            try:
                writer.save(*request)
            except Exception as error:
                answer(error)
            else:
                answer(None)
    except BrokenPipeError:
        return None  # nobody is left to be told


def _warm_up() -> None:
    """What takes 0.2 s the first time: Arrow is imported, and its first array imports pandas, if it is installed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": pa.array(["text"])}), pa.BufferOutputStream(), compression="zstd")


def _cut(values: Array, lengths: Array) -> list[Array]:
    """(N,) values in pieces of these lengths, (B,)."""
    import numpy as np

    return np.split(values, np.cumsum(lengths))[:-1]


def _lists(values: "pa.Array[Any]", lengths: Array) -> "pa.Array[Any]":
    """The same as a column. Of a list of arrays, Arrow would look for the type, and for absent libraries."""
    import numpy as np
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int32()), values)


def _tokens(tokens: Tokens) -> Tokens:
    return Tokens(_host(tokens.ids), _host(tokens.present) != 0)


def _host(x: Array) -> Array:
    """A copy in NumPy; bfloat16, which NumPy and Parquet lack, widened."""
    import numpy as np

    if library(x) == "torch":
        x = x.detach()
        x = x.float() if x.is_floating_point() and x.dtype.itemsize < 4 else x
        return x.to("cpu", copy=True).numpy()
    copied = np.array(x)
    return copied.astype(np.float32) if copied.dtype.name == "bfloat16" else copied
