"""A_i = r_i - mean_g r. Liu et al., arXiv:2503.20783, section 3.2."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import mean, members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries({}, optional={"singleton": singletons})


def dr_grpo(rewards, mask, group_ids, *, singleton="zero"):
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        for i in rows:
            advantages[i] = float(Fraction(rewards[i]) - mean([rewards[j] for j in rows]))
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
