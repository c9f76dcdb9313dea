"""What a third party writes: two estimators and the hook that registers them."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo import Advantages, Estimator, Paper, hookimpl, param


@dataclass(frozen=True)
class CentredReward(Estimator):
    """The reward minus a constant, on every token."""

    name: ClassVar[str] = "centred_reward"
    paper: ClassVar[Paper | None] = Paper("Simple statistical gradient-following algorithms", "cs/9605103")
    claims: ClassVar[frozenset[str]] = frozenset({"UNIFORM"})

    baseline: float = param(0.5, doc="Subtracted from every reward.")

    def compute(self, batch):
        return Advantages(batch.to_tokens(batch.rewards - self.baseline))


@dataclass(frozen=True)
class Surprise(Estimator):
    """The reward times the token's surprisal: needs a per-token field."""

    name: ClassVar[str] = "surprise"
    needs: ClassVar[frozenset[str]] = frozenset({"logprobs"})

    def compute(self, batch):
        values = batch.to_tokens(batch.rewards) * -batch.logprobs
        return Advantages(values, {"largest": batch.xp.max(values)})


@hookimpl
def advantage_zoo_register_estimators(register):
    register(CentredReward)
    register(Surprise)
