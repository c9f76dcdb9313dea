"""A plugin that fails in its hook, after one good estimator."""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo import Advantages, Estimator, hookimpl


@dataclass(frozen=True)
class Salvaged(Estimator):
    name: ClassVar[str] = "salvaged"

    def compute(self, batch):
        return Advantages(batch.to_tokens(batch.rewards))


class Unfrozen(Estimator):
    name = "unfrozen"

    def compute(self, batch):
        return Advantages(batch.to_tokens(batch.rewards))


@hookimpl
def advantage_zoo_register_estimators(register):
    register(Salvaged)
    register(Unfrozen)
