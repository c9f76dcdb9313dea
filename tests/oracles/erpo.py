"""ERPO, arXiv:2603.28204, as its readers quote Eq. 7-10, token by token; relative positions in exact arithmetic."""

import math
from fractions import Fraction

from hypothesis import strategies as st

from oracles.ep_grpo import gates, near_the_mean, sign
from oracles.grpo import deviation, eps, mean, sequence_advantages

FIELDS = ("entropies", "logprobs", "ref_logprobs")
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "gate_temperature": st.sampled_from([0.0, 1.0, 20.0]),
        "progress_weight": st.sampled_from([0.0, 1.0, 3.0]),
        "num_buckets": st.sampled_from([1, 2, 3, 7, 50]),
        "beta": st.sampled_from([0.01, 1.0]),
        "progress_floor": st.sampled_from([0.0, 0.1]),
        "eps": eps,
    },
)


def clear(batch, params):
    return not near_the_mean(batch)


def erpo(
    rewards,
    mask,
    group_ids,
    entropies,
    logprobs,
    ref_logprobs,
    *,
    gate_temperature=5.0,
    progress_weight=0.2,
    num_buckets=10,
    beta=0.1,
    progress_floor=1.0,
    eps=1e-6,
):
    grpo = sequence_advantages(rewards, mask, group_ids, eps, 1)
    gate = gates(entropies, mask, group_ids, gate_temperature, "group", eps, False)
    buckets = {}
    for i, row in enumerate(mask):
        valid = [t for t, v in enumerate(row) if v]
        for number, t in enumerate(valid):
            place = math.floor(num_buckets * Fraction(number + 1, len(valid)))
            signal = beta * (logprobs[i][t] - ref_logprobs[i][t])
            buckets.setdefault((group_ids[i], min(place, num_buckets - 1)), {})[i, t] = signal

    outcome, process = {}, {}
    for tokens in buckets.values():
        numbers = list(tokens.values())
        spread = max(deviation(numbers, 0), beta * progress_floor) + eps
        for (i, t), signal in tokens.items():
            z = float(Fraction(signal) - mean(numbers)) / spread if spread else 0.0
            outcome[i, t] = gate[i, t] * grpo[i]
            process[i, t] = progress_weight * gate[i, t] * sign(grpo[i]) * z
    values = [
        [outcome.get((i, t), 0.0) + process.get((i, t), 0.0) for t in range(len(row))] for i, row in enumerate(mask)
    ]
    part, whole = (math.fsum(map(abs, x)) for x in (process.values(), [*outcome.values(), *process.values()]))
    return values, {"progress_share": part / whole if whole else 0.0}
