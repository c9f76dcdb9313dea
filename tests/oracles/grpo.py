"""A_i = (r_i - mean_g r) / (std_g r + eps). Shao et al., arXiv:2402.03300, section 4.1.2."""

import math
from fractions import Fraction

from hypothesis import strategies as st

singletons = st.sampled_from(["zero", "raw"])
eps = st.sampled_from([0.0, 1e-9, 1e-6, 1e-4])
PARAMS = st.fixed_dictionaries({}, optional={"eps": eps, "ddof": st.integers(0, 1), "singleton": singletons})


def members(mask, group_ids, group):
    """The group's responses that have a valid token."""
    return [i for i, g in enumerate(group_ids) if g == group and any(mask[i])]


def mean(numbers):
    return sum(map(Fraction, numbers)) / len(numbers)


def deviation(numbers, ddof):
    """Standard deviation: an exact variance, one rounding."""
    if len(numbers) <= ddof:
        return 0.0
    middle = mean(numbers)
    variance = sum((Fraction(x) - middle) ** 2 for x in numbers) / (len(numbers) - ddof)
    # Scaled by a power of 4, so that a variance below or above what a float holds keeps its root.
    power = 0
    while variance and variance < Fraction(1, 2**200):
        variance, power = variance * 2**200, power - 100
    while variance > 2**200:
        variance, power = variance / 2**200, power + 100
    return math.ldexp(math.sqrt(variance), power)


def sequence_advantages(rewards, mask, group_ids, eps, ddof):
    """(B,) A_i, before any policy for groups of one."""
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        group_rewards = [rewards[i] for i in rows]
        if len(set(group_rewards)) < 2:
            continue
        spread = Fraction(deviation(group_rewards, ddof)) + Fraction(eps)
        for i in rows:
            advantages[i] = float((Fraction(rewards[i]) - mean(group_rewards)) / spread)
    return advantages


def with_singletons(advantages, rewards, mask, group_ids, policy):
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        if len(rows) == 1:
            if policy == "raise":
                raise ValueError(f"group {group} has one response")
            advantages[rows[0]] = rewards[rows[0]] if policy == "raw" else 0.0
    return advantages


def on_tokens(advantages, mask):
    return [[a if valid else 0.0 for valid in row] for a, row in zip(advantages, mask, strict=True)]


def grpo(rewards, mask, group_ids, *, eps=1e-6, ddof=1, singleton="zero"):
    advantages = sequence_advantages(rewards, mask, group_ids, eps, ddof)
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
