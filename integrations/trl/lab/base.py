"""Base models: a small transformer that has learned a task, and slips as often as it is asked to. Cached."""

import os
import random
from pathlib import Path
from typing import Any

import torch
from advantage_zoo_transformers import collect
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from advantage_zoo.progress import bar
from lab.tasks import END, Task

BATCH = 128
RATE = 2e-3
LEARNED = 0.97
"""Accuracy of greedy decoding at which the skill is there."""


def make_tokenizer(task: Task) -> PreTrainedTokenizerFast:
    """A token a character, one for padding and one for the end."""
    vocabulary = {character: i for i, character in enumerate(("_", END, *task.alphabet))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="_", eos_token=END)


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Two layers of width 64: a hundred thousand parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def base_model(task: Task, accuracy: float, folder: Path, *, most: int, slipping: int, seed: int = 0) -> Path:
    """Folder with a model that is right about ``accuracy`` of the times when it is sampled.

    First it learns from clean answers, worded in one way and then in any, ``most`` steps of each at most, then
    ``slipping`` steps from answers with slips.
    """
    skilled, slips = folder / f"{task.name}-skilled", folder / f"{task.name}-{accuracy:.2f}"
    tokenizer = make_tokenizer(task)
    if not skilled.exists():
        model = make_model(tokenizer, seed)
        # with any words from the start, a model this small hardly learns to add
        for free in (False, True) if task.words else (True,):
            _supervise(model, tokenizer, task, most, 0.0, seed, f"{task.name}: learning", free=free)
        _save(model, tokenizer, skilled)
    if not slips.exists():
        model = AutoModelForCausalLM.from_pretrained(skilled)
        _supervise(model, tokenizer, task, slipping, task.slip(accuracy), seed + 1, f"{task.name}: slipping")
        _save(model, tokenizer, slips)
    return slips


def greedy_accuracy(model: Any, tokenizer: Any, task: Task, count: int = 128) -> float:
    """Share of right answers when the likeliest token is taken each time, as good as: at a tenth of the temperature."""
    prompts = task.prompts(count, seed=-1)
    found = collect(
        model,
        None,
        prompts,
        task.judge,
        1,
        tokenizer=tokenizer,
        max_new_tokens=task.longest + 1,
        temperature=0.1,
        batch_size=count,
        progress=False,
    )
    return float(sum(found.rewards)) / count


def _supervise(
    model: Any, tokenizer: Any, task: Task, steps: int, slip: float, seed: int, what: str, *, free: bool = True
) -> None:
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    prompts = task.prompts(steps * BATCH, seed)
    model.train()
    with bar(what, steps) as advance:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 50) * (0.1 if step > 0.8 * steps else 1)
            asked = prompts[step * BATCH : (step + 1) * BATCH]
            answers = [task.answer(prompt, rng, slip, free=free) + END for prompt in asked]
            pairs = list(zip(tokenizer(asked)["input_ids"], tokenizer(answers)["input_ids"], strict=True))
            labels = _pad([[-100] * len(p) + a for p, a in pairs], -100)
            loss = model(input_ids=_pad([p + a for p, a in pairs], tokenizer.pad_token_id), labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            advance(1)
            if slip == 0 and step % 100 == 99 and greedy_accuracy(model, tokenizer, task) >= LEARNED:
                break
    model.eval()


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """All at once, so that a model that is there is whole."""
    new = folder.with_name(f"{folder.name}.new")
    tokenizer.save_pretrained(new)
    model.save_pretrained(new)
    os.replace(new, folder)


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])
