"""Each reward standardised in its group, the weighted sum over the batch. arXiv:2601.05242, section 3.1."""

from hypothesis import strategies as st

from oracles.grpo import on_tokens, sequence_advantages, singletons, with_singletons
from oracles.reinforce_pp_baseline import over_batch

FIELDS = ("reward_components",)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "weights": st.sampled_from([(1.0, 2.0), (0.25, 1.0), (3.0, -1.0), (0.0, 1.0)]),
        "eps": st.sampled_from([1e-8, 1e-4]),
        "ddof": st.integers(0, 1),
        "whiten": st.just(False),
        "weighting": st.just("token"),
        "singleton": singletons,
    },
)


def total(components, mask, group_ids, weights, group_eps, ddof, singleton):
    sums = [0.0] * len(mask)
    for k, weight in enumerate(weights):
        reward = [row[k] for row in components]
        z = sequence_advantages(reward, mask, group_ids, group_eps, ddof)
        z = with_singletons(z, reward, mask, group_ids, singleton)
        sums = [s + weight * x for s, x in zip(sums, z, strict=True)]
    # Components that cancel leave the rounding of their quotients, here as there.
    return [s if abs(s) > 1e-14 * sum(map(abs, weights)) else 0.0 for s in sums]


def clear(batch, params):
    """Whether no sum is so small that float32 cannot tell it from 0, nor all are so small that noise is magnified."""
    weights = params.get("weights", (1.0, 1.0))
    lists = batch.reward_components.tolist(), batch.response_mask.tolist(), batch.group_ids.tolist()
    sums = total(*lists, weights, params.get("group_eps", 0.0), params.get("ddof", 1), params.get("singleton", "zero"))
    sizes = [abs(s) for s in sums if s]
    return all(s > 1e-4 for s in sizes)


def gdpo(
    rewards,
    mask,
    group_ids,
    components,
    *,
    weights=(),
    eps=1e-6,
    group_eps=0.0,
    ddof=1,
    whiten=True,
    weighting="sequence",
    singleton="zero",
):
    weights = weights or (1.0,) * len(components[0])
    sums = total(components, mask, group_ids, weights, group_eps, ddof, singleton)
    if whiten:
        recentre = weighting == "token" or singleton == "raw"  # else the mean is 0 but for rounding
        sums = over_batch(sums, mask, weighting, eps, ddof, recentre)
    return on_tokens(sums, mask), {}
