"""Implicit process rewards and outcomes, each less what the others of the group got. arXiv:2502.01456, Eq. 3-5."""

from fractions import Fraction

from hypothesis import strategies as st

from oracles.grpo import members, singletons
from oracles.reinforce import discounts, returns
from oracles.reinforce_pp import whitened

FIELDS = ("logprobs", "ref_logprobs", "process_logprobs")
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "beta": st.sampled_from([0.5, 1.0]),
        "discount": discounts,
        "baseline": st.just("scaled"),
        "process_norm": st.just("batch"),
        "whiten": st.just(True),
        "eps": st.sampled_from([1e-6, 1e-4]),
        "singleton": singletons,
    },
)


def prime(
    rewards,
    mask,
    group_ids,
    logprobs,
    ref_logprobs,
    process_logprobs,
    *,
    beta=0.05,
    discount=1.0,
    baseline="others",
    process_norm="none",
    whiten=False,
    eps=1e-8,
    singleton="zero",
):
    emitted = logprobs if process_logprobs is None else process_logprobs
    p = [[beta * (a - b) for a, b in zip(x, y, strict=True)] for x, y in zip(emitted, ref_logprobs, strict=True)]
    if process_norm == "batch":
        largest = max(abs(x) for row in returns(p, mask, 1.0) for x in row)
        p = [[x / (largest + 1e-6) for x in row] for row in p]
    means = [
        sum(Fraction(x) for x, v in zip(row, valid, strict=True) if v) / max(sum(valid), 1)
        for row, valid in zip(p, mask, strict=True)
    ]
    steps = [[0.0] * len(row) for row in p]
    outcome = [0.0] * len(rewards)
    for i, group in enumerate(group_ids):
        rows = members(mask, group_ids, group)
        n = len(rows)
        if i not in rows:
            continue
        if n == 1:
            if singleton == "raw":
                steps[i], outcome[i] = p[i], rewards[i]
            continue
        others = [j for j in rows if j != i]
        outcome[i] = float(Fraction(rewards[i]) - sum(Fraction(rewards[j]) for j in others) / (n - 1))
        for t, x in enumerate(p[i]):
            if baseline == "others":
                steps[i][t] = float(Fraction(x) - sum(means[j] for j in others) / (n - 1)) if mask[i][t] else 0.0
            else:
                steps[i][t] = (
                    float(Fraction(x) * n / (n - 1) - sum(means[j] for j in rows) / (n - 1)) if mask[i][t] else 0.0
                )
    process = returns(steps, mask, discount)
    total = [[x + outcome[i] if v else 0.0 for x, v in zip(row, mask[i], strict=True)] for i, row in enumerate(process)]
    return (whitened(total, mask, eps, 1) if whiten else total), {}
