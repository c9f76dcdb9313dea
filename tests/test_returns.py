"""Backward recurrences over ragged rows, and the estimators made of them, against loops on every library."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import library

import advantage_zoo as az
from advantage_zoo.flat import FlatBatch
from advantage_zoo.testing import layouts

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
LAYOUTS = ("padded", "packed", "trimmed")


def made(seed=0, rows=5, tokens=9, **fields):
    """Ragged rows with holes, the third one empty, junk in masked slots."""
    rng = np.random.default_rng(seed)
    mask = np.arange(tokens) < rng.integers(1, tokens + 1, rows)[:, None]
    mask &= rng.random((rows, tokens)) < 0.7
    mask[2] = False
    junk = np.where(rng.random(mask.shape) < 0.5, np.nan, np.inf)
    pi = rng.random(mask.shape)
    tokens_of = {
        "token_rewards": rng.normal(size=mask.shape),
        "values": rng.normal(size=mask.shape),
        "logprobs": np.log(pi),
        "ref_logprobs": np.log(rng.random(mask.shape)),
    }
    batch = az.RolloutBatch(
        rewards=rng.normal(size=rows),
        response_mask=mask,
        group_ids=np.arange(rows) % 2,
        num_groups=3,
        reward_components=rng.integers(0, 2, (rows, 2)).astype(float),
        extras={"sum_pi_squared": np.where(mask, pi**2 + (1 - pi) ** 2 / 2, junk)},
        **{name: np.where(mask, x, junk) for name, x in tokens_of.items()},
    )
    return replace(batch, **fields)


def laid_out(batch, layout):
    """The batch in a layout, and a function from its tokens back to (B, T), 0 where not kept."""
    mask = batch.response_mask
    if layout == "padded":
        return batch, lambda x: x.reshape(mask.shape)
    keep = np.ones_like(mask) if layout == "packed" else mask

    def back(x):
        out = np.zeros(mask.shape, dtype=x.dtype)
        out[keep] = x[: int(keep.sum())]
        return out

    return layouts.pack(batch, keep), back


def on_rows(batch, function):
    """(B, T): ``function`` of each row's valid tokens, a list in and a list out."""
    out = np.zeros(batch.response_mask.shape)
    for row, valid in enumerate(batch.response_mask):
        out[row, valid] = function(np.flatnonzero(valid), row)
    return out


def backward(rewards, discount):
    """Discounted sums from each on; ``discount`` one a reward."""
    out, so_far = [], 0.0
    for reward, gamma in zip(reversed(list(rewards)), reversed(list(discount)), strict=True):
        so_far = reward + gamma * so_far
        out.insert(0, so_far)
    return out


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0, "by token"])
def test_row_returns(xp, dtype, layout, discount):
    batch = made()
    decay = np.random.default_rng(2).random(batch.response_mask.shape) if discount == "by token" else None
    expected = on_rows(
        batch,
        lambda at, row: backward(
            batch.token_rewards[row, at], decay[row, at] if decay is not None else [discount] * len(at)
        ),
    )
    moved, back = laid_out(batch, layout)
    flat = FlatBatch(xp.batch(moved, dtype), {"token_rewards"})
    if decay is not None:
        held = laid_out(replace(batch, values=decay), layout)[0].values.reshape(-1)
        discount = xp.asarray(held, dtype)
    for x in (flat.token_rewards, flat.xp.where(flat.mask, flat.token_rewards, 7.0)):  # masked ones do not matter
        got = back(xp.asnumpy(flat.row_returns(x, discount)))
        np.testing.assert_allclose(got[batch.response_mask], expected[batch.response_mask], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_row_next_last_valid_and_dense_rewards(xp, layout):
    batch = made()
    moved, back = laid_out(batch, layout)
    flat = FlatBatch(xp.batch(moved), {"values"}, {"token_rewards"})
    mask = batch.response_mask
    expected = on_rows(batch, lambda at, row: [*batch.values[row, at[1:]], *[0.0] * bool(len(at))])
    np.testing.assert_array_equal(back(xp.asnumpy(flat.row_next(flat.values)))[mask], expected[mask])
    last = on_rows(batch, lambda at, row: np.arange(len(at)) == len(at) - 1)
    np.testing.assert_array_equal(back(xp.asnumpy(flat.last_valid)), last != 0)
    np.testing.assert_array_equal(back(xp.asnumpy(flat.dense_rewards))[mask], batch.token_rewards[mask])
    bare = FlatBatch(xp.batch(layouts.without(moved, {"token_rewards"})), (), {"token_rewards"})
    np.testing.assert_array_equal(back(xp.asnumpy(bare.dense_rewards)), last * batch.rewards[:, None])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cells_are_group_and_number_of_the_valid_token(xp, layout):
    batch = made()
    moved, back = laid_out(batch, layout)
    flat = FlatBatch(xp.batch(moved))
    cells, count = flat.position_cells()
    cells, mask = back(xp.asnumpy(cells)), batch.response_mask
    number = on_rows(batch, lambda at, row: np.arange(len(at)))
    pairs = list(zip(np.repeat(batch.group_ids, 9)[mask.reshape(-1)], number[mask], strict=True))
    assert len(set(pairs)) == len(set(cells[mask])) == len(set(zip(pairs, cells[mask], strict=True)))
    assert set(cells[mask]) <= set(range(count))


@pytest.mark.parametrize(("discount", "tolerance"), [(0.99, 2e-6), (1.0, 2e-6), (0.9999, 2e-4)])
def test_long_responses_in_float32(xp, discount, tolerance):
    """Doubling adds in pairs, so that sums lose little; what 0.9999 loses when rounded grows with its power."""
    tokens = 512 if xp.name == "strict" else 4096
    rng = np.random.default_rng(4)
    batch = made(rows=3, tokens=tokens, token_rewards=rng.normal(size=(3, tokens)).astype("float32").astype(float))
    expected = on_rows(batch, lambda at, row: backward(batch.token_rewards[row, at], [discount] * len(at)))
    for layout in LAYOUTS:
        moved, back = laid_out(batch, layout)
        got = az.compute_advantages(xp.batch(moved, "float32"), "reinforce", discount=discount).values
        np.testing.assert_allclose(back(xp.asnumpy(got)), expected, atol=tolerance * np.abs(expected).max())


NAMES = ("reinforce", "reinforce_pp", "reinforce_pp_baseline", "gae", "gdpo", "prime", "otb")
OTHERS = {"gae": {"whiten": True, "length_adaptive_alpha": 0.5}, "prime": {"whiten": True, "process_norm": "batch"}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_jit(jax, name, layout):
    xp = library("jax")
    with xp.precise():
        moved, _ = laid_out(made(), layout)
        expected = az.compute_advantages(moved, name, **OTHERS.get(name, {})).values
        got = jax.jit(lambda b: az.compute_advantages(b, name, **OTHERS.get(name, {})).values)(xp.batch(moved))
        np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("name", NAMES)
def test_compiled_for_several_widths(torch, name, layout):
    az.names()
    torch._dynamo.reset()
    params = OTHERS.get(name, {})
    run = torch.compile(lambda b: az.compute_advantages(b, name, **params).values, fullgraph=True, backend="aot_eager")
    for width in (5, 9):
        batch = library("torch").batch(laid_out(made(width, tokens=width), layout)[0])
        np.testing.assert_allclose(run(batch), az.compute_advantages(batch, name, **params).values, atol=1e-12)


def test_gae_with_discount_and_lambda_of_one_is_the_return_less_the_value(xp):
    batch = made()
    returns = xp.asnumpy(az.compute_advantages(xp.batch(batch), "reinforce").values)
    got = xp.asnumpy(az.compute_advantages(xp.batch(batch), "gae", lam=1.0).values)
    mask = batch.response_mask
    np.testing.assert_allclose(got[mask], (returns - batch.values)[mask], atol=1e-12)


def test_length_adaptive_lambda_is_that_of_the_response():
    batch = made()
    got = az.compute_advantages(batch, "gae", length_adaptive_alpha=0.5).values
    for row, length in enumerate(batch.response_mask.sum(axis=1)):
        lam = max(1 - 1 / (0.5 * max(length, 1)), 0.0)
        np.testing.assert_allclose(got[row], az.compute_advantages(batch, "gae", lam=lam).values[row], atol=1e-12)


def test_gdpo_of_one_component_is_grpo_over_the_batch(xp):
    batch = made(rows=8)
    one = xp.batch(replace(batch, reward_components=batch.rewards[:, None]))
    grpo = xp.asnumpy(az.compute_advantages(one, "grpo", eps=0.0).values)
    plain = xp.asnumpy(az.compute_advantages(one, "gdpo", whiten=False).values)
    np.testing.assert_allclose(plain, grpo, atol=1e-12)
    counted = batch.response_mask.any(axis=1)
    numbers = grpo.sum(axis=1)[counted] / batch.response_mask.sum(axis=1)[counted]
    got = xp.asnumpy(az.compute_advantages(one, "gdpo", eps=0.0).values)
    np.testing.assert_allclose(got, grpo / numbers.std(ddof=1), atol=1e-12)


def test_gdpo_does_not_see_a_components_offset_or_scale():
    batch = made(rows=8)
    moved = replace(batch, reward_components=batch.reward_components * [100.0, 0.01] + [5.0, -3.0])
    for params in ({}, {"weighting": "token"}):
        one, other = (az.compute_advantages(b, "gdpo", **params).values for b in (batch, moved))
        np.testing.assert_allclose(other, one, atol=1e-9)


def test_gdpo_components_that_cancel_leave_nothing_to_magnify(xp):
    """The quotients of r and -3 r cancel but for rounding, which division by the batch's deviation would magnify."""
    r = np.array([0.0, 1.0, 3.0, 7.0, 2.0]) / 8
    batch = az.RolloutBatch(
        rewards=r,
        response_mask=np.ones((5, 2), bool),
        group_ids=np.zeros(5, int),
        reward_components=np.stack([r, -3 * r], 1),
    )
    for dtype in TOLERANCE:
        assert not xp.asnumpy(az.compute_advantages(xp.batch(batch, dtype), "gdpo").values).any()


def test_gdpo_says_how_many_weights_it_wants():
    with pytest.raises(ValueError, match=r"gdpo\.weights has 3 numbers; the batch has 2 reward components"):
        az.compute_advantages(made(), "gdpo", weights=(1, 2, 3))


@pytest.mark.parametrize("params", [{}, {"weighting": "token"}, {"recentre": False}, {"eps": 0.0}])
def test_equal_rewards_in_every_group_give_exactly_zero(xp, params):
    for dtype in xp.dtypes:
        batch = made(rows=6, rewards=np.array([0.1, 1 / 3, 0.1, 1 / 3, 0.1, 1 / 3]))
        assert not xp.asnumpy(
            az.compute_advantages(xp.batch(batch, dtype), "reinforce_pp_baseline", **params).values
        ).any()


def test_a_group_of_equal_rewards_stays_at_zero_beside_one_that_varies(xp):
    batch = made(rows=6, rewards=np.array([0.1, 1.0, 0.1, 0.3, 0.1, 0.2]))
    got = xp.asnumpy(az.compute_advantages(xp.batch(batch), "reinforce_pp_baseline").values)
    assert not got[::2].any()
    assert got[1::2].any()


def test_prime_without_implicit_rewards_is_leave_one_out(xp):
    batch = made(rows=6)
    same = replace(batch, ref_logprobs=batch.logprobs)
    got = xp.asnumpy(az.compute_advantages(xp.batch(same), "prime").values)
    for group in (0, 1):
        rows = [i for i in range(6) if batch.group_ids[i] == group and batch.response_mask[i].any()]
        for i in rows:
            others = np.mean([batch.rewards[j] for j in rows if j != i])
            np.testing.assert_allclose(got[i][batch.response_mask[i]], batch.rewards[i] - others, atol=1e-12)


def test_otb_where_every_token_is_certain_is_the_groups_mean(xp):
    certain = made(extras={"sum_pi_squared": np.ones((5, 9))}, logprobs=np.zeros((5, 9)), group_ids=np.zeros(5, int))
    batch = layouts.without(replace(certain, response_mask=np.ones((5, 9), bool)), {"token_rewards"})
    got, plain = (xp.asnumpy(az.compute_advantages(xp.batch(batch), name).values) for name in ("otb", "dr_grpo"))
    np.testing.assert_allclose(got, plain, atol=1e-12)


def test_layouts_carry_extras_of_the_tokens():
    batch = made(rows=3, tokens=3)
    filled = layouts.fill_masked(batch, 7.0).extras["sum_pi_squared"]
    assert (filled[~batch.response_mask] == 7.0).all()
    wide = layouts.pad(batch, 1, 2, 5.0).extras["sum_pi_squared"]
    np.testing.assert_array_equal(wide[:, 1:4], batch.extras["sum_pi_squared"])
    keep = np.eye(3, dtype=bool)  # three slots of three responses
    packed = layouts.pack(replace(batch, response_mask=keep), keep)
    assert packed.response_mask.tolist() == [True, True, True, False]
    assert packed.cu_seqlens.tolist() == [0, 1, 2, 4]
    assert packed.extras["sum_pi_squared"].shape == (4,)
