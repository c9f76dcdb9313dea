"""A_i = (r_i - mean_g r) / (std_batch r + eps). Liu et al., arXiv:2508.08221."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import deviation, eps, mean, members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries({}, optional={"eps": eps, "ddof": st.integers(0, 1), "singleton": singletons})


def lite_ppo(rewards, mask, group_ids, *, eps=1e-6, ddof=1, singleton="zero"):
    advantages = [0.0] * len(rewards)
    spread = Fraction(deviation([r for r, row in zip(rewards, mask, strict=True) if any(row)], ddof)) + Fraction(eps)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        for i in rows:
            distance = Fraction(rewards[i]) - mean([rewards[j] for j in rows])
            advantages[i] = float(distance / spread) if distance else 0.0
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
