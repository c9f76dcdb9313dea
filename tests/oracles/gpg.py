"""A_i = alpha (r_i - mean_g r), alpha = B / (B - M), M responses without gradient. Chu et al., arXiv:2504.02546."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import mean, members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries({}, optional={"alpha": st.sampled_from(["reward", "one"]), "singleton": singletons})


def gpg(rewards, mask, group_ids, *, alpha="gradient", singleton="zero"):
    distance = [Fraction(0)] * len(rewards)
    with_gradient = with_reward = total = 0
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        for i in rows:
            distance[i] = Fraction(rewards[i]) - mean([rewards[j] for j in rows])
        total += len(rows)
        with_gradient += len(rows) if len({rewards[i] for i in rows}) > 1 else 0
        with_reward += sum(rewards[i] != 0 for i in rows)
    counted = {"gradient": with_gradient, "reward": with_reward, "one": total}[alpha]
    factor = Fraction(total, max(counted, 1)) if total else 1
    advantages = [float(factor * d) for d in distance]
    return on_tokens(with_singletons(advantages, rewards, mask, group_ids, singleton), mask), {}
