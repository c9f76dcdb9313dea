"""A_i = r_i minus the reward of the greedy response to the same prompt. Li et al., arXiv:2310.10505, Algorithm 1."""

from hypothesis import strategies as st

from oracles.grpo import on_tokens

FIELDS = ("baseline_rewards",)
PARAMS = st.just({})


def remax(rewards, mask, group_ids, baseline_rewards):
    return on_tokens([r - b for r, b in zip(rewards, baseline_rewards, strict=True)], mask), {}
