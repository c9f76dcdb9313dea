"""DAPO's overlong penalty against Eq. 13, and together with dynamic sampling."""

import numpy as np
import pytest

import advantage_zoo as az


def batch_of(lengths, rewards, dtype=np.float64, **fields):
    width = max(*lengths, 1)
    return az.RolloutBatch(
        rewards=np.asarray(rewards, dtype=dtype),
        response_mask=np.arange(width)[None, :] < np.asarray(lengths)[:, None],
        group_ids=np.zeros(len(lengths), dtype=int),
        **fields,
    )


def equation_13(length, max_length, cache):
    if length <= max_length - cache:
        return 0.0
    if length <= max_length:
        return ((max_length - cache) - length) / cache
    return -1.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0])
def test_the_penalty_is_equation_13(dtype, weight):
    lengths = list(range(15))
    batch = batch_of(lengths, [1] * 15, dtype)
    shaped = az.transforms.OverlongPenalty(max_length=10, cache_length=4, weight=weight)(batch)
    np.testing.assert_allclose(shaped.rewards, [1 + weight * equation_13(n, 10, 4) for n in lengths], atol=1e-7)
    assert shaped.rewards.dtype == (np.float64 if dtype is np.int64 else dtype)
    assert shaped.extras["task_rewards"] is batch.rewards


def test_a_hole_is_no_length():
    batch = batch_of([6], [1.0])
    batch.response_mask[0, 2] = False
    shaped = az.transforms.OverlongPenalty(max_length=6, cache_length=2)(batch)
    assert shaped.rewards[0] == 0.5  # five emitted tokens


def test_dynamic_sampling_asks_the_task():
    """An all-right group stays all right, however its lengths shape its rewards; twice shaped is asked the same."""
    penalty = az.transforms.OverlongPenalty(max_length=6, cache_length=5)
    batch = batch_of([1, 6, 6, 6], [1.0, 1.0, 1.0, 1.0])
    for shaped in (penalty(batch), penalty(penalty(batch))):
        result = az.compute_advantages(shaped, "dapo")
        assert not result.diagnostics["keep"].any()
        assert result.diagnostics["kept_groups"] == 0
        assert result.values.any()  # the shaped rewards differ, and that is what GRPO's advantage is of
    naive = az.RolloutBatch(
        rewards=penalty(batch).rewards, response_mask=batch.response_mask, group_ids=batch.group_ids
    )
    assert az.compute_advantages(naive, "dapo").diagnostics["keep"].all()


def test_a_reward_that_is_not_finite_is_still_refused():
    shaped = az.transforms.OverlongPenalty(max_length=6, cache_length=5)(batch_of([1, 2], [np.nan, 0.0]))
    with pytest.raises(ValueError, match=r"rewards\[0\] \(row 0\) is nan"):
        az.compute_advantages(shaped, "dapo")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"max_length": 4, "cache_length": 5}, ValueError, "cache_length is 5; expected at most max_length, 4"),
        ({"max_length": 4, "cache_length": 0}, ValueError, "cache_length is 0; expected at least 1"),
        ({"max_length": 4.5, "cache_length": 2}, TypeError, "max_length is 4.5; expected a whole number"),
        ({"max_length": 4, "cache_length": 2, "weight": -1.0}, ValueError, "weight is -1.0; expected at least 0"),
        ({"max_length": 4, "cache_length": 2, "weight": "1"}, TypeError, "weight is '1'; expected a number"),
    ],
)
def test_bad_lengths_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        az.transforms.OverlongPenalty(**arguments)


def test_the_penalty_reaches_token_rewards_at_the_last_valid_token():
    dense = np.array([[0.5, 0.25, 9.0], [0.5, 0.5, 1.0]])
    batch = batch_of([2, 3], [1.0, 1.0], token_rewards=dense)
    shaped = az.transforms.OverlongPenalty(max_length=3, cache_length=2)(batch)
    np.testing.assert_allclose(shaped.token_rewards, [[0.5, -0.25, 9.0], [0.5, 0.5, 0.0]])
    piped = az.compute_advantages(batch, "overlong(3, 2) | reinforce").values
    np.testing.assert_allclose(piped, az.compute_advantages(shaped, "reinforce").values)
    outcome = batch_of([2, 3], [1.0, 1.0])
    np.testing.assert_allclose(az.compute_advantages(outcome, "overlong(3, 2) | reinforce").values[:, 0], [0.5, 0.0])


def signals(seed=0):
    rng = np.random.default_rng(seed)
    shape = (6, 7)
    return az.RolloutBatch(
        rewards=np.array([1.0, 0.0, 0.5, 1.0, 1.0, 0.3]),
        response_mask=(np.arange(7) < np.array([7, 3, 0, 5, 1, 6])[:, None]) & (rng.random(shape) < 0.9),
        group_ids=np.array([0, 1, 0, 1, 2, 0]),
        num_groups=3,
        logprobs=-rng.random(shape),
        ref_logprobs=-rng.random(shape),
        entropies=rng.random(shape),
    )


def values(batch, which, **more):
    return az.compute_advantages(batch, which, **more).values


def test_top_entropy_keeps_the_tokens_of_highest_entropy():
    batch = signals()
    mask, entropies = batch.response_mask, batch.entropies
    count = int(np.ceil(0.2 * mask.sum()))
    edge = np.sort(entropies[mask])[-count]
    kept = mask & (entropies >= edge)
    np.testing.assert_array_equal(values(batch, "grpo | top_entropy(0.2)"), np.where(kept, values(batch, "grpo"), 0))
    np.testing.assert_array_equal(values(batch, "grpo | top_entropy(1)"), values(batch, "grpo"))
    everywhere = batch_of([3, 2], [1.0, 0.0], entropies=np.full((2, 3), 0.7))
    np.testing.assert_array_equal(values(everywhere, "grpo | top_entropy"), values(everywhere, "grpo"))  # ties stay


@pytest.mark.parametrize("weight", ["token", "sequence"])
@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("ddof", [0, 1])
def test_whiten_against_its_definition(weight, centre, ddof):
    batch = signals()
    mask = batch.response_mask
    raw = values(batch, "ep_grpo")
    weights = mask / np.maximum(mask.sum(1, keepdims=True), 1) if weight == "sequence" else mask.astype(float)
    mean = (weights * raw).sum() / weights.sum()
    std = np.sqrt((weights * (raw - mean) ** 2).sum() / (weights.sum() - ddof))
    expected = np.where(mask, (raw - mean * centre) / (std + 1e-8), 0.0)
    spelled = f"ep_grpo | whiten(weight={weight}, centre={centre}, ddof={ddof})"
    np.testing.assert_allclose(values(batch, spelled), expected, atol=1e-12)


def test_whiten_gives_nothing_where_all_are_equal():
    batch = batch_of([3, 2], [0.81593, 0.81593])
    assert not values(batch, "reinforce | whiten").any()


def test_clip_and_length_cap():
    batch = signals()
    raw = values(batch, "ep_grpo")
    np.testing.assert_array_equal(values(batch, "ep_grpo | clip(-0.25, 0.5)"), np.clip(raw, -0.25, 0.5))
    short = batch.response_mask.sum(1) <= 4
    np.testing.assert_array_equal(values(batch, "ep_grpo | length_cap(4)"), np.where(short[:, None], raw, 0))


def test_mix_is_the_weighted_sum():
    batch = signals()
    one, two = values(batch, "grpo"), values(batch, "ep_grpo | clip(-1, 1)")
    np.testing.assert_allclose(values(batch, "mix(grpo, ep_grpo | clip(-1, 1), 0.3)"), 0.3 * one + 0.7 * two)
    mixed = az.compute_advantages(batch, "mix(dapo, ep_grpo)")
    assert {"first.keep", "second.progress_share"} <= set(mixed.diagnostics)


def test_a_schedule_follows_the_step():
    batch = signals()
    scheduled = "ep_grpo(progress_weight=linear(0, 0.2, 200)) | clip(-9, 9)"
    for step, weight in ((0, 0.0), (50, 0.05), (200, 0.2), (10**6, 0.2)):
        expected = values(batch, "ep_grpo", progress_weight=weight)
        np.testing.assert_allclose(values(batch, scheduled, step=step), expected, atol=1e-15)
    with pytest.raises(ValueError, match=r"ep_grpo.progress_weight follows a schedule; pass step="):
        values(batch, scheduled)
    half = values(batch, "ep_grpo(num_buckets=cosine(1, 9, 10))", step=5)
    np.testing.assert_array_equal(half, values(batch, "ep_grpo(num_buckets=5)"))
    weighed = values(batch, "mix(grpo, dr_grpo, cosine(0, 1, 4))", step=4)
    np.testing.assert_array_equal(weighed, values(batch, "grpo"))


SPELLINGS = (
    "overlong(5, 2) | grpo | top_entropy(0.2) | whiten(weight=sequence)",
    "mix(grpo, ep_grpo | clip(-1, 1), 0.3)",
    "ep_grpo@literal | length_cap(4) | whiten",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_pipelines_keep_the_laws_of_estimators(xp, spelling):
    from advantage_zoo.testing import INVARIANTS, check_law

    for law in INVARIANTS.values():
        if law.always:
            check_law(law, az.make(spelling), xp, examples={"numpy": 12, "jax": 1}.get(xp.name, 4))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_pipelines_compile(torch, spelling):
    from advantage_zoo.testing import backend

    chosen, batch = az.make(spelling), backend("torch").batch(signals())
    run = torch.compile(lambda b: az.compute_advantages(b, chosen).values, fullgraph=True, backend="aot_eager")
    np.testing.assert_allclose(run(batch).numpy(), az.compute_advantages(batch, chosen).values.numpy(), atol=1e-12)


def test_rewards_too_large_for_a_sum():
    batch = batch_of([3, 2], [1.7e308, -1.7e308])
    for spelling in ("reinforce | whiten", "mix(reinforce, reinforce)", "overlong(2, 1) | dr_grpo | clip(-1, 1)"):
        assert np.isfinite(values(batch, spelling)).all()


@pytest.mark.parametrize("length", [3, 5, 9, 11])  # whose weights, added up, are a little more or less than 1
def test_one_response_alone_is_whitened_by_its_tokens(length):
    rewards = np.random.default_rng(length).normal(size=(1, length))
    batch = batch_of([length], [0.0], token_rewards=rewards)
    returns = rewards[:, ::-1].cumsum(axis=1)[:, ::-1]
    whitened = az.compute_advantages(batch, "reinforce | whiten(weight=sequence)").values
    np.testing.assert_allclose(whitened, (returns - returns.mean()) / returns.std(), rtol=1e-6)
