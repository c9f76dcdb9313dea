"""Claims a name that acme has, a name that is built in, and one of its own."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo import Advantages, Estimator, hookimpl


@dataclass(frozen=True)
class OtherSurprise(Estimator):
    name: ClassVar[str] = "surprise"

    def compute(self, batch):
        return Advantages(batch.to_tokens(batch.rewards * 0 + 7))


@dataclass(frozen=True)
class OtherGRPO(Estimator):
    name: ClassVar[str] = "grpo"

    def compute(self, batch):
        return Advantages(batch.to_tokens(batch.rewards * 0 + 8))


@dataclass(frozen=True)
class Nine(Estimator):
    name: ClassVar[str] = "nine"

    def compute(self, batch):
        return Advantages(batch.to_tokens(batch.rewards * 0 + 9))


@hookimpl
def advantage_zoo_register_estimators(register):
    for estimator in (OtherSurprise, OtherGRPO, Nine):
        register(estimator)
