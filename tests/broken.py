"""Estimators (and computations) broken on purpose: for each law one that its check must catch."""

import itertools
from dataclasses import dataclass

import advantage_zoo as az
from advantage_zoo.arrays import namespace
from advantage_zoo.arrays.namespace import library
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.estimators import EPGRPO, GRPO, DrGRPO
from advantage_zoo.flat import FlatBatch


def estimator(function, needs=(), tokens=False):
    """A parameterless estimator of ``function(batch)``: one number a response, or, with ``tokens``, one a token."""

    @dataclass(frozen=True)
    class Broken(Estimator):
        name = function.__name__

        def compute(self, batch):
            return Advantages(function(batch) if tokens else batch.to_tokens(function(batch)))

    Broken.needs = frozenset(needs)
    return Broken()


def mean(batch, x=None):
    """(B,) mean reward of each response's group, as one would write it in a hurry."""
    x = batch.rewards if x is None else x
    return batch.xp.take(batch.group_sum(x) / batch.xp.clip(batch.group_sizes, 1, None), batch.group_ids)


def raw_padding(batch):
    return batch.row_sum(batch.xp.reshape(batch._batch.logprobs, (-1,)))


def counts_slots(batch):
    return batch.rewards / batch.mask.shape[0]


def slot_position(batch):
    return batch.row_cumsum(batch.xp.ones_like(batch.to_tokens(batch.rewards)))


def neighbours(batch):
    return batch.rewards - batch.xp.roll(batch.rewards, 1)


def batch_mean(batch):
    return batch.rewards - batch.xp.mean(batch.rewards)


def counts_empty_rows(batch):
    xp = batch.xp
    member = batch.group_ids[None, :] == batch.group_ids[:, None]
    ones = xp.astype(member, batch.rewards.dtype)
    return batch.rewards - xp.sum(xp.where(member, batch.rewards[None, :], 0.0), axis=1) / xp.sum(ones, axis=1)


def one_pass(batch):
    xp = batch.xp
    half = batch.rewards * 0.5
    variance = xp.abs(mean(batch, half * half) - mean(batch, half) ** 2)
    return (half - mean(batch, half)) / (xp.sqrt(variance) + 1e-6)


calls = itertools.count()


def remembers(batch):
    return batch.rewards + next(calls)


def depends_on_the_library(batch):
    return batch.rewards * (1.0 if library(batch.rewards) == "numpy" else 1.01)


def reads_back(batch):
    return batch.rewards - float(batch.xp.max(batch.rewards))


def raw(batch):
    return batch.rewards


def centred(batch):
    return batch.rewards - mean(batch)


def rounded_mean(batch):
    # The mean of equal numbers is not always that number, and a small eps makes much of the difference.
    xp = batch.xp
    mean_of_parts = mean(batch, batch.rewards / 49) * 49
    return (batch.rewards - mean_of_parts) / (xp.abs(batch.rewards - mean_of_parts) + 1e-9)


def falls_along_the_response(batch):
    return batch.to_tokens(batch.rewards) / slot_position(batch)


def turned(batch):
    return mean(batch) - batch.rewards


def unbounded(batch):
    return 3 * GRPO().compute(batch).values


def squared(batch):
    return centred(batch) ** 2


@dataclass(frozen=True)
class IgnoresSingleton(DrGRPO):
    def compute(self, batch):
        return DrGRPO().compute(batch)


@dataclass(frozen=True)
class IgnoresMeanOne(EPGRPO):
    def gate(self, batch):
        return super().gate(batch) / 2


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


def unmasked(batch, which):
    """Computes as compute_advantages does, and forgets the mask."""
    flat = FlatBatch(batch, which.needs)
    values = flat.to_tokens(flat.rewards + 1)
    return Advantages(flat.unflatten(values))


def trusting(batch, which):
    """Computes what it is given, whatever it is."""
    flat = FlatBatch(batch, which.needs)
    return Advantages(flat.unflatten(which.compute(flat).values))


def float64_only(batch, which):
    result = az.compute_advantages(batch, which)
    xp = namespace(result.values)
    other = xp.float32 if result.values.dtype == xp.float64 else xp.float64
    return Advantages(xp.astype(result.values, other))


def with_history(batch, which):
    result = az.compute_advantages(batch, which)
    reward = batch.rewards[0]
    return Advantages(result.values + reward * reward)


def writes(batch, which):
    result = az.compute_advantages(batch, which)
    batch.rewards[:] = batch.rewards + 1
    return result


BROKEN = {
    "MASKED_ZERO": [("numpy", GRPO(), unmasked), ("torch", GRPO(), unmasked), ("jax", GRPO(), unmasked)],
    "MASKED_BLIND": [("numpy", estimator(raw_padding, {"logprobs"}), None)],
    "PADDING": [("numpy", estimator(counts_slots), None)],
    "HOLES": [("numpy", estimator(slot_position, tokens=True), None)],
    "PERMUTATION": [("numpy", estimator(neighbours), None)],
    "GROUP_INDEPENDENCE": [("numpy", estimator(batch_mean), None)],
    "EMPTY_ROW": [("numpy", estimator(counts_empty_rows), None)],
    "FINITE": [("torch", estimator(one_pass), None)],
    "NON_FINITE_INPUT": [("numpy", GRPO(), trusting), ("torch", GRPO(), trusting)],
    "PURE": [("numpy", estimator(remembers), None), ("torch", GRPO(), writes)],
    "KIND": [("numpy", GRPO(), float64_only), ("torch", GRPO(), float64_only)],
    "AGREE": [("torch", estimator(depends_on_the_library), None), ("strict", estimator(depends_on_the_library), None)],
    "NO_SYNC": [("torch", estimator(reads_back), None), ("jax", estimator(reads_back), None)],
    "NO_GRAD": [("torch", GRPO(), with_history), ("jax", GRPO(), with_history)],
    "SHIFT": [("numpy", estimator(raw), None)],
    "SCALE": [("numpy", estimator(centred), None)],
    "SCALE_EQUIVARIANT": [("numpy", GRPO(), None)],
    "ZERO_SUM": [("numpy", estimator(raw), None)],
    "DEAD_GROUP_ZERO": [("numpy", estimator(rounded_mean), None), ("torch", estimator(rounded_mean), None)],
    "DEAD_GROUP_ALIVE": [("numpy", GRPO(), None)],
    "UNIFORM": [("numpy", estimator(falls_along_the_response, tokens=True), None)],
    "SIGN": [("numpy", estimator(turned), None)],
    "BOUNDED": [("numpy", estimator(unbounded, tokens=True), None)],
    "MONOTONE": [("numpy", estimator(squared), None)],
    "SINGLETON": [("numpy", IgnoresSingleton(), None)],
    "REDUCES_TO": [("numpy", IgnoresMeanOne(), None)],
}
"""By law: library, estimator, and what computes in the place of compute_advantages."""
