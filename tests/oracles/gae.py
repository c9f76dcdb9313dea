"""A_t = sum_k (gamma lambda)^k delta_(t+k): arXiv:1506.02438, Eq. 16; lambda by length: arXiv:2504.05118, 4.2."""

from hypothesis import strategies as st

from oracles.reinforce import dense, discounts
from oracles.reinforce_pp import whitened

FIELDS = ("values", "token_rewards")
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "discount": discounts,
        "lam": st.sampled_from([0.0, 0.5, 1.0]),
        "length_adaptive_alpha": st.sampled_from([0.05, 0.5, 2.0]),
        "whiten": st.just(True),
        "eps": st.sampled_from([1e-6, 1e-4]),
        "ddof": st.integers(0, 1),
    },
)


def gae(
    rewards,
    mask,
    group_ids,
    values,
    token_rewards,
    *,
    discount=1.0,
    lam=0.95,
    length_adaptive_alpha=0.0,
    whiten=False,
    eps=1e-8,
    ddof=1,
):
    rows = dense(rewards, mask, token_rewards)
    advantages = [[0.0] * len(row) for row in rows]
    for i, valid in enumerate(mask):
        steps = [t for t, v in enumerate(valid) if v]
        if length_adaptive_alpha and steps:
            lam = max(1 - 1 / (length_adaptive_alpha * len(steps)), 0)
        delta = []
        for n, t in enumerate(steps):
            after = values[i][steps[n + 1]] if n + 1 < len(steps) else 0.0
            delta.append(rows[i][t] + discount * after - values[i][t])
        for n, t in enumerate(steps):  # the sum itself, not the recurrence
            advantages[i][t] = sum((discount * lam) ** k * d for k, d in enumerate(delta[n:]))
    return (whitened(advantages, mask, eps, ddof) if whiten else advantages), {}
