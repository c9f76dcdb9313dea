"""The numerics rules of design.md, on every library."""

import math

import numpy as np
import pytest

import advantage_zoo as az
from advantage_zoo.arrays import bucket_indices, segment_quantile, top_share
from advantage_zoo.estimators import GRPO


def group(xp, rewards, dtype="float64", ids=None, num_groups=None, which="grpo", **params):
    """(B,) advantages of one-token responses."""
    rewards = np.asarray(rewards, dtype=float)
    ids = np.zeros(len(rewards), int) if ids is None else ids
    mask = np.ones((len(rewards), 1), bool)
    batch = az.RolloutBatch(
        rewards=rewards, response_mask=mask, group_ids=ids, num_groups=num_groups or int(ids.max()) + 1
    )
    return xp.asnumpy(az.compute_advantages(xp.batch(batch, dtype), which, **params).values)[:, 0]


def test_sums_of_narrow_floats_are_wide(xp):
    """4,096 ones in bfloat16 or float16 sum to 4,096, not to 256 or 2,048."""
    for dtype in xp.dtypes:
        rewards = np.concatenate([np.ones(4096), np.zeros(4096)])
        got = group(xp, rewards, dtype, eps=0.0, ddof=0)
        np.testing.assert_allclose(got[[0, -1]], [1, -1], rtol=1e-2)


def test_the_golden_group(xp):
    np.testing.assert_allclose(group(xp, [1, 0, 0, 0]), [1.499997, -0.499999, -0.499999, -0.499999], atol=5e-7)
    np.testing.assert_allclose(group(xp, [1, 0, 0, 0], eps=1e-4)[:2], [1.4997, -0.4999], atol=5e-5)
    np.testing.assert_allclose(group(xp, [1, 0, 0, 0], ddof=0)[:2], [1.732047, -0.577349], atol=2e-6)
    np.testing.assert_allclose(group(xp, [1, 0, 0, 0], eps=1e-9)[:2], [1.5, -0.5], atol=1e-7)


@pytest.mark.parametrize("reward", [0.81593, 1.2, 0.1, 1e30, 1 / 3])
@pytest.mark.parametrize("which", ["grpo", "dr_grpo", "dapo"])
def test_equal_rewards_give_exactly_zero(xp, which, reward):
    params = {} if which == "dr_grpo" else {"eps": 1e-9}
    for dtype in xp.dtypes:
        if dtype != "float16" or reward < 6e4:
            assert not group(xp, [reward] * 64, dtype, which=which, **params).any()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_small_differences_on_a_large_offset(xp, dtype):
    """A one-pass variance would lose all of it."""
    step = 8.0  # float32 counts in eights at 1e8
    got = group(xp, 1e8 + step * np.array([1.0, 0, 0, 0]), dtype)
    np.testing.assert_allclose(got, [1.5, -0.5, -0.5, -0.5], rtol=1e-5)


def test_a_broken_reward_is_refused_where_it_can_be_read(xp):
    with pytest.raises(ValueError, match=r"rewards\[1\] \(row 1\) is inf"):
        group(xp, [0.0, math.inf, 1.0])


def test_num_groups_may_be_larger_than_what_is_used(xp):
    few, many = (group(xp, [1, 0, 0.5, 2], ids=np.array([0, 3, 0, 3]), num_groups=n) for n in (4, 50))
    np.testing.assert_array_equal(few, many)


def test_float32_under_jax_without_x64(jax):
    """The default of JAX: float32, int32, and no warning of a truncated dtype."""
    batch = az.RolloutBatch(
        rewards=jax.numpy.array([1.0, 0.0, 0.0, 0.0]),
        response_mask=jax.numpy.ones((4, 3), dtype=bool),
        group_ids=jax.numpy.array([0, 0, 0, 0]),
        num_groups=1,
        **{name: -jax.numpy.arange(12.0).reshape(4, 3) / 8 for name in ("logprobs", "ref_logprobs")},
        entropies=jax.numpy.arange(12.0).reshape(4, 3) / 8,
    )
    assert batch.rewards.dtype == "float32"
    assert batch.group_ids.dtype == "int32"
    az.validate(batch)
    for name in az.names():
        if az.estimator(name).needs <= {"entropies", "logprobs", "ref_logprobs"}:
            assert az.compute_advantages(batch, name).values.dtype == "float32"
    packed = az.RolloutBatch.packed(
        rewards=batch.rewards,
        group_ids=batch.group_ids,
        num_groups=1,
        cu_seqlens=jax.numpy.array([0, 3, 6, 9, 12]),
        **{name: getattr(batch, name).reshape(-1) for name in ("logprobs", "ref_logprobs", "entropies")},
    )
    assert az.compute_advantages(packed, "ep_grpo").values.shape == (12,)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_token_on_an_edge_is_in_the_upper_bucket(xp, dtype):
    tau = np.cumsum(np.full(10, 0.1))  # 0.1, 0.2, 0.30000000000000004, ..., 0.9999999999999999
    got = xp.asnumpy(bucket_indices(xp.asarray(tau, dtype), 10))
    assert got.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    below = xp.asnumpy(bucket_indices(xp.asarray(tau - 1e-5, dtype), 10))
    assert below.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("tokens", "num_buckets"), [(100, 10), (1000, 10), (4090, 10), (100, 50), (1000, 100)])
@pytest.mark.parametrize("entropy", [0.1, 0.3, 0.7])
def test_equal_entropies_of_long_responses_stand_on_edges_in_float32(xp, entropy, tokens, num_buckets):
    """Padded and packed sums round differently; the buckets must not tell."""
    from advantage_zoo.estimators.ep_grpo import progress
    from advantage_zoo.flat import FlatBatch
    from advantage_zoo.testing.layouts import pack

    batch = az.RolloutBatch(
        rewards=np.zeros(1),
        response_mask=np.ones((1, tokens), bool),
        group_ids=np.zeros(1, int),
        entropies=np.full((1, tokens), entropy),
    )
    expected = np.minimum((np.arange(tokens) + 1) * num_buckets // tokens, num_buckets - 1)
    for laid_out in (batch, pack(batch, batch.response_mask)):
        flat = FlatBatch(xp.batch(laid_out, "float32"), {"entropies"})
        np.testing.assert_array_equal(xp.asnumpy(bucket_indices(progress(flat), num_buckets)), expected)


def test_the_top_share_counts_up_to_the_ceiling(xp):
    """ceil(fraction * count) exactly: 0.2 * 35 rounds to 7.000000000000001 in one dtype and not in another."""
    for dtype in ("float64", "float32"):
        for count in range(1, 121):
            x = xp.asarray(np.arange(121.0), dtype)
            top = xp.asnumpy(top_share(x, x < count, 0.2))
            assert top.sum() == -(-count // 5), count


def quantiles(xp, numbers, ids, valid, quantile, linear, dtype="float64"):
    arguments = xp.asarray(np.asarray(numbers, dtype=float), dtype), xp.asarray(np.asarray(ids), None)
    valid = xp.asarray(np.asarray(valid), None)
    return xp.asnumpy(segment_quantile(*arguments, int(max(ids)) + 2, valid, quantile, linear=linear))


@pytest.mark.parametrize("quantile", [0.0, 0.2, 0.25, 0.4, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize(("linear", "method"), [(True, "linear"), (False, "inverted_cdf")])
def test_quantiles_are_numpys(xp, quantile, linear, method):
    rng = np.random.default_rng(11)
    ids, valid = rng.integers(0, 5, 40), rng.random(40) < 0.8
    for numbers in (rng.normal(size=40), rng.integers(0, 2, 40)):  # the latter all ties
        for dtype in ("float64", "float32"):
            got = quantiles(xp, numbers, ids, valid, quantile, linear, dtype)
            expected = [np.quantile(numbers[valid & (ids == i)], quantile, method=method) for i in range(5)]
            np.testing.assert_allclose(got, [*expected, 0.0], atol=1e-6)  # segment 5 has no members


def test_a_quantile_looks_at_valid_members_only(xp):
    for linear in (True, False):
        got = quantiles(xp, [9, 1, -9, 2, 7], [0, 0, 0, 0, 1], [False, True, False, True, False], 1.0, linear)
        assert got.tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_rank_that_is_whole_as_written_is_whole(xp, dtype):
    """0.4 of 5 is 2, and 0.4 of 4,095 is 1,638, whatever the products round to."""
    for share, percent in ((0.4, 40), (0.55, 55), (0.07, 7), (0.9, 90)):
        for count in (5, 20, 100, 300, 4095) if xp.name != "jax" else (5, 100):  # JAX compiles each shape anew
            got = quantiles(xp, np.arange(count) + 1, np.zeros(count, int), np.ones(count, bool), share, False, dtype)
            assert got[0] == -(-count * percent // 100), (share, count)


def test_one_infinite_member_stays_with_its_segment(xp):
    for linear in (True, False):
        got = quantiles(xp, [np.inf, 1, 2, 3], [0, 0, 1, 1], [True] * 4, 0.5, linear)
        assert got[1] == (2.5 if linear else 2.0)


def test_estimators_compute_without_their_defaults(xp):
    assert group(xp, [1.0], singleton="raw").tolist() == [1.0]
    assert group(xp, [1.0]).tolist() == [0.0]
    assert GRPO().singleton == "zero"
