"""max r - max of r without i, as in arXiv:2503.19595 with all of the group for k."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import deviation, eps, members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries(
    {}, optional={"normalise": st.just(True), "eps": eps, "ddof": st.integers(0, 1), "singleton": singletons}
)


def passk_leader(rewards, mask, group_ids, *, normalise=False, eps=1e-6, ddof=1, singleton="zero"):
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        for i in rows:
            others = [Fraction(rewards[j]) for j in rows if j != i]
            lead = max(rewards[j] for j in rows) - max(others, default=Fraction(rewards[i]))
            spread = Fraction(deviation([rewards[j] for j in rows], ddof)) + Fraction(eps) if normalise else 1
            advantages[i] = float(lead / spread) if lead else 0.0
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
