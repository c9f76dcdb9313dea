"""verl 0.9.1: the estimators of ``verl/trainer/ppo/core_algos.py``.

verl sums ``token_level_rewards`` over each response and computes in float32. Here they are ``token_rewards`` where the
batch has them, else the outcome at the last valid token.
"""

from dataclasses import dataclass
from typing import ClassVar

from advantage_zoo.arrays import Array, segment_max, segment_sum
from advantage_zoo.estimator import Advantages, param
from advantage_zoo.flat import FlatBatch
from advantage_zoo.frameworks.parts import (
    BatchPreset,
    float32,
    group_counts,
    held,
    spread,
    tokens,
    torch_mean,
    torch_std,
    weights_of,
)
from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.frameworks.torch_order import group_totals, total

VERSION = "verl 0.9.1"
FILE = "verl/trainer/ppo/core_algos.py"
EPS = 1e-6
REWARDS = frozenset({"token_rewards"})
NOISE = "equal rewards leave the rounding of their mean, over 1e-6, where ours is 0"
RAW = "A group of one keeps its raw reward as its advantage, where ours is 0"


def scores(batch: FlatBatch) -> Array:
    """(B,) the sum of a response's rewards."""
    return held(batch, batch.rewards if batch.token_rewards is None else batch.row_sum(batch.token_rewards))


def grouped(batch: FlatBatch) -> Array:
    """(B,) whether a response shares its prompt with another."""
    return group_counts(batch) > 1


def centred(batch: FlatBatch, x: Array) -> Array:
    """(B,) ``x`` minus its group's mean; a group of one has mean 0."""
    return x - batch.xp.where(grouped(batch), torch_mean(batch, x), 0.0)


def normalised(batch: FlatBatch, x: Array) -> Array:
    """(B,) the score of verl's GRPO; a group of one has mean 0 and deviation 1."""
    return centred(batch, x) / (batch.xp.where(grouped(batch), torch_std(batch, x), 1.0) + EPS)


def normalised_one_by_one(batch: FlatBatch, x: Array) -> Array:
    """(B,) :func:`normalised`, with groups added one response after the other, as ``group_mean_std`` adds them."""
    xp, size = batch.xp, group_counts(batch)

    def added(y: Array) -> Array:  # a group of nobody, because one segment alone is not added one by one
        sums = segment_sum(xp.where(batch.nonempty, y, 0.0), batch.group_ids, batch.num_groups + 1)
        return xp.take(sums, batch.group_ids)

    distance = x - added(x) / xp.clip(size, 1)
    std = xp.sqrt(added(distance * distance) / xp.clip(size - 1, 1))
    return xp.where(grouped(batch), distance / (std + EPS), x / (1.0 + EPS))


def whitened(batch: FlatBatch, x: Array) -> Array:
    """(N,) ``x`` by mean and unbiased variance over the batch's valid tokens: ``masked_whiten``; 0 for one token."""
    xp = batch.xp
    valid = batch.counted
    count = xp.sum(float32(batch, valid))
    mean = total(xp.where(valid, x, 0.0)) / xp.where(count > 0, count, 1.0)
    distance = xp.where(valid, x - mean, 0.0)
    variance = total(distance * distance) / xp.where(count > 1, count - 1, 1.0)
    return xp.where(count > 1, distance / xp.sqrt(variance + 1e-8), 0.0)


@dataclass(frozen=True)
class VerlGRPO(Preset):
    """``(r - mean) / (std + 1e-6)``, ddof 1, in float32; ``grpo`` and ``grpo_vectorized``."""

    name: ClassVar[str] = "grpo@verl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:267-330"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = f"{RAW}, so that a prompt with one sample trains plain REINFORCE; {NOISE}."

    vectorized: bool = param(False, doc="As `grpo_vectorized`, which rounds sums of 16 and more otherwise.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """The score on every token."""
        score = normalised_one_by_one if self.vectorized else normalised
        return spread(batch, score(batch, scores(batch)))


@dataclass(frozen=True)
class VerlDrGRPO(Preset):
    """``r - mean`` in float32: ``grpo`` with ``norm_adv_by_std_in_grpo=False``."""

    name: ClassVar[str] = "dr_grpo@verl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:267-330"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        f"{RAW}; `grpo_vectorized` is never told the switch and divides by the deviation all the same."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """The centred score on every token."""
        return spread(batch, centred(batch, scores(batch)))


@dataclass(frozen=True)
class VerlRLOO(Preset):
    """``r n / (n - 1) - mean n / (n - 1)`` in float32, n the group's size."""

    name: ClassVar[str] = "rloo@verl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:587-636"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        f"{RAW}; `rloo_vectorized` gives it 0, so the two trainings differ wherever a prompt is left with one response."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """Reward against the mean of the others."""
        xp, size, r = batch.xp, group_counts(batch), scores(batch)
        others = xp.clip(size - 1, 1)
        # in this order, which decides how far from 0 a float32 reward is rounded
        against = r * size / others - torch_mean(batch, r) * size / others
        return spread(batch, xp.where(grouped(batch), against, r))


@dataclass(frozen=True)
class VerlReinforcePP(BatchPreset):
    """Discounted returns, whitened over the batch's tokens."""

    name: ClassVar[str] = "reinforce_pp@verl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:693-731"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "1e-8 is added to the variance, where ours adds it to the deviation; equal returns leave the rounding of their "
        "mean times 1e4, where ours is 0. A batch of one token is an error, here 0."
    )

    discount: float = param(1.0, ge=0, le=1, doc="A later valid token's weight: `algorithm.gamma`.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """Returns, whitened."""
        returns = batch.row_returns(held(batch, batch.dense_rewards), self.discount)
        return tokens(batch, whitened(batch, returns))


@dataclass(frozen=True)
class VerlReinforcePPBaseline(BatchPreset):
    """``r - mean`` of the group, whitened over the batch's tokens."""

    name: ClassVar[str] = "reinforce_pp_baseline@verl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:533-584"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        f"{RAW} before the whitening. Mean and variance weigh a response by its length, where ours count it once: a "
        "long answer can turn the sign of a short one. A batch of one token is an error, here 0."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """Centred scores, whitened."""
        return tokens(batch, whitened(batch, batch.to_tokens(centred(batch, scores(batch)))))


@dataclass(frozen=True)
class VerlGAE(BatchPreset):
    """Generalised advantages, whitened over the batch's tokens."""

    name: ClassVar[str] = "gae@verl"
    needs: ClassVar[frozenset[str]] = frozenset({"values"})
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:215-263"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "Always whitened, where ours is not. verl leaves the shifted mean in padding, so that sums over whole rows are "
        "not sums over tokens; here padding is 0. A batch of one token is an error, here 0."
    )

    discount: float = param(1.0, ge=0, le=1, doc="A later valid token's weight: `algorithm.gamma`.")
    lam: float = param(1.0, ge=0, le=1, doc="Lambda: `algorithm.lam`.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """Backward from the last valid token; masked tokens are skipped."""
        values = held(batch, batch.values)
        delta = held(batch, batch.dense_rewards) + self.discount * batch.row_next(values) - values
        delta = batch.xp.where(batch.mask, delta, 0.0)
        return tokens(batch, whitened(batch, batch.row_returns(delta, self.discount * self.lam)))


@dataclass(frozen=True)
class VerlReMax(Preset):
    """Sum of the rewards from a token on, minus the reward of the greedy response."""

    name: ClassVar[str] = "remax@verl"
    needs: ClassVar[frozenset[str]] = frozenset({"baseline_rewards"})
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:734-767"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "With an outcome reward it is ours, in float32. With `token_rewards` the whole baseline is taken off what is "
        "still to come: late tokens get too little."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """Return to go, minus the baseline."""
        returns = batch.row_returns(held(batch, batch.dense_rewards))
        return tokens(batch, returns - batch.to_tokens(held(batch, batch.baseline_rewards)))


@dataclass(frozen=True)
class VerlOPO(Preset):
    """``r`` minus the group's mean weighted by length, in float32."""

    name: ClassVar[str] = "opo@verl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:639-690"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = f"{RAW}."

    def compute(self, batch: FlatBatch) -> Advantages:
        """Reward minus the baseline."""
        xp, score, length = batch.xp, scores(batch), float32(batch, batch.lengths)
        baseline = group_totals(batch, length * score) / xp.clip(group_totals(batch, length), 1)
        return spread(batch, score - xp.where(grouped(batch), baseline, 0.0))


@dataclass(frozen=True)
class VerlGPG(BatchPreset):
    """``alpha (r - mean)``, alpha the number of responses over the number whose reward is not 0."""

    name: ClassVar[str] = "gpg@verl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:770-830"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "A group of one brings its raw reward times alpha, where ours is 0. Alpha counts rewards that are not 0, where "
        "the method counts responses that have a gradient: with rewards of -1 and 1 it is 1, and dead groups are never "
        "made up for."
    )

    def compute(self, batch: FlatBatch) -> Advantages:
        """Centred reward times alpha."""
        xp, score = batch.xp, scores(batch)
        counted, other = (xp.sum(float32(batch, x)) for x in (batch.nonempty, batch.nonempty & (score != 0)))
        return spread(batch, counted / xp.clip(other, 1) * centred(batch, score))


@dataclass(frozen=True)
class VerlPassKLeader(Preset):
    """Only the group's best response: the distance to the second best, over ``std + 1e-6``; ``grpo_passk``."""

    name: ClassVar[str] = "passk_leader@verl"
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:471-530"
    uses: ClassVar[frozenset[str]] = REWARDS
    differs: ClassVar[str] = (
        "Divided by the group's deviation, where ours is not: where one of n is right, it gets the root of n, "
        "whatever the margin. A group of one is an error, here 0."
    )

    normalise: bool = param(True, doc="Whether the deviation divides: `algorithm.norm_adv_by_std_in_grpo`.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """The leader's margin on its tokens, 0 elsewhere."""
        xp, score = batch.xp, scores(batch)

        def best(among: Array) -> Array:  # (B,) best score of the response's group
            largest = segment_max(xp.where(among, score, -xp.inf), batch.group_ids, batch.num_groups)
            return xp.take(largest, batch.group_ids)

        leads = batch.nonempty & (score == best(batch.nonempty))
        leaders = xp.take(segment_sum(float32(batch, leads), batch.group_ids, batch.num_groups), batch.group_ids)
        alone = leads & (leaders == 1) & grouped(batch)
        margin = xp.where(alone, score - xp.where(alone, best(batch.nonempty & ~leads), 0.0), 0.0)
        return spread(batch, margin / (torch_std(batch, score) + EPS) if self.normalise else margin)


@dataclass(frozen=True)
class VerlGDPO(BatchPreset):
    """GRPO's score of each reward component, weighted, summed, and whitened over the batch's tokens."""

    name: ClassVar[str] = "gdpo@verl"
    needs: ClassVar[frozenset[str]] = frozenset({"reward_components"})
    framework: ClassVar[str] = VERSION
    source: ClassVar[str] = f"{FILE}:361-468"
    differs: ClassVar[str] = (
        "A group of one brings its raw components, where ours are 0. Whitening weighs a response by its length, where "
        "ours counts it once. A batch of one token is an error, here 0. verl's default trainer hands it neither the "
        "components nor the prompts that it asks for."
    )

    weights: tuple[float, ...] = param((), doc="One a component, 1 each if empty: `algorithm.gdpo_reward_weights`.")

    def compute(self, batch: FlatBatch) -> Advantages:
        """The sum of the scores, whitened."""
        components = held(batch, batch.reward_components)  # (B, K)
        score = batch.xp.zeros_like(components[:, 0])
        for k, weight in enumerate(weights_of(self.name, self.weights, int(components.shape[1]))):
            score = score + weight * normalised(batch, components[:, k])
        return tokens(batch, whitened(batch, batch.to_tokens(score)))
