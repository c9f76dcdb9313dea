"""A_it = A_i + min(alpha H_it, |A_i| / kappa). Cheng et al., arXiv:2506.14758, Eq. 5-6."""

from hypothesis import strategies as st

from oracles.grpo import eps, sequence_advantages, singletons, with_singletons

FIELDS = ("entropies",)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "alpha": st.sampled_from([0.0, 0.1, 5.0]),
        "kappa": st.sampled_from([1.5, 10.0]),
        "eps": eps,
        "ddof": st.integers(0, 1),
        "singleton": singletons,
    },
)


def entropy_advantage(rewards, mask, group_ids, entropies, *, alpha=0.4, kappa=2.0, eps=1e-6, ddof=1, singleton="zero"):
    base = sequence_advantages(rewards, mask, group_ids, eps, ddof)
    base = with_singletons(base, rewards, mask, group_ids, singleton)
    return [
        [a + min(alpha * h, abs(a) / kappa) if valid else 0.0 for h, valid in zip(row, valids, strict=True)]
        for a, row, valids in zip(base, entropies, mask, strict=True)
    ], {}
