"""Sample groups of responses from a policy, reward them, score them under policy and reference."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import advantage_zoo
from advantage_zoo.progress import bar
from advantage_zoo.rollouts import Rollouts
from advantage_zoo_transformers.generating import batches, generate, generation_config, sampling_from
from advantage_zoo_transformers.scoring import check_pairs, check_temperature, score
from advantage_zoo_transformers.verdicts import Reward, decode, judge, step_index, token_texts


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
    context: Sequence[Mapping[str, Any]] | None = None,
    progress: bool = True,
) -> Rollouts:
    """Sample ``group_size`` responses to each prompt, judge them and score them.

    The same seed gives the same rollouts on the same machine; the caller's random state is left as it was. Nothing of
    the model's own generation config takes part but its end-of-sequence tokens: no top-k, no repetition penalty, no
    forced or forbidden tokens. Log-probabilities and entropies are of softmax(logits / temperature) over the whole
    vocabulary, also with ``top_p`` < 1; see the package's notes.

    Args:
        model: The sampling policy, any transformers causal language model.
        ref_model: The frozen reference; ``None`` leaves ``ref_logprobs`` out.
        prompts: One text a group, tokenized as the tokenizer does by default.
        reward: Maps (prompt, response text) to a reward, or to a :class:`Verdict` with steps.
        group_size: Responses a prompt.
        tokenizer: The model's tokenizer.
        max_new_tokens: Longest response, tokens. A response that ends earlier holds its end-of-sequence token, never
            padding.
        temperature: Divides the logits; more than 0.
        top_p: Samples from the smallest set of tokens with at least this probability, in (0, 1].
        seed: Of this call's random numbers.
        batch_size: Responses sampled at a time. Part of what the seed determines.
        chunk_tokens: Tokens whose logits are held at a time; see :func:`advantage_zoo_transformers.score`.
        context: Further keyword arguments of ``reward`` for each prompt, for instance its answer.
        progress: Whether to draw progress bars on standard error.

    Returns:
        Rollouts in the order of ``prompts``, the responses of a group next to each other.

    Raises:
        ValueError: An argument is out of its range, a prompt has no tokens or too many, a reward is not a finite
            number, or a step lies outside the text.
    """
    _check(prompts, group_size, max_new_tokens, temperature, top_p, batch_size, context)
    prompt_ids = [list(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    for row, ids in enumerate(prompt_ids):
        if not ids:
            raise ValueError(f"prompts, row {row}, {prompts[row]!r}, has no tokens; give the model something to go on.")
    for scored in (model,) if ref_model is None else (model, ref_model):
        check_pairs(scored, [(ids, ()) for ids in prompt_ids])
    rows = [row for row in range(len(prompts)) for _ in range(group_size)]
    config = generation_config(model, tokenizer, max_new_tokens, temperature, top_p)
    responses: list[list[int]] = []
    with bar("sampling", len(rows), progress) as advance, sampling_from(model, config, seed):
        for chosen in batches(model, [prompt_ids[row] for row in rows], batch_size):
            responses += generate(model, [prompt_ids[rows[i]] for i in chosen], config)
            advance(len(chosen))
    judged = _judged(tokenizer, prompts, rows, responses, reward, context)  # before scoring: it may refuse
    pairs = [(prompt_ids[row], response) for row, response in zip(rows, responses, strict=True)]
    scores = score(
        model,
        ref_model,
        pairs,
        temperature=temperature,
        chunk_tokens=chunk_tokens,
        progress=progress,
    )
    return Rollouts(
        **judged,
        logprobs=scores.logprobs,
        ref_logprobs=scores.ref_logprobs,
        entropies=scores.entropies,
        metadata={
            "model": _name(model),
            "ref_model": None if ref_model is None else _name(ref_model),
            "group_size": group_size,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "batch_size": batch_size,
            "distribution": "softmax(logits / temperature) over the whole vocabulary",
            "versions": versions(),
        },
    )


def _judged(
    tokenizer: Any,
    prompts: Sequence[str],
    rows: Sequence[int],
    responses: Sequence[Sequence[int]],
    reward: Reward,
    context: Sequence[Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """The columns that text and task give."""
    texts = [decode(tokenizer, ids) for ids in responses]
    verdicts = [
        judge(reward, prompts[row], text, dict(context[row]) if context else {}, i)
        for i, (row, text) in enumerate(zip(rows, texts, strict=True))
    ]
    tokens = [token_texts(tokenizer, ids) for ids in responses]
    columns: dict[str, Any] = {
        "prompts": [prompts[row] for row in rows],
        "texts": texts,
        "tokens": tokens,
        "token_ids": responses,
        "rewards": [verdict.reward for verdict in verdicts],
        "groups": rows,
    }
    if any(verdict.steps for verdict in verdicts):
        special = set(tokenizer.all_special_ids)
        columns["step_index"] = [
            step_index(words, [i in special for i in ids], verdict.steps)
            for ids, words, verdict in zip(responses, tokens, verdicts, strict=True)
        ]
        columns["step_correct"] = [[step.correct for step in verdict.steps] for verdict in verdicts]
    return columns


def versions() -> dict[str, str]:
    """What the rollouts were made with."""
    packages = {package: version(package) for package in ("torch", "transformers", "tokenizers", "numpy")}
    return {"python": platform.python_version(), "advantage-zoo": advantage_zoo.__version__, **packages}


def _name(model: Any) -> str:
    return str(getattr(model.config, "_name_or_path", "") or type(model).__name__)


def _check(
    prompts: Sequence[str],
    group_size: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    batch_size: int,
    context: Sequence[Mapping[str, Any]] | None,
) -> None:
    if isinstance(prompts, str) or len(prompts) == 0:
        raise ValueError(f"prompts is {prompts!r}; expected a list of at least one text.")
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise ValueError(f"prompts, row {row}, is {prompt!r}; expected a text.")
    if context is not None and len(context) != len(prompts):
        raise ValueError(f"context has {len(context)} rows; expected {len(prompts)}, one a prompt.")
    for name, value in (("group_size", group_size), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1.")
    check_temperature(temperature)
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; expected more than 0 and at most 1.")
