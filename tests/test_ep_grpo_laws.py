"""The laws of EP-GRPO. Each is a function of an estimator's class, held by ours and broken by a variant of it."""

from dataclasses import replace

import numpy as np
import pytest
from broken import (
    BlindAnchor,
    CollapsedAnchor,
    FallingGate,
    GateOfOne,
    NegativeGate,
    NeverStill,
    OnlyEntropy,
    ProgressEverywhere,
)
from conftest import library
from hypothesis import HealthCheck, given, settings

import advantage_zoo as az
from advantage_zoo.arrays import segment_sum
from advantage_zoo.estimators import EPGRPO, GRPO
from advantage_zoo.estimators import ep_grpo as module
from advantage_zoo.flat import FlatBatch
from advantage_zoo.testing import rollouts
from advantage_zoo.testing.broken import IgnoresMeanOne
from advantage_zoo.testing.layouts import fill_masked


def values(xp, batch, estimator):
    return xp.asnumpy(az.compute_advantages(xp.batch(batch), estimator).values)


def gate_of(xp, batch, estimator):
    """(B, T) W, as the estimator computes it."""
    flat = FlatBatch(xp.batch(batch), estimator.needs)
    return xp.asnumpy(flat.unflatten(estimator.gate(flat)))


def close(law, got, expected, tolerance=1e-10):
    worst = float(np.max(np.abs(got - expected), initial=0))
    assert worst <= tolerance * max(1.0, float(np.max(np.abs(expected), initial=0))), f"{law}: off by {worst}"


def dead(batch, reward):
    return replace(batch, rewards=np.full(batch.rewards.shape, reward))


def no_divergence_no_progress(xp, cls, batch):
    at_reference = replace(batch, ref_logprobs=batch.logprobs)
    got = values(xp, at_reference, cls(progress_floor=0.0, eps=0.0))
    expected = values(xp, at_reference, cls(progress_floor=0.0, eps=0.0, progress_weight=0.0))
    assert np.array_equal(got, expected), "l = lref: the progress term is not exactly 0"
    gated = gate_of(xp, at_reference, cls()) * values(xp, at_reference, GRPO())
    close("l = lref: the result is the gated GRPO", values(xp, at_reference, cls()), gated)


def no_weight_is_gated_grpo(xp, cls, batch):
    got, grpo = values(xp, batch, cls(progress_weight=0.0)), values(xp, batch, GRPO())
    close("progress_weight = 0: W * GRPO", got, gate_of(xp, batch, cls()) * grpo)
    assert not (got * grpo < 0).any(), "progress_weight = 0: another sign than GRPO's"


def no_temperature_halves_grpo(xp, cls, batch):
    got = values(xp, batch, cls(gate_temperature=0.0, progress_weight=0.0))
    close("gate_temperature = 0: half of GRPO", got, values(xp, batch, GRPO()) / 2)


def gate_mean_one_restores_grpo(xp, cls, batch):
    got = values(xp, batch, cls(gate_temperature=0.0, progress_weight=0.0, gate_mean_one=True))
    close("gate_mean_one at temperature 0 and weight 0: GRPO", got, values(xp, batch, GRPO()))


def gate_mean_one_has_mean_one(xp, cls, batch):
    for scope in ("group", "batch", "sequence"):
        gate = gate_of(xp, batch, cls(gate_mean_one=True, gate_scope=scope))
        keys = {"group": batch.group_ids, "batch": batch.group_ids * 0, "sequence": np.arange(len(batch.rewards))}[
            scope
        ]
        for key in set(keys.tolist()):
            tokens = gate[(keys == key)[:, None] & batch.response_mask]
            assert len(tokens) == 0 or abs(tokens.mean() - 1) < 1e-9, f"gate_mean_one over {scope}: {tokens.mean()}"


def zero_variance_is_alive(xp, cls, batch):
    """Each response diverges by an amount of its own, so the last tokens of two differ."""
    reward = float(batch.rewards[0] > 0)
    away = batch.logprobs - 0.5 - np.arange(len(batch.rewards))[:, None]
    here = replace(dead(batch, reward), ref_logprobs=away)
    got = values(xp, here, cls())
    assert not values(xp, here, GRPO()).any(), "zero variance: GRPO is not exactly 0"
    rows = batch.response_mask.any(axis=1)
    for group in set(batch.group_ids.tolist()):
        mine = rows & (batch.group_ids == group)
        assert mine.sum() < 2 or got[mine].any(), "zero variance: no advantage"


def right_and_wrong_are_opposite(xp, cls, batch):
    for norm in ("zscore", "scale"):
        right, wrong = (values(xp, dead(batch, r), cls(bucket_norm=norm)) for r in (1.0, 0.0))
        close("all right and all wrong: opposite progress terms", right, -wrong)
    scaled = values(xp, dead(batch, 1.0), cls(bucket_norm="scale"))
    toward = np.where(batch.response_mask, batch.logprobs - batch.ref_logprobs, 0.0)
    assert not (scaled * toward < 0).any(), "all right: pulled back to the reference"


def gate_rises_with_entropy(xp, cls, batch):
    for scope in ("group", "batch", "sequence"):
        gate = gate_of(xp, batch, cls(gate_scope=scope))
        keys = {"group": batch.group_ids, "batch": batch.group_ids * 0, "sequence": np.arange(len(batch.rewards))}[
            scope
        ]
        for key in set(keys.tolist()):
            mine = (keys == key)[:, None] & batch.response_mask
            order = np.argsort(batch.entropies[mine], kind="stable")
            assert (np.diff(gate[mine][order]) >= -1e-12).all(), f"the gate falls with H within {scope}"


def zero_variance_only(xp, cls, batch):
    got = values(xp, batch, cls(progress_groups="zero_variance"))
    everywhere, nowhere = values(xp, batch, cls()), values(xp, batch, cls(progress_weight=0.0))
    for group in set(batch.group_ids.tolist()):
        mine = batch.group_ids == group
        rewards = batch.rewards[mine & batch.response_mask.any(axis=1)]
        equal = len(set(rewards.tolist())) < 2
        assert np.array_equal(got[mine], (everywhere if equal else nowhere)[mine]), "progress_groups: another group's"


def position_needs_no_entropy(xp, cls, batch):
    """Without a gate, entropies decide on nothing but the progress."""
    free = cls(gate_temperature=0.0, progress_coordinate="position", num_buckets=3)
    got = values(xp, batch, free)
    length = np.arange(1, batch.response_mask.shape[1] + 1)
    for entropies in (np.ones(batch.response_mask.shape), np.broadcast_to(length, batch.response_mask.shape) ** 2.0):
        assert np.array_equal(got, values(xp, replace(batch, entropies=entropies), free)), "position: entropies matter"


LAWS = {
    zero_variance_only: ProgressEverywhere,
    position_needs_no_entropy: OnlyEntropy,
    no_divergence_no_progress: NeverStill,
    no_weight_is_gated_grpo: NegativeGate,
    no_temperature_halves_grpo: GateOfOne,
    gate_mean_one_restores_grpo: IgnoresMeanOne,
    gate_mean_one_has_mean_one: IgnoresMeanOne,
    zero_variance_is_alive: CollapsedAnchor,
    right_and_wrong_are_opposite: BlindAnchor,
    gate_rises_with_entropy: FallingGate,
}


def hold(law, subject, name):
    xp = library(name)

    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(rollouts())
    def check(batch):
        law(xp, subject, fill_masked(batch, 0.0))

    check()


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds(law, name):
    hold(law, EPGRPO, name)


@pytest.mark.parametrize("law", LAWS)
def test_the_law_catches_the_broken_variant(law):
    with pytest.raises(AssertionError):
        hold(law, LAWS[law], "numpy")


def tau_rises_to_one(xp, progress, batch):
    flat = FlatBatch(xp.batch(batch), EPGRPO.needs)
    tau = xp.asnumpy(flat.unflatten(progress(flat)))
    for row, mask in zip(tau, batch.response_mask, strict=True):
        valid = row[mask]
        assert (np.diff(valid) >= 0).all(), f"tau falls: {valid}"
        assert len(valid) == 0 or valid[-1] == 1.0, f"tau ends at {valid}"
        assert ((valid >= 0) & (valid <= 1)).all(), f"tau leaves [0, 1]: {valid}"


def tau_by_slot(flat):
    """Broken on purpose: the share of the slots, masked or not."""
    return flat.row_cumsum(flat.to_tokens(flat.rewards * 0 + 1.0)) / flat._batch.response_mask.shape[1]


def tau_by_sum(flat):
    """Broken on purpose: the total is another sum than the running one, so the end is not always 1."""
    total = flat.to_tokens(segment_sum(flat.entropies * 0.1, flat.row_ids, flat.num_rows)) * 10
    return flat.row_cumsum(flat.entropies) / flat.xp.where(total > 0, total, 1.0)


@pytest.mark.parametrize("name", ["numpy", "torch", "strict"])
def test_tau_rises_to_exactly_one(name):
    hold(tau_rises_to_one, module.progress, name)


@pytest.mark.parametrize("progress", [tau_by_slot, tau_by_sum])
def test_the_law_of_tau_catches_a_broken_one(progress):
    with pytest.raises(AssertionError):
        hold(tau_rises_to_one, progress, "numpy")
