"""Sample groups of responses from a policy, reward them, score them under policy and reference."""

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from transformers import GenerationConfig

from advantage_zoo.progress import bar
from advantage_zoo.rollouts import Rollouts
from advantage_zoo.rollouts.rollouts import NO_STEP
from advantage_zoo_transformers.scoring import score


@dataclass(frozen=True)
class Step:
    """A reasoning step of a response, and whether it is right.

    Args:
        start: First character of the step in the response's text.
        end: One past its last character.
        correct: Whether the step is right; ``None`` where the task can't tell.
    """

    start: int
    end: int
    correct: bool | None


@dataclass(frozen=True)
class Verdict:
    """What a task says of a response: its reward and, where the task can tell, its steps in order."""

    reward: float
    steps: Sequence[Step] = ()


Reward = Callable[[str, str], float | Verdict]
"""Maps a prompt and a response's text (without special tokens) to a reward or a verdict."""


def collect(
    model: Any,
    ref_model: Any | None,
    prompts: Sequence[str],
    reward: Reward,
    group_size: int = 8,
    *,
    tokenizer: Any,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
    chunk_tokens: int = 1024,
    progress: bool = True,
) -> Rollouts:
    """Sample ``group_size`` responses to each prompt and score them.

    The same seed gives the same rollouts on the same machine; the caller's random state is left as it was. Nothing of
    the model's own generation config takes part but its end-of-sequence tokens: no top-k, no repetition penalty, no
    forced or forbidden tokens. Log-probabilities and entropies are of softmax(logits / temperature) over the whole
    vocabulary, also with ``top_p`` < 1; see the package's notes.

    Args:
        model: The sampling policy, any transformers causal language model.
        ref_model: The frozen reference; ``None`` leaves ``ref_logprobs`` out.
        prompts: One text a group.
        reward: Maps (prompt, response text) to a reward, or to a :class:`Verdict` with steps.
        group_size: Responses a prompt.
        tokenizer: The model's tokenizer.
        max_new_tokens: Longest response, tokens; a response that ends earlier holds its end-of-sequence token.
        temperature: Divides the logits; more than 0, for a greedy response has no sampling distribution.
        top_p: Samples from the smallest set of tokens with at least this probability, in (0, 1].
        seed: Of this call's random numbers.
        batch_size: Responses sampled and scored at a time.
        chunk_tokens: See :func:`advantage_zoo_transformers.score`.
        progress: Whether to draw progress bars on standard error.

    Raises:
        ValueError: An argument is out of its range, a prompt has no tokens, or a reward is not a finite number.
    """
    _check(prompts, group_size, max_new_tokens, temperature, top_p, batch_size)
    prompt_ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    for row, ids in enumerate(prompt_ids):
        if not ids:
            raise ValueError(f"prompts, row {row}, {prompts[row]!r}, has no tokens; give the model something to go on.")
    rows = [row for row in range(len(prompts)) for _ in range(group_size)]
    config = _generation_config(model, tokenizer, max_new_tokens, temperature, top_p)
    responses: list[list[int]] = []
    with bar("sampling", len(rows), progress) as advance, _seeded(model, seed), _own_config(model, config):
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            responses += _sample(model, [prompt_ids[row] for row in chosen], config)
            advance(len(chosen))
    scores = score(
        model,
        ref_model,
        [(prompt_ids[row], response) for row, response in zip(rows, responses, strict=True)],
        temperature=temperature,
        batch_size=batch_size,
        chunk_tokens=chunk_tokens,
        progress=progress,
    )
    texts = [tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in responses]
    verdicts = [_verdict(reward, prompts[row], text, i) for i, (row, text) in enumerate(zip(rows, texts, strict=True))]
    tokens = [_token_texts(tokenizer, ids) for ids in responses]
    has_steps = any(verdict.steps for verdict in verdicts)
    special = set(tokenizer.all_special_ids)
    return Rollouts(
        prompts=[prompts[row] for row in rows],
        texts=texts,
        tokens=tokens,
        token_ids=responses,
        rewards=[verdict.reward for verdict in verdicts],
        groups=rows,
        logprobs=scores.logprobs,
        ref_logprobs=scores.ref_logprobs,
        entropies=scores.entropies,
        step_index=[
            _step_index([0 if i in special else len(text) for i, text in zip(ids, words, strict=True)], verdict.steps)
            for ids, words, verdict in zip(responses, tokens, verdicts, strict=True)
        ]
        if has_steps
        else None,
        step_correct=[[step.correct for step in verdict.steps] for verdict in verdicts] if has_steps else None,
        metadata={
            "model": str(getattr(model.config, "_name_or_path", "") or type(model).__name__),
            "ref_model": ref_model and str(getattr(ref_model.config, "_name_or_path", "") or type(ref_model).__name__),
            "group_size": group_size,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "distribution": "softmax(logits / temperature) over the whole vocabulary",
            "versions": versions(),
        },
    )


def versions() -> dict[str, str]:
    """What the rollouts were made with."""
    packages = ("advantage-zoo", "torch", "transformers", "tokenizers", "numpy")
    return {"python": sys.version.split()[0], **{package: version(package) for package in packages}}


def _check(
    prompts: Sequence[str], group_size: int, max_new_tokens: int, temperature: float, top_p: float, batch_size: int
) -> None:
    if isinstance(prompts, str) or not prompts:
        raise ValueError(f"prompts is {prompts!r}; expected a list of at least one text.")
    for name, value in (("group_size", group_size), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1.")
    if not temperature > 0:
        raise ValueError(
            f"temperature is {temperature}; expected more than 0: a greedy response has no sampling distribution."
        )
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; expected more than 0 and at most 1.")


def _generation_config(
    model: Any, tokenizer: Any, max_new_tokens: int, temperature: float, top_p: float
) -> GenerationConfig:
    own = getattr(model, "generation_config", None)
    ends = getattr(own, "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends[0] if ends else 0)
    return GenerationConfig(
        do_sample=True,
        temperature=temperature,
        top_p=top_p,
        top_k=0,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends or None,
        pad_token_id=pad,
        bos_token_id=getattr(own, "bos_token_id", None),
    )


@contextmanager
def _own_config(model: Any, config: GenerationConfig) -> Generator[None]:
    """``generate`` fills what its config leaves open from the model's own; for the time being that is ours, too."""
    before = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = before


@contextmanager
def _seeded(model: Any, seed: int) -> Generator[None]:
    device = model.get_input_embeddings().weight.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _sample(model: Any, prompts: Sequence[Sequence[int]], config: GenerationConfig) -> list[list[int]]:
    """One response to each prompt; prompts are padded on the left, so that all responses start at the same slot."""
    device = model.get_input_embeddings().weight.device
    width = max(len(prompt) for prompt in prompts)
    pad = config.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    attention = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            out = model.generate(input_ids=ids, attention_mask=attention, generation_config=config)
    finally:
        for module, training in modes:
            module.training = training
    return [_until_end(row, config) for row in out[:, width:].tolist()]


def _until_end(ids: list[int], config: GenerationConfig) -> list[int]:
    """The emitted tokens: up to and including the first end-of-sequence token; what follows is padding."""
    ends = config.eos_token_id or []
    first = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: first + 1]


def _token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    return [tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ids]


def _verdict(reward: Reward, prompt: str, text: str, row: int) -> Verdict:
    given = reward(prompt, text)
    verdict = given if isinstance(given, Verdict) else Verdict(float(given))
    if not abs(verdict.reward) < float("inf"):
        raise ValueError(f"The reward of response {row}, {text!r}, is {verdict.reward}; expected a finite number.")
    return verdict


def _step_index(lengths: Sequence[int], steps: Sequence[Step]) -> list[int]:
    """Step of each token, from the tokens' lengths in characters: the step in which the token begins."""
    index: list[int] = []
    position = 0
    for length in lengths:
        inside = (i for i, step in enumerate(steps) if length and step.start <= position < step.end)
        index.append(next(inside, NO_STEP))
        position += length
    return index
