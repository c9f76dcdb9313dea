"""Responses of a policy to prompts, drawn from softmax(logits / temperature) and nothing else."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from advantage_zoo_transformers.heads import evaluation_mode


def generation_config(
    model: Any, tokenizer: Any, max_new_tokens: int, temperature: float, top_p: float
) -> GenerationConfig:
    """Everything that shapes the distribution, spelled out; of the model's own only what ends a sequence."""
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
def sampling_from(model: Any, config: GenerationConfig, seed: int) -> Generator[None]:
    """The model generates by ``config`` from ``seed``; afterwards its config and all random states are as before."""
    device = model.get_input_embeddings().weight.device
    before = model.generation_config
    # All devices of the kind, as torch.manual_seed seeds them all.
    devices = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), evaluation_mode(model):
        torch.manual_seed(seed)
        # generate() fills what its config leaves open from the model's own; for the time being that is ours, too.
        model.generation_config = config
        try:
            yield
        finally:
            model.generation_config = before


def batches(model: Any, prompts: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Rows of each batch. A recurrent model takes padding into its state, so its batches hold prompts of one length."""
    one_length = bool(getattr(model, "_is_stateful", False))
    made: list[list[int]] = []
    for row, prompt in enumerate(prompts):
        last = made[-1] if made else []
        fits = bool(last) and len(last) < batch_size and (not one_length or len(prompts[last[0]]) == len(prompt))
        if fits:
            last.append(row)
        else:
            made.append([row])
    return made


def generate(model: Any, prompts: Sequence[Sequence[int]], config: GenerationConfig) -> list[list[int]]:
    """One response to each prompt; prompts are padded on the left, so that all responses start at the same slot."""
    device = model.get_input_embeddings().weight.device
    width = max(len(prompt) for prompt in prompts)
    pad = config.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    attention = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    try:
        out = model.generate(input_ids=ids, attention_mask=attention, generation_config=config)
    except IndexError as error:
        raise ValueError(
            f"prompts: {width} tokens and max_new_tokens = {config.max_new_tokens} are too many for "
            f"{type(model).__name__} ({error}); shorten the prompts or lower max_new_tokens."
        ) from error
    ends = set(config.eos_token_id or [])
    return [_until_end(row, ends) for row in out[:, width:].tolist()]


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    """The emitted tokens: up to and including the first end-of-sequence token; what follows is padding."""
    first = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: first + 1]
