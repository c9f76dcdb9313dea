"""A causal language model in two parts, so that not all its logits need to exist at once."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast


class WholeRowsWarning(UserWarning):
    """A model can't be parted into backbone and head: scoring is slower and holds one row's logits at a time."""


class Head:
    """Hidden states of a batch, and logits of some of them.

    The head is the model's own ``forward``, with its scaling, soft-capping and whatever else it does to logits, while
    the backbone is replaced by a stub that returns the states in hand. Whether that gives the model's own logits is
    tried on a few tokens first. Where it does not (an architecture whose ``forward`` is put together otherwise, an
    adapter that wraps it), a :class:`WholeRowsWarning` says so and whole rows of logits are computed, one row at a
    time.

    Args:
        model: Any transformers causal language model, in evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.get_input_embeddings().weight.device
        self.backbone: Any | None = next((part for part in _candidates(model) if self._agrees(part)), None)
        if self.backbone is None:
            warnings.warn(
                f"{type(model).__name__} can't be parted into backbone and head, so whole rows of logits are computed, "
                "one row at a time: the numbers are the same, the memory is that of the longest row.",
                WholeRowsWarning,
                stacklevel=2,
            )

    def states(self, ids: torch.Tensor, attention: torch.Tensor) -> Any:
        """Hidden states (B, T, width) of token ids (B, T); what the row-by-row way needs in their place."""
        if self.backbone is None:
            return ids, attention
        return self._hidden(self.backbone, ids, attention)

    def logits(self, states: Any, rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """Logits (M, V) at M places (row, slot) of the batch; ``rows`` does not fall."""
        if self.backbone is not None:
            return self._of(self.backbone, states[rows.to(states.device), slots.to(states.device)])
        ids, attention = states
        return torch.cat([self._row(ids[row], attention[row], slots[rows == row]) for row in rows.unique().tolist()])

    def _row(self, ids: torch.Tensor, attention: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        length = int(attention.sum())  # padding is on the right
        whole = self.model(input_ids=ids[None, :length], attention_mask=attention[None, :length], use_cache=False)
        logits = whole.logits[0]
        if logits.shape[0] != length:
            raise ValueError(
                f"{type(self.model).__name__} gives {logits.shape[0]} rows of logits for {length} tokens, so that "
                "there is no telling which belongs to which; score the model without what adds or drops tokens."
            )
        return logits[slots.to(logits.device)]

    @staticmethod
    def _hidden(backbone: Any, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        return backbone(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state

    def _of(self, backbone: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Logits (M, V) of hidden states (M, width)."""
        with _returning(backbone, hidden[None]) as calls:
            ids = torch.zeros((1, hidden.shape[0]), dtype=torch.long, device=self.device)
            logits = self.model(input_ids=ids, use_cache=False).logits
        if not calls or logits.shape[:2] != (1, hidden.shape[0]):
            raise LookupError("the model's forward does not pass through this module")
        return logits[0]

    def _agrees(self, backbone: Any) -> bool:
        """Whether states through the head are the model's own logits; shuffled, so that mixing tokens would show."""
        ids, places = _probe(self.model, self.device)
        ones = torch.ones_like(ids)
        whole = self.model(input_ids=ids, attention_mask=ones, use_cache=False).logits
        if whole.shape[:2] != ids.shape:
            return False
        try:
            hidden = self._hidden(backbone, ids, ones).flatten(0, 1)
            parted = self._of(backbone, hidden[places.to(hidden.device)]).float()
        except (AttributeError, IndexError, LookupError, RuntimeError, TypeError, ValueError):
            return False  # the row-by-row way is slower, never wrong
        expected = whole.flatten(0, 1).float()[places.to(whole.device)]
        finite = expected[expected.isfinite()]
        if parted.shape != expected.shape or finite.numel() == 0:
            return False
        # Another shape of the same matrix product rounds otherwise; a missing scale or cap is off by more.
        error = 1e-5 if whole.dtype in (torch.float32, torch.float64) else 2e-2
        return torch.allclose(parted, expected.to(parted.device), rtol=error, atol=error * float(finite.abs().max()))


class _Output(BaseModelOutputWithPast):
    """Hidden states and nothing else, whatever a forward asks for (a mixture of experts: router_logits)."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _candidates(model: Any) -> list[Any]:
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    return [part for part in (getattr(model, "base_model", None), decoder) if part is not None and part is not model]


def _probe(model: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Two rows of three tokens from all over the vocabulary, and five of their six places in another order."""
    size = model.get_input_embeddings().num_embeddings
    ids = torch.linspace(0, size - 1, 6, device=device).long().reshape(2, 3)
    return ids, torch.tensor([4, 1, 5, 0, 2], device=device)


@contextmanager
def _returning(backbone: Any, hidden: torch.Tensor) -> Generator[list[int]]:
    """Let ``backbone`` return ``hidden`` whatever it is given; yields the list of its calls."""
    calls: list[int] = []

    def forward(*_: Any, **__: Any) -> _Output:
        calls.append(1)
        return _Output(last_hidden_state=hidden)  # pyright: ignore[reportArgumentType]

    had_its_own = "forward" in vars(backbone)  # hooks of accelerate put one there
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
def evaluation_mode(model: Any) -> Generator[None]:
    """Dropout off and no gradients; afterwards every module is back in its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
