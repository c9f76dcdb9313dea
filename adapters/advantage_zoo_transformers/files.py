"""From rollout files and dumps to a rollout file with every signal: what `advantage-zoo score` runs."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from advantage_zoo.progress import bar
from advantage_zoo.rollouts.rollouts import SIGNALS
from advantage_zoo.rollouts.rows import files_of
from advantage_zoo_transformers.disk import load
from advantage_zoo_transformers.scoring import check_pairs, check_sizes, check_temperature, score_one
from advantage_zoo_transformers.shards import HOW, Shards
from advantage_zoo_transformers.sources import Chunk, Part, parts_of
from advantage_zoo_transformers.tokenising import PROMPTS, Tokeniser

OF_MODEL: Mapping[str, tuple[str, ...]] = {"model": ("logprobs", "entropies"), "ref_model": ("ref_logprobs",)}
"""What each model gives."""

SHARD_ROWS = 256
"""Responses that are scored and written together, and kept after a kill."""

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Scored:
    """What was done.

    Args:
        out: The file.
        responses: Its rows.
        tokens: Their tokens.
        computed: For each signal, in how many responses it was computed and not the file's.
        means: Mean of each signal over emitted tokens, nats; ``None`` where the file has none.
        notes: What to know of it, a sentence each.
    """

    out: str
    responses: int
    tokens: int
    computed: dict[str, int]
    means: dict[str, float | None]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def score_files(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | None = None,
    ref_model: str | None = None,
    temperature: float = 1.0,
    columns: Mapping[str, str] | None = None,
    prompts: str | None = None,
    rescore: bool = False,
    batch_tokens: int = 16384,
    chunk_tokens: int = 1024,
    device: str | None = None,
    dtype: str = "auto",
    progress: bool = True,
) -> Scored:
    """Compute the signals that rollouts lack, and write them all to one rollout file.

    Rows are scored 256 at a time, and each such shard is written, whole or not at all, to the folder ``OUT.parts``; a
    call that finds shards there goes on behind them. At the end they become the file. What is held is the models, a
    batch, a shard and, of dumps, a number for each group.

    Args:
        sources: Rollout files, dumps, other tables, or folders of them.
        out: The Parquet file to write, which is not there yet.
        model: Folder (or name) of the policy that sampled; for ``logprobs`` and ``entropies``.
        ref_model: Folder (or name) of the reference; for ``ref_logprobs``.
        temperature: What the policy sampled with; both models' logits are divided by it.
        columns: As for :func:`advantage_zoo.rollouts.read`.
        prompts: What prompts are that are texts, one of :data:`~advantage_zoo_transformers.tokenising.PROMPTS`;
            "decoded" for dumps of verl and "text" elsewhere, if not given.
        rescore: Whether to compute also what the sources have, in its place.
        batch_tokens: Tokens a forward pass, padding included.
        chunk_tokens: Tokens whose logits are held at a time.
        device: Of the models; the first GPU, or the CPU if there is none.
        dtype: Of the models; "auto" is what they were saved in.
        progress: Whether to draw a progress bar on standard error.

    Raises:
        FileNotFoundError: A file or model is not there.
        ValueError: An argument, a file or a row is not as it should be; all rows are looked at before any is scored.
    """
    paths, out = [Path(source) for source in sources], Path(out)
    _check(paths, out, model, ref_model, prompts, dtype)
    check_temperature(temperature)
    check_sizes(batch_tokens, chunk_tokens)
    folders = {field: name for field, name in (("model", model), ("ref_model", ref_model)) if name}
    parts = parts_of(paths, columns or {})
    wanted = _wanted(parts, folders, rescore)
    used = {field: folders[field] for field, signals in OF_MODEL.items() if set(signals) & set(wanted)}
    tokenizer = load(AutoTokenizer, *next(iter(folders.items())))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    job = _Job(
        parts=parts,
        tokenisers={kind: Tokeniser(tokenizer, prompts or kind) for kind in PROMPTS},
        models={field: load(AutoModelForCausalLM, field, name, dtype=dtype).to(device) for field, name in used.items()},
        wanted=wanted,
        rescore=rescore,
        score=partial(score_one, temperature=temperature, batch_tokens=batch_tokens, chunk_tokens=chunk_tokens),
    )
    odd = job.check()
    settings = {"temperature": temperature, "dtype": dtype, "prompts": prompts, "rescore": rescore}
    how = {**_fingerprints(paths, used), **settings, "columns": dict(columns or {})}
    shards = Shards(out, {**_common([part.metadata for part in parts]), HOW: how})
    job.run(shards, progress)
    notes = [*(note for part in parts for note in part.notes), *odd, *_advice(parts, folders, wanted)]
    return Scored(str(out), **shards.join(), computed=job.computed(), notes=list(dict.fromkeys(notes)))


@dataclass(frozen=True, eq=False)
class _Job:
    """Which rows get which signals of which model."""

    parts: Sequence[Part]
    tokenisers: Mapping[str, Tokeniser]
    models: Mapping[str, Any]
    wanted: Sequence[str]
    rescore: bool
    score: Callable[..., tuple[Sequence[Any], Sequence[Any]]]

    def chunks(self) -> Iterator[Chunk]:
        for part in self.parts:
            yield from part.chunks(self.tokenisers[part.prompts], SHARD_ROWS)

    def check(self) -> list[str]:
        """Looks at every row before any is scored; what to say of ids that are not their text's."""
        odd, first = 0, ""
        for chunk in self.chunks():
            for model in self.models.values():
                check_pairs(model, chunk.pairs, chunk.places)
            texts = chunk.table.column("text").to_pylist()
            for place, (_, ids), text in zip(chunk.places, chunk.pairs, texts, strict=True):
                if not self.tokenisers["text"].reads(ids, text):
                    odd, first = odd + 1, first or place.rstrip(",")
        told = (
            f"The token ids of {odd} responses are not their text in this tokenizer's words; were they made with "
            f"another model's? The first: {first}."
        )
        return [told] if odd else []

    def run(self, shards: Shards, progress: bool) -> None:
        """Score what is not in the shards yet."""
        total = sum(self._lacking(self._signals(field)) for field in self.models)
        with bar("scoring", total, progress) as advance:
            for number, chunk in enumerate(self.chunks()):
                todo = {field: self._rows(chunk, self._signals(field)) for field in self.models}
                if number in shards:
                    advance(sum(map(len, todo.values())))
                    continue
                for field, rows in todo.items():
                    pairs, places = [chunk.pairs[row] for row in rows], [chunk.places[row] for row in rows]
                    found = self.score(self.models[field], pairs, advance=advance, places=places)
                    for name, column in zip(OF_MODEL[field], found, strict=False):
                        self._fill(chunk, name, rows, column)
                shards.write(number, self._table(chunk))

    def computed(self) -> dict[str, int]:
        """In how many responses each signal is computed."""
        return {name: self._lacking([name]) if name in self.wanted else 0 for name in SIGNALS}

    def _signals(self, field: str) -> list[str]:
        return [name for name in OF_MODEL[field] if name in self.wanted]

    def _lacking(self, names: Sequence[str]) -> int:
        return sum(part.rows if self.rescore else max(part.lacking[name] for name in names) for part in self.parts)

    def _rows(self, chunk: Chunk, names: Sequence[str]) -> list[int]:
        """The rows that lack one of the signals."""
        columns = [chunk.signals[name] for name in names]
        return [i for i in range(len(chunk.places)) if self.rescore or any(column[i] is None for column in columns)]

    def _fill(self, chunk: Chunk, name: str, rows: Sequence[int], column: Sequence[Any]) -> None:
        for row, values in zip(rows, column, strict=True):
            if name not in self.wanted or (chunk.signals[name][row] is not None and not self.rescore):
                continue
            if not np.isfinite(values).all():
                token = int(np.isfinite(values).argmin())
                raise ValueError(
                    f"{chunk.places[row]} token {token}, has {name} {values[token]}: the model gives this token no "
                    "probability, so that it can't have emitted it; drop this response."
                )
            chunk.signals[name][row] = values

    def _table(self, chunk: Chunk) -> pa.Table:
        """The chunk's table with the signals that all rows of the file will have; those that it has as they are."""
        table = chunk.table
        for name in SIGNALS:
            whole = name in self.wanted or not any(part.lacking[name] for part in self.parts)
            if whole and name in table.column_names and not (self.rescore and name in self.wanted):
                continue
            table = table.select([i for i, other in enumerate(table.column_names) if other != name])
            if whole:
                table = table.append_column(name, pa.array(chunk.signals[name], type=pa.list_(pa.float32())))
        return table


def _check(
    paths: Sequence[Path], out: Path, model: str | None, ref_model: str | None, prompts: str | None, dtype: str
) -> None:
    if not paths:
        raise ValueError("There are no rollouts to score; name a file or a folder.")
    if not (model or ref_model):
        raise ValueError("There is no model to score with: model gives logprobs and entropies, ref_model ref_logprobs.")
    if out.suffix != ".parquet":
        raise ValueError(f"{out} is not called .parquet; the scored rollouts are one Parquet file.")
    if out.exists():
        raise ValueError(f"{out} is there already; remove it, or name another file.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: there is no such folder to write {out.name} into.")
    for name, value, choices in (("prompts", prompts or PROMPTS[0], PROMPTS), ("dtype", dtype, DTYPES)):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected {', '.join(choices)}.")


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise ValueError(f"device is {device!r}, which PyTorch can't use here ({reason}); leave it out.") from error


def _wanted(parts: Sequence[Part], folders: Mapping[str, str], rescore: bool) -> list[str]:
    """The signals to compute: those that a row lacks, or all, of the models that there are."""
    can = [name for field in folders for name in OF_MODEL[field]]
    wanted = [name for name in can if rescore or any(part.lacking[name] for part in parts)]
    if not wanted:
        raise ValueError(f"Nothing is to be computed: the rollouts have {' and '.join(can)}; rescore computes anew.")
    return wanted


def _advice(parts: Sequence[Part], folders: Mapping[str, str], wanted: Sequence[str]) -> list[str]:
    """What is still missing, and what one policy can't have sampled."""
    notes: list[str] = []
    for field in OF_MODEL.keys() - folders.keys():
        for name in OF_MODEL[field]:
            lacking, rows = sum(part.lacking[name] for part in parts), sum(part.rows for part in parts)
            if lacking:
                notes.append(f"{name} is left out: {lacking} of {rows} rows have none; {field} gives it.")
    steps = {step for part in parts for step in part.steps}
    if len(steps) > 1 and set(OF_MODEL["model"]) & set(wanted):
        notes.append(
            f"The rollouts are of {len(steps)} training steps, and one model scored them all: log-probabilities and "
            "entropies are the sampling policy's only where that was the model; score a step's rollouts with its own "
            "checkpoint."
        )
    return notes


def _common(metadata: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all say alike."""
    return {k: v for k, v in metadata[0].items() if all(k in other and other[k] == v for other in metadata)}


def _fingerprints(paths: Sequence[Path], models: Mapping[str, str]) -> dict[str, Any]:
    """What was scored with what, by content: a folder that holds something else by now is another one."""
    # Lists: order, and what is one source, tell which rows a shard holds; and files of several folders share names.
    rollouts = [[[file.name, _sha256(file)] for file in files_of(path)] for path in paths]
    return {"rollouts": rollouts, **{field: _of_model(models.get(field)) for field in OF_MODEL}}


def _of_model(name: str | None) -> dict[str, str] | None:
    if name is None:
        return None
    if not Path(name).is_dir():
        return {"name": name}
    kept = (".json", ".safetensors", ".bin", ".model", ".jinja")
    files = sorted(p for p in Path(name).iterdir() if p.is_file() and p.suffix in kept)
    together = hashlib.sha256("".join(f"{p.name} {_sha256(p)}\n" for p in files).encode())
    return {"name": Path(name).resolve().name, "sha256": together.hexdigest()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
