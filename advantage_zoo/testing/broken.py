"""Estimators, and computations, broken on purpose: for each law one or more that its check must catch.

A check that cannot fail is worth nothing. ``BROKEN`` is the proof, and a quarry for tests of checks of your own:

    for case in BROKEN["SHIFT"]:
        with pytest.raises(AssertionError):
            check_law(INVARIANTS["SHIFT"], case.estimator, backend(case.backend), compute=case.compute)
"""

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from advantage_zoo.arrays.namespace import Array, library, namespace
from advantage_zoo.batch import RolloutBatch
from advantage_zoo.compute import compute_advantages
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.estimators.dr_grpo import DrGRPO
from advantage_zoo.estimators.ep_grpo import EPGRPO
from advantage_zoo.estimators.grpo import GRPO
from advantage_zoo.flat import FlatBatch
from advantage_zoo.testing.trial import Compute


class Case(NamedTuple):
    """What a check must catch, and where."""

    backend: str
    estimator: Estimator
    compute: Compute = compute_advantages


def broken(function: Callable[[FlatBatch], Array], needs: tuple[str, ...] = (), *, tokens: bool = False) -> Estimator:
    """A parameterless estimator of ``function``: one number a response, or, with ``tokens``, one a token."""

    @dataclass(frozen=True)
    class Broken(Estimator):
        name: ClassVar[str] = function.__name__

        def compute(self, batch: FlatBatch) -> Advantages:
            return Advantages(function(batch) if tokens else batch.to_tokens(function(batch)))

    Broken.needs = frozenset(needs)
    return Broken()


# --- one formula each, as somebody in a hurry would write it


def group_mean(batch: FlatBatch, x: Array) -> Array:
    """(B,) mean of ``x`` over each response's group."""
    return batch.xp.take(batch.group_sum(x) / batch.xp.clip(batch.group_sizes, 1), batch.group_ids)


def raw(batch: FlatBatch) -> Array:
    """The reward, without a baseline."""
    return batch.rewards


def centred(batch: FlatBatch) -> Array:
    """The reward minus the group's mean."""
    return batch.rewards - group_mean(batch, batch.rewards)


def raw_padding(batch: FlatBatch) -> Array:
    """Sums what stands in masked slots as well."""
    x: Array = batch._batch.logprobs  # pyright: ignore[reportPrivateUsage]
    return batch.row_sum(batch.xp.reshape(x, (-1,)))


def counts_slots(batch: FlatBatch) -> Array:
    """Divides by the number of slots."""
    return batch.rewards / batch.mask.shape[0]


def slot_position(batch: FlatBatch) -> Array:
    """Counts masked slots."""
    return batch.row_cumsum(batch.xp.ones_like(batch.to_tokens(batch.rewards)))


def neighbours(batch: FlatBatch) -> Array:
    """Compares with the row above."""
    return batch.rewards - batch.xp.roll(batch.rewards, 1)


def batch_mean(batch: FlatBatch) -> Array:
    """Subtracts the batch's mean, and does not say so."""
    return batch.rewards - batch.xp.mean(batch.rewards)


def counts_empty_rows(batch: FlatBatch) -> Array:
    """Takes the mean over empty responses as well."""
    xp = batch.xp
    member = batch.group_ids[None, :] == batch.group_ids[:, None]
    ones = xp.astype(member, batch.rewards.dtype)
    return batch.rewards - xp.sum(xp.where(member, batch.rewards[None, :], 0.0), axis=1) / xp.sum(ones, axis=1)


def one_pass(batch: FlatBatch) -> Array:
    """E[x^2] - E[x]^2."""
    xp = batch.xp
    half = batch.rewards * 0.5
    variance = xp.abs(group_mean(batch, half * half) - group_mean(batch, half) ** 2)
    return (half - group_mean(batch, half)) / (xp.sqrt(variance) + 1e-6)


_calls = itertools.count()


def remembers(batch: FlatBatch) -> Array:
    """Gives more at each call."""
    return batch.rewards + next(_calls)


def depends_on_the_library(batch: FlatBatch) -> Array:
    """NumPy is always right."""
    return batch.rewards * (1.0 if library(batch.rewards) == "numpy" else 1.01)


def reads_back(batch: FlatBatch) -> Array:
    """Asks the device for a number."""
    return batch.rewards - float(batch.xp.max(batch.rewards))


def rounded_mean(batch: FlatBatch) -> Array:
    """The mean of equal numbers is not always that number, and a small eps makes much of the difference."""
    mean_of_parts = group_mean(batch, batch.rewards / 49) * 49
    return (batch.rewards - mean_of_parts) / (batch.xp.abs(batch.rewards - mean_of_parts) + 1e-9)


def falls_along_the_response(batch: FlatBatch) -> Array:
    """The reward, less for later tokens."""
    return batch.to_tokens(batch.rewards) / slot_position(batch)


def turned(batch: FlatBatch) -> Array:
    """The group's mean minus the reward."""
    return -centred(batch)


def unbounded(batch: FlatBatch) -> Array:
    """Three times GRPO."""
    return 3 * GRPO().compute(batch).values


def squared(batch: FlatBatch) -> Array:
    """Punishes what is best as it does what is worst."""
    return centred(batch) ** 2


@dataclass(frozen=True)
class IgnoresSingleton(DrGRPO):
    """Has the parameter ``singleton`` and does not look at it."""

    def compute(self, batch: FlatBatch) -> Advantages:
        """Dr. GRPO at its defaults."""
        return DrGRPO().compute(batch)


@dataclass(frozen=True)
class IgnoresMeanOne(EPGRPO):
    """Its gate has mean 1/2 where 1 is asked for."""

    def gate(self, batch: FlatBatch) -> Array:
        """Half of the gate."""
        return super().gate(batch) / 2


# --- computations that break what compute_advantages keeps for every estimator


def unmasked(batch: RolloutBatch, which: Estimator) -> Advantages:
    """Forgets the mask."""
    flat = FlatBatch(batch, which.needs)
    return Advantages(flat.unflatten(flat.to_tokens(flat.rewards + 1)))


def trusting(batch: RolloutBatch, which: Estimator) -> Advantages:
    """Computes what it is given, whatever it is."""
    flat = FlatBatch(batch, which.needs)
    return Advantages(flat.unflatten(which.compute(flat).values))


def other_dtype(batch: RolloutBatch, which: Estimator) -> Advantages:
    """Gives back another dtype than it was given."""
    result = compute_advantages(batch, which)
    xp = namespace(result.values)
    return Advantages(xp.astype(result.values, xp.float32 if result.values.dtype == xp.float64 else xp.float64))


def with_history(batch: RolloutBatch, which: Estimator) -> Advantages:
    """Lets a gradient through."""
    result = compute_advantages(batch, which)
    return Advantages(result.values + batch.rewards[0] * batch.rewards[0])


def writes(batch: RolloutBatch, which: Estimator) -> Advantages:
    """Writes to its input."""
    result = compute_advantages(batch, which)
    rewards: Any = batch.rewards
    rewards[:] = rewards + 1
    return result


def untraceable(batch: FlatBatch) -> Array:
    """Does what a compiler cannot follow."""
    sys.stdout.flush()
    return batch.rewards


BROKEN: dict[str, tuple[Case, ...]] = {
    "MASKED_ZERO": tuple(Case(name, GRPO(), unmasked) for name in ("numpy", "torch", "jax")),
    "MASKED_BLIND": (Case("numpy", broken(raw_padding, ("logprobs",))),),
    "PADDING": (Case("numpy", broken(counts_slots)),),
    "HOLES": (Case("numpy", broken(slot_position, tokens=True)),),
    "PERMUTATION": (Case("numpy", broken(neighbours)),),
    "GROUP_INDEPENDENCE": (Case("numpy", broken(batch_mean)),),
    "EMPTY_ROW": (Case("numpy", broken(counts_empty_rows)),),
    "FINITE": (Case("torch", broken(one_pass)),),
    "NON_FINITE_INPUT": (Case("numpy", GRPO(), trusting), Case("torch", GRPO(), trusting)),
    "PURE": (Case("numpy", broken(remembers)), Case("torch", GRPO(), writes)),
    "KIND": (Case("numpy", GRPO(), other_dtype), Case("torch", GRPO(), other_dtype)),
    "AGREE": (
        *(Case(name, broken(depends_on_the_library)) for name in ("torch", "strict")),
        Case("torch", broken(untraceable)),
    ),
    "NO_SYNC": tuple(Case(name, broken(reads_back)) for name in ("torch", "jax")),
    "NO_GRAD": tuple(Case(name, GRPO(), with_history) for name in ("torch", "jax")),
    "SHIFT": (Case("numpy", broken(raw)),),
    "SCALE": (Case("numpy", broken(centred)),),
    "SCALE_EQUIVARIANT": (Case("numpy", GRPO()),),
    "ZERO_SUM": (Case("numpy", broken(raw)),),
    "DEAD_GROUP_ZERO": tuple(Case(name, broken(rounded_mean)) for name in ("numpy", "torch")),
    "DEAD_GROUP_ALIVE": (Case("numpy", GRPO()),),
    "UNIFORM": (Case("numpy", broken(falls_along_the_response, tokens=True)),),
    "SIGN": (Case("numpy", broken(turned)),),
    "BOUNDED": (Case("numpy", broken(unbounded, tokens=True)),),
    "MONOTONE": (Case("numpy", broken(squared)),),
    "SINGLETON": (Case("numpy", IgnoresSingleton()),),
    "REDUCES_TO": (Case("numpy", IgnoresMeanOne()),),
}
"""By law: what its check must catch."""
