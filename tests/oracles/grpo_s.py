"""GRPO-S, Eq. 8-9 of Tan et al., arXiv:2508.04349, in exact arithmetic."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import eps, mean, members, on_tokens, singletons, with_singletons
from oracles.gtpo import between, scores, shares

FIELDS = ("entropies",)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "beta1": st.sampled_from([0.0, 0.5, 2.0]),
        "beta2": st.sampled_from([0.0, 1.0]),
        "reward_threshold": st.sampled_from([0.0, 1.0]),
        "zscore": st.just("set"),
        "entropy_low": st.sampled_from([2.0**-10, 0.25]),
        "entropy_high": st.sampled_from([0.5, 2.0]),
        "eps": eps,
        "ddof": st.integers(0, 1),
        "singleton": singletons,
    },
)


def clear(batch, params):
    """Whether the mean entropies within a set are equal or clear of each other: a z-score shows what rounding left."""
    low, high = params.get("entropy_low", 1e-6), params.get("entropy_high", 100.0)
    mask, ids = batch.response_mask.tolist(), batch.group_ids.tolist()
    averages = mean_entropies(batch.entropies.tolist(), mask, low, high)
    for group in set(ids):
        for right in (True, False):
            threshold = params.get("reward_threshold", 0.5)
            mine = [averages[i] for i in members(mask, ids, group) if (batch.rewards[i] > threshold) == right]
            if mine and 0 < max(mine) - min(mine) < max(mine) / 50:
                return False
    return True


def mean_entropies(entropies, mask, low, high):
    valid = [
        [between(h, low, high) for h, v in zip(row, m, strict=True) if v]
        for row, m in zip(entropies, mask, strict=True)
    ]
    return [mean(row) if row else Fraction(0) for row in valid]


def grpo_s(
    rewards,
    mask,
    group_ids,
    entropies,
    *,
    beta1=1.0,
    beta2=0.1,
    reward_threshold=0.5,
    zscore="joint",
    entropy_low=1e-6,
    entropy_high=100.0,
    eps=1e-6,
    ddof=1,
    singleton="zero",
):
    beta1, beta2 = Fraction(beta1), Fraction(beta2)
    averages = mean_entropies(entropies, mask, entropy_low, entropy_high)
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        shaped = {}
        for right in (True, False):
            mine = [i for i in members(mask, group_ids, group) if (rewards[i] > reward_threshold) == right]
            for i, share in zip(mine, shares([averages[i] for i in mine], right), strict=True):
                shaped[i] = beta1 * Fraction(rewards[i]) + beta2 * share if right else -beta1 - beta2 * share
            if zscore == "set" or not right:
                for i, z in zip(shaped, scores(list(shaped.values()), eps, ddof), strict=True):
                    advantages[i] = z
                shaped = {}
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
