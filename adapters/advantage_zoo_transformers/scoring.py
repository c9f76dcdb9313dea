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
    batch_size: int = 16,
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
        batch_size: Sequences a forward pass of the backbone.
        chunk_tokens: Tokens whose logits are held at a time; bounds the memory, does not change the numbers.
        progress: Whether to draw a progress bar on standard error.

    Raises:
        ValueError: ``temperature``, ``batch_size`` or ``chunk_tokens`` is out of range, a prompt is empty, a token id
            is outside a model's vocabulary, a sequence is too long for a model, or a model's logits are not numbers.
            The message names the row.

    Warns:
        WholeRowsWarning: A model can't be parted; see :class:`~advantage_zoo_transformers.heads.Head`.
    """
    check_temperature(temperature)
    for name, value in (("batch_size", batch_size), ("chunk_tokens", chunk_tokens)):
        if not value >= 1:
            raise ValueError(f"{name} is {value}; expected at least 1.")
    pairs = [([int(i) for i in prompt], [int(i) for i in response]) for prompt, response in sequences]
    for row, (prompt, _) in enumerate(pairs):
        if not prompt:
            raise ValueError(f"sequences, row {row}: the prompt is empty; start it with the model's BOS token.")
    models = [model] if ref_model is None else [model, ref_model]
    for scored in models:
        check_ids(scored, pairs)
    with bar("scoring", len(pairs) * len(models), progress) as advance:
        results = [_score_one(m, pairs, temperature, batch_size, chunk_tokens, advance) for m in models]
    return Scores(results[0][0], results[0][1], results[1][0] if ref_model is not None else None)


def check_temperature(temperature: float) -> None:
    """Refuse what has no distribution."""
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"temperature is {temperature}; expected a finite number above 0: greedy decoding (temperature 0) has no "
            "sampling distribution, take a small temperature instead."
        )


def check_ids(model: Any, pairs: Pairs) -> None:
    """Refuse token ids that the model has no embedding for: on a GPU they end the process."""
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"{type(model).__name__} has an encoder; expected a causal (decoder-only) language model.")
    size = model.get_input_embeddings().num_embeddings
    for row, (prompt, response) in enumerate(pairs):
        for token in (*prompt, *response):
            if not 0 <= token < size:
                raise ValueError(
                    f"sequences, row {row}: token id {token} is outside the vocabulary of {type(model).__name__} (0 to "
                    f"{size - 1}); were the ids made with another model's tokenizer?"
                )


def _score_one(
    model: Any, pairs: Pairs, temperature: float, batch_size: int, chunk_tokens: int, advance: Callable[[int], None]
) -> tuple[Signal, Signal]:
    logprobs: Signal = [np.zeros(0, np.float32) for _ in pairs]
    entropies: Signal = [np.zeros(0, np.float32) for _ in pairs]
    # Rows of similar length share a batch, so that little is padding; the order of the result is the caller's.
    order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
    with evaluation_mode(model):
        head = Head(model)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            chosen, entropy = _score_batch(head, [pairs[row] for row in rows], temperature, chunk_tokens)
            ends = np.cumsum([len(pairs[row][1]) for row in rows])[:-1]
            for row, a, b in zip(rows, np.split(chosen, ends), np.split(entropy, ends), strict=True):
                if np.isnan(a).any() or np.isnan(b).any():
                    raise ValueError(
                        f"sequences, row {row}: the logits of {type(model).__name__} are not numbers; a model in "
                        "float16 may overflow, load it in bfloat16 or float32."
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
    try:
        states = head.states(ids.to(head.device), attention.to(head.device))
    except IndexError as error:
        raise ValueError(
            f"sequences: {ids.shape[1]} tokens, prompt and response, are too many for {type(head.model).__name__} "
            f"({error}); shorten them."
        ) from error
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
