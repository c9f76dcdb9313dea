"""A_i = r_i - sum_g L r / sum_g L, L the number of valid tokens. Hao et al., arXiv:2505.23585."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries({}, optional={"singleton": singletons})


def opo(rewards, mask, group_ids, *, singleton="zero"):
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        tokens = [Fraction(rewards[i]) for i in rows for valid in mask[i] if valid]  # a reward for each token
        for i in rows:
            advantages[i] = float(Fraction(rewards[i]) - sum(tokens) / len(tokens))
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
