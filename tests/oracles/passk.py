"""Pass@k training by drawing every set of k responses: no closed form here. Chen et al., arXiv:2508.10751."""

import math
from fractions import Fraction
from itertools import combinations

from hypothesis import strategies as st

from oracles.grpo import mean, members, on_tokens

PARAMS = st.fixed_dictionaries(
    {}, optional={"k": st.sampled_from([1, 2, 3, 9]), "reward_threshold": st.sampled_from([0.0, 0.9])}
)


def passk(rewards, mask, group_ids, *, k=4, reward_threshold=0.5):
    advantages = [0.0] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        # What a set of k responses gets: 1 if one of them is right. A group of fewer is the only set.
        sets = {
            drawn: int(any(rewards[i] > reward_threshold for i in drawn))
            for drawn in combinations(rows, min(k, len(rows)))
        }
        middle = mean(sets.values())
        variance = mean([(Fraction(passed) - middle) ** 2 for passed in sets.values()])
        for i in rows if variance else ():
            own = mean([passed for drawn, passed in sets.items() if i in drawn])
            advantages[i] = float(own - middle) / math.sqrt(variance)
    return on_tokens(advantages, mask), {}
