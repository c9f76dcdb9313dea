"""GRPO's advantage (Eq. 9) and dynamic sampling: keep the groups with 0 < correct < G (Eq. 11). arXiv:2503.14476."""

from hypothesis import strategies as st

from oracles.grpo import eps, grpo, members, singletons

PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "eps": eps,
        "ddof": st.integers(0, 1),
        "singleton": singletons,
        "reward_threshold": st.sampled_from([0.0, 0.9, -1.0]),
    },
)


def dapo(rewards, mask, group_ids, *, reward_threshold=0.5, task_rewards=None, **params):
    values, _ = grpo(rewards, mask, group_ids, **params)
    task = rewards if task_rewards is None else task_rewards
    keep, kept, groups = [False] * len(rewards), 0, 0
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        correct = sum(task[i] > reward_threshold for i in rows)
        groups += bool(rows)
        if 0 < correct < len(rows):
            kept += 1
            for i in rows:
                keep[i] = True
    return values, {"keep": keep, "kept_groups": kept / groups if groups else 0.0}
