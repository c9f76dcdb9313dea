"""A_i = r_i - mean of the others in the group. Ahmadian et al., arXiv:2402.14740."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import mean, members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries({}, optional={"singleton": singletons})


def rloo(rewards, mask, group_ids, *, singleton="zero"):
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        for i in rows:
            others = [rewards[j] for j in rows if j != i]
            advantages[i] = float(Fraction(rewards[i]) - mean(others)) if others else 0.0
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
