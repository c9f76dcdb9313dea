"""Log-probabilities and entropies of given responses, without ever holding all logits.

The logits of a batch are its largest array: rows x tokens x vocabulary. Here the backbone runs once for its hidden
states, and the model's own head (with its scaling, soft-capping and whatever else its ``forward`` does to logits) is
applied to ``chunk_tokens`` of them at a time, at response tokens only. Beyond what the backbone itself takes and its
hidden states,

    3 x chunk_tokens x vocabulary x 4 bytes

is the most that is held: the head's output, its float32 copy, and one temporary of that size.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_outputs import BaseModelOutputWithPast

from advantage_zoo.progress import bar

Sequences = Sequence[tuple[Sequence[int], Sequence[int]]]
"""Pairs of (prompt ids, response ids)."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Per-token numbers of each response, in nats, float32, one array a response.

    Args:
        logprobs: log softmax(logits / temperature) of the emitted token, under ``model``.
        entropies: Entropy of the same distribution.
        ref_logprobs: As ``logprobs``, under ``ref_model``; ``None`` without one.
    """

    logprobs: list[NDArray[np.float32]]
    entropies: list[NDArray[np.float32]]
    ref_logprobs: list[NDArray[np.float32]] | None


def score(
    model: Any,
    ref_model: Any | None,
    sequences: Sequences,
    *,
    temperature: float = 1.0,
    batch_size: int = 16,
    chunk_tokens: int = 1024,
    progress: bool = True,
) -> Scores:
    """Score responses under a policy and its reference.

    Args:
        model: The policy that sampled, any transformers causal language model. Left as it is: mode, device, dtype.
        ref_model: The frozen reference, or ``None``.
        sequences: (prompt ids, response ids) of each response; a prompt has at least one token.
        temperature: What the policy sampled with; both models' logits are divided by it.
        batch_size: Sequences a forward pass of the backbone.
        chunk_tokens: Tokens whose logits are held at a time; bounds the memory, does not change the numbers.
        progress: Whether to draw a progress bar on standard error.

    Raises:
        ValueError: ``temperature``, ``batch_size`` or ``chunk_tokens`` is not positive; a prompt is empty; a token id
        is
            outside a model's vocabulary. The message names the row.
    """
    for name, value in (("temperature", temperature), ("batch_size", batch_size), ("chunk_tokens", chunk_tokens)):
        if not value > 0:
            raise ValueError(f"{name} is {value}; expected more than 0.")
    for row, (prompt, _) in enumerate(sequences):
        if len(prompt) == 0:
            raise ValueError(f"sequences, row {row}: the prompt is empty; start it with the model's BOS token.")
    models = [model] if ref_model is None else [model, ref_model]
    results: list[tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]] = []
    with bar("scoring", len(sequences) * len(models), progress) as advance:
        for scored in models:
            check_ids(scored, sequences)
            results.append(_score_one(scored, sequences, temperature, batch_size, chunk_tokens, advance))
    ref_logprobs = results[1][0] if ref_model is not None else None
    return Scores(results[0][0], results[0][1], ref_logprobs)


def check_ids(model: Any, sequences: Sequences) -> None:
    """Refuse token ids that the model has no embedding for: on a GPU they end the process."""
    size = model.get_input_embeddings().num_embeddings
    for row, (prompt, response) in enumerate(sequences):
        for token in (*prompt, *response):
            if not 0 <= token < size:
                raise ValueError(
                    f"sequences, row {row}: token id {token} is outside the vocabulary of {type(model).__name__} (0 to "
                    f"{size - 1}); were the ids made with another model's tokenizer?"
                )


def _score_one(
    model: Any, sequences: Sequences, temperature: float, batch_size: int, chunk_tokens: int, advance: Any
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    logprobs: list[NDArray[np.float32]] = [np.zeros(0, np.float32) for _ in sequences]
    entropies: list[NDArray[np.float32]] = [np.zeros(0, np.float32) for _ in sequences]
    # Rows of similar length share a batch, so that little is padding; the order of the result is the caller's.
    order = sorted(range(len(sequences)), key=lambda row: len(sequences[row][0]) + len(sequences[row][1]))
    with torch.no_grad(), _evaluation_mode(model):
        head = Head(model)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            chosen, entropy = _score_batch(model, head, [sequences[row] for row in rows], temperature, chunk_tokens)
            ends = np.cumsum([len(sequences[row][1]) for row in rows])[:-1]
            for row, a, b in zip(rows, np.split(chosen, ends), np.split(entropy, ends), strict=True):
                logprobs[row], entropies[row] = a, b
            advance(len(rows))
    return logprobs, entropies


def _score_batch(
    model: Any, head: "Head", sequences: Sequences, temperature: float, chunk_tokens: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores of all response tokens of one batch, end to end, each (M,)."""
    device = model.get_input_embeddings().weight.device
    width = max(len(prompt) + len(response) for prompt, response in sequences)
    ids = torch.zeros((len(sequences), width), dtype=torch.long)
    attention = torch.zeros((len(sequences), width), dtype=torch.long)
    places: list[tuple[int, int]] = []  # (row, slot) of the hidden state that predicts each response token
    targets: list[int] = []
    for row, (prompt, response) in enumerate(sequences):
        whole = [*prompt, *response]
        ids[row, : len(whole)] = torch.tensor(whole)
        attention[row, : len(whole)] = 1
        places += [(row, slot) for slot in range(len(prompt) - 1, len(whole) - 1)]
        targets += response
    chosen, entropy = np.zeros(len(targets), np.float32), np.zeros(len(targets), np.float32)
    if not targets:
        return chosen, entropy
    states = head.states(ids.to(device), attention.to(device))
    index = torch.tensor(places, device=device)
    for start in range(0, len(targets), chunk_tokens):
        part = slice(start, start + chunk_tokens)
        logits = head.logits(states, index[part, 0], index[part, 1]).float().div_(temperature)  # (c, V)
        logits -= logits.logsumexp(-1, keepdim=True)  # now log-probabilities
        picked = logits.gather(-1, torch.tensor(targets[part], device=logits.device)[:, None])[:, 0]
        chosen[part] = picked.cpu().numpy()
        # A token that the model forbids has log-probability minus infinity and adds nothing: 0 log 0 = 0.
        entropy[part] = torch.special.entr(logits.exp_()).sum(-1).cpu().numpy()
        del logits
    return chosen, entropy


class Head:
    """A model in two parts: hidden states of a batch, and logits of some of them.

    The head is the model's own ``forward`` with the backbone replaced for the moment by one that returns the given
    states. Whether that gives the model's own logits is tried on a few tokens first. Where it does not (an architecture
    whose ``forward`` is put together otherwise), whole rows of logits are computed, one row at a time, which is slower
    and holds one row's logits instead of one chunk's.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.backbone: Any | None = None
        candidates = [model.base_model, model.get_decoder()] if hasattr(model, "get_decoder") else [model.base_model]
        for candidate in candidates:
            if candidate is not model and self._agrees(candidate):
                self.backbone = candidate
                break

    def states(self, ids: torch.Tensor, attention: torch.Tensor) -> Any:
        """Hidden states (B, T, width); what the row-by-row way needs instead, where the model can't be parted."""
        if self.backbone is None:
            return ids, attention
        return self.backbone(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state

    def logits(self, states: Any, rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """Logits (M, V) at (row, slot) pairs of the batch."""
        if self.backbone is not None:
            return self._of(self.backbone, states[rows, slots][None])[0]
        ids, attention = states
        parts: list[torch.Tensor] = []
        for row in rows.unique(sorted=True).tolist():
            whole = self.model(input_ids=ids[row, None], attention_mask=attention[row, None], use_cache=False).logits[0]
            parts.append(whole[slots[rows == row]])
        return torch.cat(parts)

    def _of(self, backbone: Any, hidden: torch.Tensor) -> torch.Tensor:
        with _returning(backbone, hidden) as calls:
            ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
            logits = self.model(input_ids=ids, use_cache=False).logits
        if not calls:
            raise LookupError("the model's forward does not call this module")
        return logits

    def _agrees(self, backbone: Any) -> bool:
        """Whether states through the head are what the model gives for the same tokens."""
        size = min(self.model.get_input_embeddings().num_embeddings, 5)
        ids = torch.arange(size, device=self.model.get_input_embeddings().weight.device)[None]
        ones = torch.ones_like(ids)
        try:
            hidden = backbone(input_ids=ids, attention_mask=ones, use_cache=False).last_hidden_state
            parted = self._of(backbone, hidden)
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError):
            return False  # the row-by-row way is slower, never wrong
        whole = self.model(input_ids=ids, attention_mask=ones, use_cache=False).logits
        return parted.shape == whole.shape and torch.allclose(parted.float(), whole.float(), rtol=1e-2, atol=1e-3)


@contextmanager
def _returning(backbone: Any, hidden: torch.Tensor) -> Generator[list[int]]:
    """Let ``backbone`` return ``hidden`` whatever it is given; yields the list of its calls."""
    calls: list[int] = []

    def forward(*_: Any, **__: Any) -> BaseModelOutputWithPast:
        calls.append(1)
        return BaseModelOutputWithPast(last_hidden_state=hidden)  # pyright: ignore[reportArgumentType]

    had_its_own = "forward" in vars(backbone)
    before = backbone.forward
    backbone.forward = forward
    try:
        yield calls
    finally:
        if had_its_own:
            backbone.forward = before
        else:
            del backbone.forward


@contextmanager
def _evaluation_mode(model: Any) -> Generator[None]:
    """Dropout off; afterwards every module is back in its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
