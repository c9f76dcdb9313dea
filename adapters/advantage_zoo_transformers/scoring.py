"""Log-probabilities and entropies of given responses, without ever holding all logits.

The logits of a batch are its largest array: rows x tokens x vocabulary. Here the backbone runs once for its hidden
states, and the model's own head (:class:`~advantage_zoo_transformers.heads.Head`) is applied to ``chunk_tokens`` of
them at a time, at response tokens only. Beyond what the backbone itself takes and its hidden states, no more than

    3 x chunk_tokens x vocabulary x 4 bytes

is held: the head's output, its float32 copy, and one temporary of that size. A model that can't be parted holds the
logits of its longest row besides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advantage_zoo.progress import bar
from advantage_zoo_transformers.heads import Head, evaluation_mode

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
"""(prompt ids, response ids) of each response."""

Signal = list[NDArray[np.float32]]
"""One number a token of each response, nats."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Per-token numbers of each response, in nats, float32, one array a response.

    Args:
        logprobs: log softmax(logits / temperature) of the emitted token, under ``model``.
        entropies: Entropy of the same distribution, over the whole vocabulary.
        ref_logprobs: As ``logprobs``, under ``ref_model``; ``None`` without one.
    """

    logprobs: Signal
    entropies: Signal
    ref_logprobs: Signal | None


def score(
    model: Any,
    ref_model: Any | None,
    sequences: Pairs,
    *,
    temperature: float = 1.0,
    batch_tokens: int = 16384,
    chunk_tokens: int = 1024,
    progress: bool = True,
) -> Scores:
    """Score responses under a policy and its reference.

    All numbers are of the temperature-scaled distribution over the whole vocabulary, softmax(logits / temperature) in
    float32, with no top-p or top-k truncation: under a truncated reference most tokens would have log-probability minus
    infinity.

    Args:
        model: The policy that sampled, any transformers causal language model. Left as it was: mode, device, dtype.
        ref_model: The frozen reference, or ``None``.
        sequences: (prompt ids, response ids) of each response; a prompt has at least one token, a response may be
            empty.
        temperature: What the policy sampled with; both models' logits are divided by it.
        batch_tokens: Tokens a forward pass of the backbone, prompts and padding included; a longer sequence goes alone.
        chunk_tokens: Tokens whose logits are held at a time; bounds the memory, does not change the numbers.
        progress: Whether to draw a progress bar on standard error.

    Raises:
        ValueError: ``temperature``, ``batch_tokens`` or ``chunk_tokens`` is out of range, a prompt is empty, a token id
            is outside a model's vocabulary, a sequence is too long for a model, or a model's logits are not numbers.
            The message names the row.

    Warns:
        WholeRowsWarning: A model can't be parted; see :class:`~advantage_zoo_transformers.heads.Head`.
    """
    check_temperature(temperature)
    check_sizes(batch_tokens, chunk_tokens)
    pairs = [([int(i) for i in prompt], [int(i) for i in response]) for prompt, response in sequences]
    models = [model] if ref_model is None else [model, ref_model]
    for scored in models:
        check_pairs(scored, pairs)
    with bar("scoring", len(pairs) * len(models), progress) as advance:
        results = [score_one(m, pairs, temperature, batch_tokens, chunk_tokens, advance) for m in models]
    return Scores(results[0][0], results[0][1], results[1][0] if ref_model is not None else None)


def check_sizes(batch_tokens: int, chunk_tokens: int) -> None:
    """Refuse batches and chunks of nothing."""
    for name, value in (("batch_tokens", batch_tokens), ("chunk_tokens", chunk_tokens)):
        if not value >= 1:
            raise ValueError(f"{name} is {value}; expected at least 1.")


def check_temperature(temperature: float) -> None:
    """Refuse what has no distribution."""
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"temperature is {temperature}; expected a finite number above 0: greedy decoding (temperature 0) has no "
            "sampling distribution, take a small temperature instead."
        )


def check_pairs(model: Any, pairs: Pairs, places: Sequence[str] | None = None) -> None:
    """Refuse what a model can't score: no prompt, ids without an embedding (which end the process on a GPU), too long.

    Args:
        model: The model.
        pairs: (prompt ids, response ids) of each response.
        places: What errors call each of them; its row if not given.
    """
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"{name} has an encoder; expected a causal (decoder-only) language model.")
    size, longest = model.get_input_embeddings().num_embeddings, context_length(model.config)
    for row, (prompt, response) in enumerate(pairs):
        place = f"sequences, row {row}:" if places is None else places[row]
        if not prompt:
            raise ValueError(f"{place} the prompt is empty; start it with the model's BOS token.")
        ids = np.asarray([*prompt, *response])
        outside = (ids < 0) | (ids >= size)
        if outside.any():
            raise ValueError(
                f"{place} token id {ids[outside][0]} is outside the vocabulary of {name} (0 to {size - 1}); were the "
                "ids made with another model's tokenizer?"
            )
        if longest is not None and len(ids) > longest:
            raise ValueError(
                f"{place} {len(ids)} tokens, prompt and response, are too many for {name}, whose context has {longest} "
                "(max_position_embeddings); drop this response."
            )


def context_length(config: Any) -> int | None:
    """Tokens that a model was made for, its rotary positions' scaling included; ``None`` where it has no limit."""
    longest = getattr(config, "max_position_embeddings", None)
    # rope_parameters since transformers 5
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    original, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
    return max(longest, int(original * factor)) if longest and original and factor else longest


def batches_by_length(pairs: Pairs, batch_tokens: int) -> list[list[int]]:
    """Rows of each batch: of similar length, so that little is padding, and no more than ``batch_tokens`` with it."""
    lengths = [len(prompt) + len(response) for prompt, response in pairs]
    batches: list[list[int]] = []
    for row in sorted(range(len(pairs)), key=lambda row: lengths[row]):  # the last of a batch is its longest
        if batches and (len(batches[-1]) + 1) * lengths[row] <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def score_one(
    model: Any,
    pairs: Pairs,
    temperature: float,
    batch_tokens: int,
    chunk_tokens: int,
    advance: Callable[[int], None],
    places: Sequence[str] | None = None,
) -> tuple[Signal, Signal]:
    """Log-probabilities and entropies of each response under one model, in the order of ``pairs``.

    The arguments are those of :func:`score`, checked; ``advance`` is called with how many sequences are done.
    """
    logprobs: Signal = [np.zeros(0, np.float32) for _ in pairs]
    entropies: Signal = [np.zeros(0, np.float32) for _ in pairs]
    with evaluation_mode(model):
        head = Head(model)
        for rows in batches_by_length(pairs, batch_tokens):
            chosen, entropy = _score_batch(head, [pairs[row] for row in rows], temperature, chunk_tokens)
            ends = np.cumsum([len(pairs[row][1]) for row in rows])[:-1]
            for row, a, b in zip(rows, np.split(chosen, ends), np.split(entropy, ends), strict=True):
                if np.isnan(a).any() or np.isnan(b).any():
                    place = f"sequences, row {row}:" if places is None else places[row]
                    raise ValueError(
                        f"{place} the logits of {type(model).__name__} are not numbers; a model in float16 may "
                        "overflow, load it in bfloat16 or float32."
                    )
                logprobs[row], entropies[row] = a, b
            advance(len(rows))
    return logprobs, entropies


def _score_batch(
    head: Head, pairs: Pairs, temperature: float, chunk_tokens: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-probabilities and entropies of all response tokens of one batch, end to end, each (M,)."""
    ids, attention, places, targets = _laid_out(pairs)
    chosen, entropy = np.zeros(len(targets), np.float32), np.zeros(len(targets), np.float32)
    if len(targets) == 0:
        return chosen, entropy
    states = head.states(ids.to(head.device), attention.to(head.device))
    for start in range(0, len(targets), chunk_tokens):
        part = slice(start, start + chunk_tokens)
        logits = head.logits(states, places[part, 0], places[part, 1]).float().div_(temperature)  # (c, V)
        logits -= logits.logsumexp(-1, keepdim=True)  # now log-probabilities
        picked = logits.gather(-1, targets[part, None].to(logits.device))[:, 0]
        chosen[part] = picked.cpu().numpy()
        # A token that the model forbids has log-probability minus infinity and adds nothing: 0 log 0 = 0.
        entropy[part] = torch.special.entr(logits.exp_()).sum(-1).cpu().numpy()
        del logits
    return chosen, entropy


def _laid_out(pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids and attention mask (B, T), padded on the right; places (M, 2) and ids (M,) of the M response tokens.

    A place is the (row, slot) of the hidden state that predicts the token.
    """
    width = max(len(prompt) + len(response) for prompt, response in pairs)
    ids = torch.zeros((len(pairs), width), dtype=torch.long)
    attention = torch.zeros((len(pairs), width), dtype=torch.long)
    places: list[tuple[int, int]] = []
    targets: list[int] = []
    for row, (prompt, response) in enumerate(pairs):
        whole = [*prompt, *response]
        ids[row, : len(whole)] = torch.tensor(whole)
        attention[row, : len(whole)] = 1
        places += [(row, slot) for slot in range(len(prompt) - 1, len(whole) - 1)]
        targets += response
    return ids, attention, torch.tensor(places).reshape(-1, 2), torch.tensor(targets, dtype=torch.long)
