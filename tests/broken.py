"""EP-GRPO broken on purpose: for each of its own laws one that the law's test must catch."""

from dataclasses import dataclass, replace

from advantage_zoo.estimators import EPGRPO


@dataclass(frozen=True)
class NeverStill(EPGRPO):
    def terms(self, batch):
        terms = super().terms(batch)
        return terms._replace(progress=terms.progress + 1e-3 * self.progress_weight)


@dataclass(frozen=True)
class NegativeGate(EPGRPO):
    def gate(self, batch):
        return super().gate(batch) - 0.5

    def terms(self, batch):
        terms = super().terms(batch)
        return terms._replace(outcome=terms.outcome + 0.1 * batch.to_tokens(terms.grpo))


@dataclass(frozen=True)
class GateOfOne(EPGRPO):
    def gate(self, batch):
        return 2 * super().gate(batch)


@dataclass(frozen=True)
class FallingGate(EPGRPO):
    def gate(self, batch):
        return 1 - super().gate(batch)


@dataclass(frozen=True)
class CollapsedAnchor(EPGRPO):
    def anchor(self, batch, advantages, zero_variance):
        return batch.xp.sign(advantages)


@dataclass(frozen=True)
class BlindAnchor(EPGRPO):
    def anchor(self, batch, advantages, zero_variance):
        return batch.xp.ones_like(advantages)


@dataclass(frozen=True)
class ProgressEverywhere(EPGRPO):
    def terms(self, batch):
        return (
            super().terms(batch) if self.progress_groups == "all" else replace(self, progress_groups="all").terms(batch)
        )


@dataclass(frozen=True)
class OnlyEntropy(EPGRPO):
    def terms(self, batch):
        entropy = self.progress_coordinate == "entropy"
        return super().terms(batch) if entropy else replace(self, progress_coordinate="entropy").terms(batch)
