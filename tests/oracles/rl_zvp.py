"""GRPO; in a group of equal rewards alpha H_t if right, -alpha (max H - H_t) if wrong. Le et al., arXiv:2509.21880."""

from hypothesis import strategies as st

from oracles.grpo import eps, members, on_tokens, sequence_advantages

FIELDS = ("entropies",)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "alpha": st.sampled_from([0.0, 1.0, 30.0]),
        "reward_threshold": st.sampled_from([0.0, 1.0]),
        "eps": eps,
        "ddof": st.integers(0, 1),
    },
)


def rl_zvp(rewards, mask, group_ids, entropies, *, alpha=0.1, reward_threshold=0.5, eps=1e-6, ddof=1):
    values = on_tokens(sequence_advantages(rewards, mask, group_ids, eps, ddof), mask)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        if len({rewards[i] for i in rows}) != 1:
            continue
        for i in rows:
            valid = [t for t, v in enumerate(mask[i]) if v]
            highest = max(entropies[i][t] for t in valid)
            for t in valid:
                h = entropies[i][t]
                values[i][t] = alpha * h if rewards[i] > reward_threshold else -alpha * (highest - h)
    return values, {}
