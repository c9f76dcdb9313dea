"""Overlong filtering: responses above a length teach nothing (DAPO, arXiv:2503.14476, section 3.4)."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.estimator import Paper
from advantage_zoo.flat import FlatBatch
from advantage_zoo.parameters import param
from advantage_zoo.transforms.transform import AdvantageTransform


@dataclass(frozen=True)
class LengthCap(AdvantageTransform):
    """Gives 0 to every token of a response of more than ``max_length`` valid tokens.

    Its reward still counts in its group's statistics, as in TRL's ``mask_truncated_completions``.
    """

    name: ClassVar[str] = "length_cap"
    paper: ClassVar[Paper | None] = Paper(
        "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", "2503.14476", "section 3.4"
    )

    max_length: int = param(kind=int, ge=1, doc="Longest response that keeps its advantages, valid tokens.")

    def apply(self, batch: FlatBatch, advantages: Array) -> Array:
        """A_it where the response's length is at most ``max_length``, else 0."""
        return batch.xp.where(batch.to_tokens(batch.lengths <= self.max_length), advantages, 0.0)
