"""The discounted return, standardised over the batch's valid tokens. arXiv:2501.03262, Eq. 4-5."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import deviation, eps, mean
from oracles.reinforce import discounts, reinforce

FIELDS = ("token_rewards",)
PARAMS = st.fixed_dictionaries({}, optional={"discount": discounts, "eps": eps, "ddof": st.integers(0, 1)})


def whitened(rows, mask, eps, ddof):
    """Every valid number less their mean, by their deviation."""
    numbers = [x for row, valid in zip(rows, mask, strict=True) for x, v in zip(row, valid, strict=True) if v]
    spread = deviation(numbers, ddof) + eps if numbers else 0.0
    if not spread:
        return [[0.0] * len(row) for row in rows]
    middle = mean(numbers)
    return [
        [float((Fraction(x) - middle) / Fraction(spread)) if v else 0.0 for x, v in zip(row, valid, strict=True)]
        for row, valid in zip(rows, mask, strict=True)
    ]


def reinforce_pp(rewards, mask, group_ids, token_rewards, *, discount=1.0, eps=1e-8, ddof=1):
    values, _ = reinforce(rewards, mask, group_ids, token_rewards, discount=discount)
    return whitened(values, mask, eps, ddof), {}
