"""The 80/20 rule: only the tokens of highest entropy learn.

Wang et al., "Beyond the 80/20 Rule: High-Entropy Minority Tokens Drive Effective Reinforcement Learning for LLM
Reasoning", arXiv:2506.01939.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import top_share
from advantage_zoo.arrays.namespace import Array
from advantage_zoo.estimator import Paper
from advantage_zoo.flat import FlatBatch
from advantage_zoo.parameters import param
from advantage_zoo.transforms.transform import AdvantageTransform


@dataclass(frozen=True)
class TopEntropy(AdvantageTransform):
    """Keeps the advantages of the batch's valid tokens of highest entropy, ties with the last included; 0 elsewhere."""

    name: ClassVar[str] = "top_entropy"
    needs: ClassVar[frozenset[str]] = frozenset({"entropies"})
    batch_statistics: ClassVar[bool] = True
    paper: ClassVar[Paper | None] = Paper(
        "Beyond the 80/20 Rule: High-Entropy Minority Tokens Drive Effective Reinforcement Learning for LLM Reasoning",
        "2506.01939",
    )

    fraction: float = param(0.2, gt=0, le=1, doc="Share of the batch's valid tokens that keep theirs; the paper: 0.2.")

    def apply(self, batch: FlatBatch, advantages: Array) -> Array:
        """``A_it 1[H_it >= tau]``, tau the entropy that the share's last token has."""
        return batch.xp.where(top_share(batch.entropies, batch.mask, self.fraction), advantages, 0.0)
