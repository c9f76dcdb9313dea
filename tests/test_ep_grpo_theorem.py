"""Theorem VI.1 of EP-GRPO, on a small softmax policy, and on variants that break it."""

from dataclasses import dataclass

import numpy as np
import pytest
from broken import BlindAnchor, FallingGate
from oracles.ep_grpo import gates, sign
from oracles.grpo import deviation, sequence_advantages

import advantage_zoo as az
from advantage_zoo.estimators import EPGRPO


def theorem(torch, cls, seed):
    """Theorem VI.1: grad sum(A log pi) = gated GRPO gradient + progress_weight grad F, with bucket_norm = scale.

    F = beta / 2 sum Lambda (l - lref)^2 with Lambda = W d_i / (max(std, beta floor) + eps), all held constant.
    """
    rng = np.random.default_rng(seed)
    rows, tokens, states, vocabulary = 6, 5, 4, 7
    policy = torch.tensor(rng.normal(size=(states, vocabulary)), requires_grad=True)
    reference = policy.detach() + 0.5 * torch.tensor(rng.normal(size=(states, vocabulary)))
    state, emitted = (
        torch.tensor(rng.integers(0, states, (rows, tokens))),
        torch.tensor(rng.integers(0, vocabulary, (rows, tokens))),
    )
    mask = torch.tensor(np.arange(tokens) < rng.integers(1, tokens + 1, rows)[:, None])
    rewards, groups = (
        torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 1.0], dtype=torch.float64),
        torch.tensor([0, 0, 0, 0, 1, 1]),
    )

    def log_pi(theta):
        return torch.log_softmax(theta, 1)[state, emitted]

    log_probabilities = torch.log_softmax(policy, 1)
    entropies = -(log_probabilities.exp() * log_probabilities).sum(1)[state]
    batch = az.RolloutBatch(
        rewards=rewards,
        response_mask=mask,
        group_ids=groups,
        num_groups=2,
        logprobs=log_pi(policy),
        ref_logprobs=log_pi(reference),
        entropies=entropies,
    )
    chosen = cls(bucket_norm="scale", progress_weight=0.7, progress_floor=0.3)
    advantages = az.compute_advantages(batch, chosen).values
    (got,) = torch.autograd.grad((advantages * log_pi(policy)).sum(), policy)

    plain = [x.detach().tolist() for x in (rewards, mask, groups, entropies, log_pi(policy), log_pi(reference))]
    r, m, g, h, lp, ref = plain
    grpo = sequence_advantages(r, m, g, chosen.eps, 1)
    gate = gates(h, m, g, chosen.gate_temperature, "group", chosen.eps, False)
    anchor = [sign(a) if group == 0 else sign(x - 0.5) for a, group, x in zip(grpo, g, r, strict=True)]
    cells = {}
    for i, t in gate:
        total = sum(h[i][s] for s in range(tokens) if m[i][s])
        tau = sum(h[i][s] for s in range(t + 1) if m[i][s]) / total
        cell = (g[i], min(int(chosen.num_buckets * tau + 1e-12), chosen.num_buckets - 1))
        cells.setdefault(cell, []).append((i, t))
    weight, gated = np.zeros((rows, tokens)), np.zeros((rows, tokens))
    for members in cells.values():
        spread = deviation([anchor[i] * chosen.beta * (lp[i][t] - ref[i][t]) for i, t in members], 0)
        for i, t in members:
            weight[i, t] = gate[i, t] * anchor[i] / (max(spread, chosen.beta * chosen.progress_floor) + chosen.eps)
            gated[i, t] = gate[i, t] * grpo[i]

    def energy(theta):
        return chosen.beta / 2 * (torch.tensor(weight) * (log_pi(theta) - log_pi(reference)) ** 2).sum()

    (outcome,) = torch.autograd.grad((torch.tensor(gated) * log_pi(policy)).sum(), policy)
    (slope,) = torch.autograd.grad(energy(policy), policy)
    step = torch.zeros_like(policy)
    for place in np.ndindex(states, vocabulary):
        step[place] = 1e-5
        with torch.no_grad():
            difference = (energy(policy + step) - energy(policy - step)) / 2e-5
        assert abs(difference - slope[place]) < 1e-7, "the gradient of F is not its difference quotient"
        step[place] = 0
    error = (got - (outcome + chosen.progress_weight * slope)).abs().max()
    assert error < 1e-10, f"Theorem VI.1: off by {error}"
    assert slope.abs().max() > 1e-3, "Theorem VI.1: a gradient of 0 proves nothing"


@dataclass(frozen=True)
class SubtractsMean(EPGRPO):
    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "bucket_norm", "zscore")


@dataclass(frozen=True)
class UngatedProgress(EPGRPO):
    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "gate_progress", False)


@pytest.mark.parametrize("seed", range(5))
def test_theorem_vi_1(torch, seed):
    theorem(torch, EPGRPO, seed)


@pytest.mark.parametrize("cls", [SubtractsMean, UngatedProgress, BlindAnchor, FallingGate])
def test_theorem_vi_1_catches_a_broken_variant(torch, cls):
    with pytest.raises(AssertionError, match=r"Theorem VI\.1"):
        theorem(torch, cls, 0)
