"""From folders and files to a rollout file: what `advantage-zoo collect` runs."""

import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from advantage_zoo.rollouts import Rollouts, write_rollouts
from advantage_zoo_transformers.sampling import collect


def collect_from_disk(
    model: str,
    ref_model: str | None,
    prompts: Path,
    reward: str,
    out: Path,
    *,
    group_size: int = 8,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = True,
) -> Rollouts:
    """Load models, sample, score, write. The models run on the first GPU if there is one.

    Args:
        model: Folder or name of the sampling policy, with its tokenizer.
        ref_model: Folder or name of the reference; without one, the file has no ``ref_logprobs``.
        prompts: A text file with a prompt a line, or JSON lines (``.jsonl``) or Parquet (``.parquet``) with a column
            ``prompt``. The other columns are passed to the reward by name, as far as it takes them.
        reward: ``module:function`` or ``file.py:function``, called with (prompt, response text).
        out: The Parquet file to write, whole or not at all.
        group_size: Responses a prompt.
        max_new_tokens: Longest response, tokens.
        temperature: Divides the logits.
        top_p: Nucleus of the sampling.
        seed: Of the random numbers.
        batch_size: Responses sampled at a time.
        progress: Whether to draw progress bars on standard error.

    Raises:
        FileNotFoundError: A file or model is not there.
        ImportError: The reward can't be imported.
        ValueError: A file, a model or an argument is not as it should be.
    """
    records = read_prompts(Path(prompts))
    judge = load_reward(reward)
    out = Path(out)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: there is no such folder to write {out.name} into.")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file in it, for instance {out / 'rollouts.parquet'}.")
    policy = load(AutoModelForCausalLM, "model", model)
    reference = None if ref_model is None else load(AutoModelForCausalLM, "ref_model", ref_model)
    tokenizer = load(AutoTokenizer, "model", model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    accepted = _accepted(judge, sorted({key for record in records for key in record} - {"prompt"}))
    rollouts = collect(
        policy.to(device),
        None if reference is None else reference.to(device),
        [record["prompt"] for record in records],
        judge,
        group_size,
        tokenizer=tokenizer,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        batch_size=batch_size,
        context=[{key: record.get(key) for key in accepted} for record in records],
        progress=progress,
    )
    write_rollouts(rollouts, out)
    return rollouts


def load(auto: Any, field: str, name: str, **options: Any) -> Any:
    """A model or tokenizer from a folder, or by name; ``field`` is what errors call it.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Nothing can be loaded from it.
    """
    what = "tokenizer" if auto is AutoTokenizer else "causal language model"
    looks_like_a_folder = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_a_folder and not Path(name).is_dir():
        raise FileNotFoundError(f"{field} is {name!r}: there is no such folder.")
    try:
        return auto.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise ValueError(
            f"{field} is {name!r}, from which no {what} can be loaded ({reason}); expected a folder that "
            "save_pretrained wrote, or a model's name."
        ) from error


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Records with at least a ``prompt``: lines of text, JSON lines or rows of a Parquet file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of prompts.")
    records = _parquet_records(path) if path.suffix == ".parquet" else _line_records(path)
    if not records:
        raise ValueError(f"{path} holds no prompts; expected at least one.")
    return records


def _parquet_records(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            records: list[dict[str, Any]] = file.read().to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise ValueError(f"{path} is not a readable Parquet file ({reason}).") from error
    return [_checked(record, f"{path}, row {row}") for row, record in enumerate(records)]


def _line_records(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); expected a prompt a line, or JSON lines.") from error
    # Not splitlines(), which takes characters that JSON and prompts may hold for ends of lines.
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if path.suffix not in (".jsonl", ".ndjson"):
        return [{"prompt": line} for _, line in numbered]
    records: list[dict[str, Any]] = []
    for number, line in numbered:
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}, is not JSON ({error.msg}).") from error
        records.append(_checked(record, f"{path}, line {number}"))
    return records


def _checked(record: Any, place: str) -> dict[str, Any]:
    prompt = record.get("prompt") if isinstance(record, dict) else None
    if not isinstance(prompt, str):
        raise ValueError(f"{place}: expected a text in the column 'prompt', got {prompt!r}.")
    return record


def load_reward(spec: str) -> Callable[..., Any]:
    """The function that ``module:function`` or ``file.py:function`` names.

    The current folder, or the file's, is where the reward's own imports are looked for first.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise ValueError(f"The reward is {spec!r}; expected module:function or file.py:function.")
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise FileNotFoundError(f"{place}: there is no such file to take the reward from.")
    try:
        with _first_on_path(Path(place).parent if is_file else Path()):
            module = _run_file(Path(place)) if is_file else importlib.import_module(place)
    except Exception as error:  # whatever the user's own code raises
        reason = " ".join(str(error).split())
        raise ImportError(f"The reward {spec!r} can't be imported ({type(error).__name__}: {reason}).") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ImportError(f"The reward is {spec!r}, but {place} has no function {name!r}.")
    return function


def _run_file(path: Path) -> ModuleType:
    name = f"advantage_zoo_reward_{path.stem}"  # not the stem itself, which may be a real module's name
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None  # a .py file that exists always has a loader
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickles in the file look their module up
    found.loader.exec_module(module)
    return module


@contextmanager
def _first_on_path(folder: Path) -> Generator[None]:
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _accepted(reward: Callable[..., Any], names: list[str]) -> list[str]:
    """Which columns the reward takes by name; all, if it takes any keyword."""
    try:
        parameters = inspect.signature(reward).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return []
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return names
    by_name = [n for i, (n, p) in enumerate(parameters.items()) if i >= 2 or p.kind is p.KEYWORD_ONLY]
    return [n for n in names if n in by_name]
