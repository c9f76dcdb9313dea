"""A_i = (r_i - mean_g r) / mean_g r where the mean is positive, else 0. Tajwar et al., arXiv:2602.02710."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import mean, members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries({}, optional={"floor": st.sampled_from([0.0, 0.1, 0.5]), "singleton": singletons})


def share(numbers):
    """The mean as a share of the mean absolute reward: 1 where no reward is negative."""
    absolute = sum(abs(Fraction(x)) for x in numbers)
    return sum(map(Fraction, numbers)) / absolute if absolute else Fraction(0)


def clear(batch, params):
    """Whether the mean of every group is clear of the floor, and of 0, where float32 has no digits left."""
    mask, ids = batch.response_mask.tolist(), batch.group_ids.tolist()
    floor = Fraction(params.get("floor", 0.01))
    for group in set(ids):
        found = share([float(batch.rewards[i]) for i in members(mask, ids, group)])
        if 0 < abs(found) < Fraction(1, 50) or 0 < abs(found - floor) < Fraction(1, 10**5):
            return False
    return True


def maxrl(rewards, mask, group_ids, *, floor=0.01, singleton="zero"):
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        numbers = [rewards[i] for i in rows]
        if share(numbers) > Fraction(floor):
            for i in rows:
                advantages[i] = float(Fraction(rewards[i]) / mean(numbers) - 1)
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
