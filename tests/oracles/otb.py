"""B_t = sum_i G_it W_it / sum_i W_it over the group's responses with a t-th valid token. arXiv:2602.07078."""

import math
from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import members, singletons
from oracles.reinforce import dense, returns

FIELDS = ("logprobs", "sum_pi_squared", "token_rewards")
PARAMS = st.fixed_dictionaries({}, optional={"singleton": singletons})


def otb(rewards, mask, group_ids, logprobs, sum_pi_squared, token_rewards, *, singleton="zero"):
    totals = returns(dense(rewards, mask, token_rewards), mask, 1.0)
    places = [[t for t, v in enumerate(valid) if v] for valid in mask]
    weights = []
    for i, steps in enumerate(places):
        so_far = []
        for t in steps:
            # 1 - 2 pi + sum pi^2; where pi is near 1, not by way of 1 - 2 pi
            energy = math.fsum([sum_pi_squared[i][t], -1.0, -2 * math.expm1(logprobs[i][t])])
            so_far.append((so_far[-1] if so_far else 0.0) + max(energy, 0.0))
        weights.append(so_far)
    values = [[0.0] * len(row) for row in mask]
    for i, steps in enumerate(places):
        for n, t in enumerate(steps):
            rows = [j for j in members(mask, group_ids, group_ids[i]) if len(places[j]) > n]
            if len(rows) == 1:
                values[i][t] = totals[i][t] if singleton == "raw" else 0.0
                continue
            w = [Fraction(weights[j][n]) for j in rows]
            if not sum(w):
                w = [Fraction(1)] * len(rows)
            g = [Fraction(totals[j][places[j][n]]) for j in rows]
            baseline = sum(x * y for x, y in zip(g, w, strict=True)) / sum(w)
            values[i][t] = float(Fraction(totals[i][t]) - baseline)
    return values, {}
