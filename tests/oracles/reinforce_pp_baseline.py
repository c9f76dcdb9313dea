"""Group-centred rewards, standardised over the batch. arXiv:2501.03262, Eq. 6-7 and Appendix B.2."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import deviation, eps, mean, members, on_tokens, singletons, with_singletons

PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "eps": eps,
        "ddof": st.integers(0, 1),
        "weighting": st.just("token"),
        "recentre": st.just(False),
        "singleton": singletons,
    },
)


def over_batch(numbers, mask, weighting, eps, ddof, recentre):
    """The numbers (B,) standardised over the batch; a response counts once, or once a valid token."""
    sample = [
        x
        for x, valid in zip(numbers, mask, strict=True)
        for _ in range(sum(valid) if weighting == "token" else any(valid))
    ]
    spread = deviation(sample, ddof) + eps if sample else 0.0
    if not spread:
        return [0.0] * len(numbers)
    middle = mean(sample) if recentre else 0
    return [
        float((Fraction(x) - middle) / Fraction(spread)) if any(v) else 0.0 for x, v in zip(numbers, mask, strict=True)
    ]


def reinforce_pp_baseline(
    rewards, mask, group_ids, *, eps=1e-8, ddof=1, weighting="sequence", recentre=True, singleton="zero"
):
    centred = [Fraction(0)] * len(rewards)
    for group in set(group_ids):
        rows = members(mask, group_ids, group)
        for i in rows:
            centred[i] = Fraction(rewards[i]) - mean([rewards[j] for j in rows])
    centred = with_singletons(centred, rewards, mask, group_ids, singleton)
    return on_tokens(over_batch(centred, mask, weighting, eps, ddof, recentre), mask), {}
