"""Rollouts on disk while training goes on: a file a step, written by a thread while the policy is updated.

    dump = RolloutDump("rollouts", tokenizer, source="verl")
    dump.write(batch, step=7, prompts=Tokens(ids, there), responses=Tokens(ids, there))   # copies, and comes back
    dump.flush()   # the file is there, whole

A process that is killed leaves whole files and perhaps one hidden ``.part``, which the next run removes. A run that is
resumed writes the steps that it repeats anew, and leaves the others as they are.
"""

# pyarrow comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

import atexit
import copy
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advantage_zoo.arrays.namespace import Array, library
from advantage_zoo.batch import RolloutBatch
from advantage_zoo.rollouts.parquet import RolloutFileError, make_table, save_table
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


class RolloutDump:
    """A folder of rollout files, ``step_NNNNNN.parquet``, that :func:`read` and ``advantage-zoo compare`` take.

    At most one step is in the making: where writing takes longer than the step that follows, that step waits for it.

    Args:
        folder: Made if it is not there.
        tokenizer: Anything with ``decode(ids, skip_special_tokens=...)`` of NumPy arrays and lists, as tokenizers of
            transformers have.
        source: Which framework trains; goes into the files' metadata.

    Raises:
        RolloutFileError: The folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path, tokenizer: Any, *, source: str) -> None:
        self.folder, self._source = Path(folder), source
        # A copy: while one thread decodes, another may not set the same tokenizer's padding ("Already borrowed").
        self._tokenizer = copy.deepcopy(tokenizer)
        self._text_of: dict[int, str] = {}
        self._pending: Future[None] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(".step_*.part"):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise RolloutFileError(f"{folder} can't be made or written to ({error.strerror}); name another.") from error
        if not os.access(self.folder, os.W_OK):
            raise RolloutFileError(f"{folder} can't be written to (Permission denied); name another folder.")
        self._writer = ThreadPoolExecutor(1, "advantage_zoo_dump")
        atexit.register(self._say_what_failed)

    def write(
        self, batch: RolloutBatch, *, step: int, part: int = 0, prompts: Tokens | Sequence[str], responses: Tokens
    ) -> None:
        """Hand over the step's rollouts, which are copied to the host; the file is written while the caller goes on.

        Responses without an emitted token count in no group and are left out, as frameworks pad with them.

        Args:
            batch: Rewards, groups, the mask, and the signals that there are; of any library, on any device.
            step: The training step; its file replaces one of the same step and part.
            part: For a step that is written in several parts, such as updates or processes with groups of their own.
            prompts: The prompts' tokens or texts, (B,).
            responses: The responses' tokens, in the slots of ``batch.response_mask``.

        Raises:
            RolloutFileError: What was handed over before could not be written.
            ValueError: A shape does not fit, or there are too many groups.
        """
        self.flush()
        shard = _Shard.of(batch, part, prompts, responses)
        path = self.folder / f"step_{step:06d}{f'_{part}' if part else ''}.parquet"
        metadata = {"source": self._source, "step": step}
        self._pending = self._writer.submit(self._save, shard, path, metadata)

    def flush(self) -> None:
        """Wait until everything is on disk.

        Raises:
            RolloutFileError: It could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _say_what_failed(self) -> None:
        """At exit, where nobody is left to raise it to; the thread has finished by then."""
        try:
            self.flush()
        except Exception as error:
            print(f"advantage-zoo: the last rollouts are lost: {error}", file=sys.stderr)

    def _save(self, shard: "_Shard", path: Path, metadata: dict[str, Any]) -> None:
        """In the thread: what is done for each token is done in NumPy and Arrow, which leave Python to the trainer."""
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


def _cut(values: Array, lengths: Array) -> list[Array]:
    """(N,) values in pieces of these lengths, (B,)."""
    import numpy as np

    return np.split(values, np.cumsum(lengths))[:-1]


def _lists(values: "pa.Array[Any]", lengths: Array) -> "pa.Array[Any]":
    """The same as a column. Of a list of arrays, Arrow would look for the type, and for absent libraries."""
    import numpy as np
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int32()), values)


@dataclass(frozen=True)
class _Shard:
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
    def of(cls, batch: RolloutBatch, part: int, prompts: Tokens | Sequence[str], responses: Tokens) -> "_Shard":
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
