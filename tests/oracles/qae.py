"""The K-quantile of the group for its mean. Wu et al., arXiv:2509.22611; K is a decimal fraction, taken exactly."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import deviation, eps, members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "quantile": st.sampled_from([0.0, 0.2, 0.25, 1 / 3, 0.5, 0.6, 0.75, 0.9, 1.0]),
        "convention": st.just("linear"),
        "normalise": st.just(False),
        "eps": eps,
        "ddof": st.integers(0, 1),
        "singleton": singletons,
    },
)


def empirical(numbers, share):
    """The smallest number that at least this share of them does not exceed: inf{x: F(x) >= K}."""
    return min(x for x in numbers if sum(y <= x for y in numbers) >= share * len(numbers))


def interpolated(numbers, share):
    """Rank K (n - 1) from 0, between neighbours in proportion."""
    rising = sorted(numbers)
    rank = share * (len(rising) - 1)
    low = rank.numerator // rank.denominator
    high = min(low + 1, len(rising) - 1)
    return rising[low] + (rising[high] - rising[low]) * (rank - low)


def qae(
    rewards,
    mask,
    group_ids,
    *,
    quantile=0.4,
    convention="empirical",
    normalise=True,
    eps=1e-6,
    ddof=1,
    singleton="zero",
):
    share = Fraction(quantile).limit_denominator(1000)
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        numbers = [Fraction(rewards[i]) for i in rows]
        if len(set(numbers)) < 2:
            continue
        baseline = (interpolated if convention == "linear" else empirical)(numbers, share)
        spread = Fraction(deviation([rewards[i] for i in rows], ddof)) + Fraction(eps) if normalise else 1
        for i in rows:
            advantages[i] = float((Fraction(rewards[i]) - baseline) / spread)
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
