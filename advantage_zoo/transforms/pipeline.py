"""Estimators made of others: an estimator with transforms around it, and the mixture of two."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.flat import FlatBatch
from advantage_zoo.parameters import param
from advantage_zoo.transforms.transform import AdvantageTransform, RewardTransform


@dataclass(frozen=True)
class Pipeline(Estimator):
    """``overlong(20480, 4096) | grpo | top_entropy(0.2) | whiten``: from left to right.

    Args:
        before: What shapes the rewards, in order.
        estimator: What makes advantages of them.
        after: What changes the advantages, in order.
    """

    name: ClassVar[str] = "pipeline"

    before: tuple[RewardTransform, ...]
    estimator: Estimator
    after: tuple[AdvantageTransform, ...]

    def __post_init__(self) -> None:
        needs = _union(*(part.needs for part in (*self.before, self.estimator, *self.after)))
        _describe(self, self.spelled(), needs, self.estimator.uses - needs)

    @property
    def batch_statistics(self) -> bool:
        """Whether one of its parts has them."""
        return any(part.batch_statistics for part in (*self.before, self.estimator, *self.after))

    def scheduled(self) -> tuple[str, ...]:
        """Parameters of its parts that follow a schedule."""
        return tuple(key for part in (*self.before, self.estimator, *self.after) for key in part.scheduled())

    def at(self, step: int | None) -> Self:
        """Every part at its parameters of ``step``."""
        if not self.scheduled():  # making an instance cannot be traced
            return self
        before, after = (tuple(part.at(step) for part in parts) for parts in (self.before, self.after))
        return replace(self, before=before, estimator=self.estimator.at(step), after=after)

    def compute(self, batch: FlatBatch) -> Advantages:
        """Each part in turn; the diagnostics are the estimator's."""
        shaped = batch
        for part in self.before:
            shaped = shaped.with_rewards_plus(part.shape(shaped))
        advantages = self.estimator.compute(shaped)
        values = advantages.values
        for part in self.after:
            values = part.apply(shaped, finished(shaped, values))
        return Advantages(values, advantages.diagnostics)

    def spelled(self, *, in_full: bool = False) -> str:
        """Its parts, with a bar between each two."""
        return " | ".join(part.spelled(in_full=in_full) for part in (*self.before, self.estimator, *self.after))


@dataclass(frozen=True)
class Mix(Estimator):
    """``weight A + (1 - weight) B``: the mixture of two estimators."""

    name: ClassVar[str] = "mix"

    first: Estimator = param(kind=Estimator, doc="A, an estimator, with or without transforms.")
    second: Estimator = param(kind=Estimator, doc="B, likewise.")
    weight: float = param(0.5, ge=0, le=1, doc="Lambda, the weight of A.")

    def __post_init__(self) -> None:
        super().__post_init__()
        needs = _union(self.first.needs, self.second.needs)
        _describe(self, self.spelled(), needs, _union(self.first.uses, self.second.uses) - needs)

    @property
    def batch_statistics(self) -> bool:
        """Whether one of the two has them."""
        return self.first.batch_statistics or self.second.batch_statistics

    def scheduled(self) -> tuple[str, ...]:
        """Its weight, and parameters of the two, if they follow a schedule."""
        return (*super().scheduled(), *self.first.scheduled(), *self.second.scheduled())

    def at(self, step: int | None) -> Self:
        """Both, and the weight, at their parameters of ``step``."""
        if not self.scheduled():  # making an instance cannot be traced
            return self
        return replace(super().at(step), first=self.first.at(step), second=self.second.at(step))

    def compute(self, batch: FlatBatch) -> Advantages:
        """The mixture; the diagnostics are those of both, as ``first.key`` and ``second.key``."""
        one, two = (part.compute(batch) for part in (self.first, self.second))
        values = self.weight * finished(batch, one.values) + (1 - self.weight) * finished(batch, two.values)
        keyed = {"first": one.diagnostics, "second": two.diagnostics}
        return Advantages(values, {f"{which}.{k}": x for which, given in keyed.items() for k, x in given.items()})


def finished(batch: FlatBatch, values: Array) -> Array:
    """Advantages (N,), saturated and 0 at masked tokens, so that the next stage need not care."""
    largest = float(batch.xp.finfo(values.dtype).max) / 4  # so that no sum of two overflows
    return batch.xp.where(batch.mask, batch.xp.clip(values, -largest, largest), 0.0)


def _union(*names: frozenset[str]) -> frozenset[str]:
    return frozenset(name for several in names for name in several)


def _describe(estimator: Estimator, name: str, needs: frozenset[str], uses: frozenset[str]) -> None:
    """What a class says of itself, an instance made of others says for itself."""
    for key, value in {"name": name, "needs": needs, "uses": uses}.items():
        object.__setattr__(estimator, key, value)
