"""From folders and files to a rollout file: what `advantage-zoo collect` runs."""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    """Load models, sample, score, write.

    Args:
        model: Folder or name of the sampling policy, with its tokenizer.
        ref_model: Folder or name of the reference; without one, the file has no ``ref_logprobs``.
        prompts: A text file with a prompt a line, or JSON lines, each with a ``prompt``.
        reward: ``module:function`` or ``file.py:function``, called with (prompt, response text).
        out: The Parquet file to write.
        group_size: As for :func:`advantage_zoo_transformers.collect`, as are the rest.
        max_new_tokens: Longest response, tokens.
        temperature: Sampling temperature.
        top_p: Nucleus of the sampling.
        seed: Of the random numbers.
        batch_size: Responses at a time.
        progress: Whether to draw progress bars on standard error.

    Raises:
        OSError: A file or model is not there.
        ImportError: The reward can't be imported.
        ValueError: A file or argument is not as it should be.
    """
    texts = read_prompts(prompts)
    judge = load_reward(reward)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: there is no such folder to write {out.name} into.")
    policy = AutoModelForCausalLM.from_pretrained(model)
    reference = None if ref_model is None else AutoModelForCausalLM.from_pretrained(ref_model)
    rollouts = collect(
        policy,
        reference,
        texts,
        judge,
        group_size,
        tokenizer=AutoTokenizer.from_pretrained(model),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    write_rollouts(rollouts, out)
    return rollouts


def read_prompts(path: Path) -> list[str]:
    """Prompts of a text file (a line each, empty ones skipped) or of a ``.jsonl`` file (field ``prompt``)."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of prompts.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); expected a prompt a line, or JSON lines.") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise ValueError(f"{path} holds no prompts; expected one a line.")
    if path.suffix != ".jsonl":
        return [line for _, line in numbered]
    return [_prompt(path, number, line) for number, line in numbered]


def _prompt(path: Path, number: int, line: str) -> str:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}, is not JSON ({error.msg}).") from error
    prompt = record.get("prompt") if isinstance(record, dict) else None
    if not isinstance(prompt, str):
        raise ValueError(f"{path}, line {number}: expected an object with a text field 'prompt'.")
    return prompt


def load_reward(spec: str) -> Callable[[str, str], Any]:
    """The function that ``module:function`` or ``file.py:function`` names."""
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise ValueError(f"The reward is {spec!r}; expected module:function or file.py:function.")
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise FileNotFoundError(f"{place}: there is no such file to take the reward from.")
        found = importlib.util.spec_from_file_location(path.stem, path)
        assert found is not None  # a .py file that exists always has a loader
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = module  # dataclasses and pickles in the file look their module up
        found.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"The reward is {spec!r}, but {place} has no function {name!r}.")
    return function
