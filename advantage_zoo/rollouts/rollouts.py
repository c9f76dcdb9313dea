"""Rollouts: the responses with their text, tokens, signals and steps, ragged as they were sampled."""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.estimator import no_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNALS = ("logprobs", "ref_logprobs", "entropies")
"""The per-token signals, in nats; see :class:`advantage_zoo.RolloutBatch`."""

NO_STEP = -1
"""``step_index`` of a token that belongs to no step."""

_A_TOKEN = (*SIGNALS, "token_ids", "response_mask", "step_index")
_A_RESPONSE = ("prompts", "texts", "tokens", "groups", "steps", "step_correct", *_A_TOKEN)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollouts:
    """B responses, with per-token columns as ragged lists.

    Args:
        prompts: The prompt of each response, (B,).
        texts: The text of each response, (B,).
        tokens: The text of each token of each response.
        token_ids: The ids of these tokens.
        rewards: Outcome reward of each response, (B,).
        groups: Which prompt each response answers, (B,); any integers, equal for equal prompts.
        steps: The training step that each response was sampled at, (B,); the responses of a step are a batch, as those
            of all are if ``None``. A group lies within one.
        logprobs: Nats, of each emitted token under the sampling policy; ``None`` if unknown, as the next four.
        ref_logprobs: Nats, of the same tokens under the reference policy.
        entropies: Nats, of the sampling policy's next-token distributions.
        response_mask: False on tokens that the policy did not emit (tool output); all True if ``None``.
        step_index: Index of the reasoning step that each token belongs to, ``NO_STEP`` (-1) for none.
        step_correct: Whether each step is right, one entry a step, ``None`` where the task can't tell.
        metadata: Where the rollouts come from, as JSON values: model, seeds, versions, accuracy.

    Raises:
        ValueError: There is no response, a column's length does not fit, a step index is out of range, or a reward or a
            signal at an emitted token is not finite. The message names the column, the row and the token.
    """

    prompts: Sequence[str]
    texts: Sequence[str]
    tokens: Sequence[Sequence[str]]
    token_ids: Sequence[Sequence[int]]
    rewards: Sequence[float]
    groups: Sequence[int]
    steps: Sequence[int] | None = None
    logprobs: "Sequence[NDArray[np.float32]] | None" = None
    ref_logprobs: "Sequence[NDArray[np.float32]] | None" = None
    entropies: "Sequence[NDArray[np.float32]] | None" = None
    response_mask: Sequence[Sequence[bool]] | None = None
    step_index: Sequence[Sequence[int]] | None = None
    step_correct: Sequence[Sequence[bool | None]] | None = None
    metadata: Mapping[str, Any] = field(default_factory=no_arrays)

    def __post_init__(self) -> None:
        if len(self.rewards) == 0:
            raise ValueError("rewards is empty; rollouts hold at least one response.")
        for name in _A_RESPONSE:
            column = getattr(self, name)
            if column is not None and len(column) != len(self.rewards):
                raise ValueError(f"{name} has {len(column)} rows; expected {len(self.rewards)}, as rewards has.")
        for name in _A_TOKEN:
            for row, (entry, tokens) in enumerate(zip(self._column(name), self.tokens, strict=False)):
                if len(entry) != len(tokens):
                    raise ValueError(
                        f"{name}, row {row}, has {len(entry)} entries; expected {len(tokens)}, one a token."
                    )
        self._check_integers()
        self._check_batches()
        self._check_steps()
        self._check_finite()

    def _column(self, name: str) -> Sequence[Any]:
        """The column, empty if there is none; an array has no truth value, so ``or`` will not do."""
        column = getattr(self, name)
        return () if column is None else column

    def _check_integers(self) -> None:
        """A file holds integers: what is none would be cut to one on the way, and merge groups."""
        numbered = [("groups, row", row, group) for row, group in enumerate(self.groups)]
        numbered += [("steps, row", row, step) for row, step in enumerate(self._column("steps"))]
        numbered += [
            (f"token_ids, row {r}, token", t, i) for r, ids in enumerate(self.token_ids) for t, i in enumerate(ids)
        ]
        for place, at, value in numbered:
            if not isinstance(value, numbers.Integral):
                raise ValueError(f"{place} {at}, is {value!r}; expected an integer.")

    def _check_batches(self) -> None:
        first: dict[int, int] = {}
        for row, (group, step) in enumerate(zip(self.groups, self._column("steps"), strict=False)):
            if self._column("steps")[first.setdefault(group, row)] != step:
                raise ValueError(
                    f"groups, row {row}, is {group} at step {step}; row {first[group]} has this group at another step, "
                    "number groups through all steps."
                )

    def _check_steps(self) -> None:
        if (self.step_index is None) != (self.step_correct is None):
            missing = "step_index" if self.step_index is None else "step_correct"
            raise ValueError(f"{missing} is missing; step_index and step_correct belong together, give both or none.")
        for row, (index, correct) in enumerate(
            zip(self._column("step_index"), self._column("step_correct"), strict=True)
        ):
            wrong = [(token, i) for token, i in enumerate(index) if not NO_STEP <= i < len(correct)]
            if wrong:
                raise ValueError(
                    f"step_index, row {row}, token {wrong[0][0]}, is {wrong[0][1]}; expected -1 to {len(correct) - 1}, "
                    f"as step_correct has {len(correct)} entries there."
                )

    def _check_finite(self) -> None:
        """Numbers at emitted tokens are numbers; elsewhere (tool output) anything goes."""
        import numpy as np

        finite = np.isfinite(np.asarray(self.rewards, dtype=np.float64))
        if not finite.all():
            row = int(np.argmin(finite))
            raise ValueError(
                f"rewards, row {row}, is {self.rewards[row]}; expected a finite number, mend or drop this response."
            )
        for name in SIGNALS:
            for row, entry in enumerate(self._column(name)):
                bad = ~np.isfinite(np.asarray(entry, dtype=np.float32))
                if self.response_mask is not None:
                    bad &= np.asarray(self.response_mask[row], dtype=bool)
                if bad.any():
                    token = int(np.argmax(bad))
                    raise ValueError(
                        f"{name}, row {row}, token {token}, is {entry[token]}; expected a finite number of nats, "
                        "mend or drop this response."
                    )

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def fields(self) -> frozenset[str]:
        """The signals that there are, by the names of the batch's fields."""
        return frozenset(name for name in SIGNALS if getattr(self, name) is not None)

    def batch(self) -> RolloutBatch:
        """The rollouts as a padded NumPy batch, groups renumbered from 0.

        Token fields are (B, T) with T the longest response, at least 1: a batch of nothing but empty responses has one
        masked slot. Padding holds 0.
        """
        from advantage_zoo.rollouts.ragged import Ragged

        return Ragged.of(self).batch()
