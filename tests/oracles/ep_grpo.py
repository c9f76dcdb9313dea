"""EP-GRPO, Eq. 18-26 and Table I of arXiv:2605.04960, token by token; tau in exact arithmetic."""

import math
from fractions import Fraction
from statistics import median

from hypothesis import strategies as st

from oracles.grpo import deviation, eps, mean, members, sequence_advantages

FIELDS = ("entropies", "logprobs", "ref_logprobs")
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "eps": eps,
        "gate_temperature": st.sampled_from([0.0, 1.0, 20.0]),
        "beta": st.sampled_from([0.01, 1.0]),
        "progress_weight": st.sampled_from([0.0, 1.0, 3.0]),
        "num_buckets": st.sampled_from([1, 2, 3, 7, 50]),
        "reward_threshold": st.sampled_from([0.0, 0.9, 1.0]),
        "gate_scope": st.sampled_from(["batch", "sequence"]),
        "bucket_norm": st.just("scale"),
        "gate_progress": st.just(False),
        "gate_mean_one": st.just(True),
        "progress_anchor": st.sampled_from(["advantage", "none"]),
        "progress_coordinate": st.just("position"),
        "progress_groups": st.just("zero_variance"),
        "progress_floor": st.sampled_from([0.0, 0.1]),
    },
)


def clear(batch, params):
    """Whether every token stands on a bucket's edge or clear of it, and every reward on its group's mean or clear."""
    coordinate = params.get("progress_coordinate", "entropy")
    return not near_an_edge(batch, params.get("num_buckets", 10), coordinate) and not near_the_mean(batch)


def near_an_edge(batch, num_buckets, coordinate="entropy"):
    places = [
        tau * num_buckets
        for row in progress(batch.entropies.tolist(), batch.response_mask.tolist(), coordinate)
        for tau in row
        if tau
    ]
    return any(0 < abs(place - round(place)) < Fraction(1, 10**5) * num_buckets for place in places)


def near_the_mean(batch):
    mask, ids = batch.response_mask.tolist(), batch.group_ids.tolist()
    for group in set(ids):
        rewards = [float(batch.rewards[i]) for i in members(mask, ids, group)]
        span = Fraction(max(rewards, default=0)) - Fraction(min(rewards, default=0))
        if any(0 < abs(r - mean(rewards)) < Fraction(1, 10**5) * span for r in map(Fraction, rewards)):
            return True
    return False


def sign(x):
    return (x > 0) - (x < 0)


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def progress(entropies, mask, coordinate="entropy"):
    """tau of each slot, a Fraction (None where masked): Eq. 22-23."""
    taus = []
    for row, valid in zip(entropies, mask, strict=True):
        steps = [Fraction(h) if v else Fraction(0) for h, v in zip(row, valid, strict=True)]
        if sum(steps) == 0 or coordinate == "position":
            steps = [Fraction(bool(v)) for v in valid]
        total = sum(steps)
        taus.append([sum(steps[: t + 1]) / total if v else None for t, v in enumerate(valid)])
    return taus


def gates(entropies, mask, group_ids, temperature, scope, eps, mean_one):
    """W of each valid token, by (row, column): Eq. 18-19."""
    key = {"group": lambda i: group_ids[i], "batch": lambda i: 0, "sequence": lambda i: i}[scope]
    scopes = {}
    for i, row in enumerate(mask):
        for t, valid in enumerate(row):
            if valid:
                scopes.setdefault(key(i), []).append((i, t))
    gate = {}
    for tokens in scopes.values():
        numbers = [entropies[i][t] for i, t in tokens]
        spread = deviation(numbers, 0) + eps
        for i, t in tokens:
            standard = float(Fraction(entropies[i][t]) - mean(numbers)) / spread if spread else 0.0
            gate[i, t] = sigmoid(temperature * standard)
        if mean_one:
            average = math.fsum(gate[token] for token in tokens) / len(tokens)
            for token in tokens:
                gate[token] /= average
    return gate


def ep_grpo(
    rewards,
    mask,
    group_ids,
    entropies,
    logprobs,
    ref_logprobs,
    *,
    eps=1e-6,
    gate_temperature=5.0,
    beta=0.1,
    progress_weight=0.2,
    num_buckets=10,
    reward_threshold=0.5,
    gate_scope="group",
    bucket_norm="zscore",
    gate_progress=True,
    gate_mean_one=False,
    progress_anchor="sign",
    progress_coordinate="entropy",
    progress_groups="all",
    progress_floor=1.0,
):
    grpo = sequence_advantages(rewards, mask, group_ids, eps, 1)
    gate = gates(entropies, mask, group_ids, gate_temperature, gate_scope, eps, gate_mean_one)
    taus = progress(entropies, mask, progress_coordinate)

    dead = {g for g in set(group_ids) if len({rewards[i] for i in members(mask, group_ids, g)}) < 2}
    buckets = {}
    for i, t in gate:
        if progress_anchor == "none":
            anchor = 1.0
        elif group_ids[i] in dead:
            anchor = sign(rewards[i] - reward_threshold)
        else:
            anchor = sign(grpo[i]) if progress_anchor == "sign" else grpo[i]
        signal = beta * (logprobs[i][t] - ref_logprobs[i][t])
        bucket = min(math.floor(num_buckets * taus[i][t]), num_buckets - 1)
        buckets.setdefault((group_ids[i], bucket), {})[i, t] = anchor * signal

    outcome = {(i, t): gate[i, t] * grpo[i] for i, t in gate}
    process = {}
    for tokens in buckets.values():
        numbers = list(tokens.values())
        spread = max(deviation(numbers, 0), beta * progress_floor) + eps
        middle = mean(numbers) if bucket_norm == "zscore" else 0
        for token, oriented in tokens.items():
            z = float(Fraction(oriented) - middle) / spread if spread else 0.0
            silent = progress_groups == "zero_variance" and group_ids[token[0]] not in dead
            process[token] = 0.0 if silent else progress_weight * (gate[token] if gate_progress else 1.0) * z
    values = [
        [outcome.get((i, t), 0.0) + process.get((i, t), 0.0) for t in range(len(row))] for i, row in enumerate(mask)
    ]

    used = {g for g in group_ids if members(mask, group_ids, g)}
    top = sorted((entropies[i][t] for i, t in gate), reverse=True)[: -(-len(gate) // 5)]
    highest = [gate[i, t] for i, t in gate if entropies[i][t] >= top[-1]]
    total = math.fsum(map(abs, outcome.values())) + math.fsum(map(abs, process.values()))
    sizes = [len(tokens) for tokens in buckets.values()]
    return values, {
        "gate_top_entropy": math.fsum(highest) / len(highest) if highest else 0.0,
        "zero_variance_groups": len(dead & used) / len(used) if used else 0.0,
        "progress_share": math.fsum(map(abs, process.values())) / total if total else 0.0,
        "sign_flips": sum(values[i][t] * sign(grpo[i]) < 0 for i, t in gate) / len(gate) if gate else 0.0,
        "bucket_tokens_min": min(sizes, default=0),
        "bucket_tokens_median": median(sizes) if sizes else 0,
    }
