"""R_t = sum over later valid tokens of discount^k r: Williams 1992, Sutton and Barto section 13.3."""

from hypothesis import strategies as st

FIELDS = ("token_rewards",)
discounts = st.sampled_from([0.0, 0.5, 0.9])
PARAMS = st.fixed_dictionaries({}, optional={"discount": discounts})


def dense(rewards, mask, token_rewards):
    """(B, T) rewards of the tokens: their own, or the outcome on the last valid one."""
    if token_rewards is not None:
        return token_rewards
    rows = [[0.0] * len(valid) for valid in mask]
    for row, valid, reward in zip(rows, mask, rewards, strict=True):
        if any(valid):
            row[max(t for t, v in enumerate(valid) if v)] = reward
    return rows


def returns(rows, mask, discount):
    """(B, T) discounted sums from each valid token on; ``discount`` is a number, or one a response."""
    out = []
    for i, (row, valid) in enumerate(zip(rows, mask, strict=True)):
        gamma = discount[i] if isinstance(discount, list) else discount
        so_far, totals = 0.0, [0.0] * len(row)
        for t in reversed(range(len(row))):
            if valid[t]:
                so_far = totals[t] = row[t] + gamma * so_far
        out.append(totals)
    return out


def reinforce(rewards, mask, group_ids, token_rewards, *, discount=1.0):
    return returns(dense(rewards, mask, token_rewards), mask, discount), {}
