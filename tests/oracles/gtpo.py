"""GTPO, Eq. 3, 5 and 6 of Tan et al., arXiv:2508.04349, token by token in exact arithmetic."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import deviation, eps, mean, members

FIELDS = ("entropies",)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "alpha1": st.sampled_from([0.0, 0.5, 2.0]),
        "alpha2": st.sampled_from([0.0, 1.0]),
        "reward_threshold": st.sampled_from([0.0, 1.0]),
        "zscore": st.just("zeros"),
        "entropy_low": st.sampled_from([2.0**-10, 0.25]),
        "entropy_high": st.sampled_from([0.5, 2.0]),
        "eps": eps,
        "ddof": st.integers(0, 1),
    },
)


def scores(numbers, eps, ddof):
    """(x - mean) / (std + eps) of each; 0 where all are equal."""
    if len(set(numbers)) < 2:
        return [0.0] * len(numbers)
    spread = Fraction(deviation(numbers, ddof)) + Fraction(eps)
    return [float((x - mean(numbers)) / spread) if spread else 0.0 for x in numbers]


def between(h, low, high):
    return Fraction(min(max(h, low), high))


def shares(entropies, right):
    """Each one's H (its inverse where wrong) as a share of the sum, times their number."""
    powers = [h if right else 1 / h for h in entropies]
    return [p * len(powers) / sum(powers) for p in powers]


def gtpo(
    rewards,
    mask,
    group_ids,
    entropies,
    *,
    alpha1=1.0,
    alpha2=0.1,
    reward_threshold=0.5,
    zscore="set",
    entropy_low=1e-6,
    entropy_high=100.0,
    eps=1e-6,
    ddof=1,
):
    alpha1, alpha2 = Fraction(alpha1), Fraction(alpha2)
    values = [[0.0] * len(row) for row in mask]
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        places = {i: [t for t, valid in enumerate(mask[i]) if valid] for i in rows}
        shaped = {True: {}, False: {}}  # by whether right, then by (row, column)
        for right, tokens in shaped.items():
            mine = [i for i in rows if (rewards[i] > reward_threshold) == right]
            for number in range(max((len(places[i]) for i in mine), default=0)):
                there = [(i, places[i][number]) for i in mine if number < len(places[i])]
                h = [between(entropies[i][t], entropy_low, entropy_high) for i, t in there]
                for (i, t), share in zip(there, shares(h, right), strict=True):
                    tokens[i, t] = alpha1 * Fraction(rewards[i]) + alpha2 * share if right else -alpha1 - alpha2 * share
        for right, tokens in shaped.items():
            others = [Fraction(0)] * len(shaped[not right]) if zscore == "zeros" else []
            for (i, t), z in zip(tokens, scores([*tokens.values(), *others], eps, ddof), strict=False):
                values[i][t] = z
    return values, {}
