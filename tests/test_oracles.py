"""Every library against loops in exact arithmetic: 1e-10 in float64, 2e-5 in float32, of the largest value."""

import importlib
from dataclasses import fields, replace
from itertools import combinations, product

import numpy as np
import pytest
from conftest import library
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracles.grpo import mean

import advantage_zoo as az
from advantage_zoo.testing import rollouts
from advantage_zoo.testing.backends import convert
from advantage_zoo.testing.layouts import fill_masked, pack, without

NAMES = tuple(name for name in az.names() if ":" not in name)
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}
EXAMPLES = {"numpy": 50, "readonly": 5, "torch": 25, "strict": 15, "jax": 3}


def oracle(name):
    """The module tests/oracles/<name>.py."""
    return importlib.import_module(f"oracles.{name}")


def ask_oracle(name, batch, **params):
    module = oracle(name)
    fields = ("rewards", "response_mask", "group_ids", *getattr(module, "FIELDS", ()))
    arrays = [getattr(batch, f) if hasattr(batch, f) else batch.extras.get(f) for f in fields]
    return getattr(module, name)(*(None if x is None else x.tolist() for x in arrays), **params)


def assert_close(got, expected, tolerance, what):
    expected = np.asarray(expected, dtype=float)
    assert got.shape == expected.shape, what
    largest = max(1e-6, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * largest, err_msg=what)


def compare(xp, name, batch, params, dtype="float64"):
    rounded = convert(batch, lambda x: x.astype(dtype).astype(float) if x.dtype.kind == "f" else x)
    values, diagnostics = ask_oracle(name, rounded, **params)
    result = az.compute_advantages(xp.batch(batch, dtype), name, **params)
    got = xp.asnumpy(result.values)
    assert str(got.dtype) == dtype
    assert_close(got, values, TOLERANCE[dtype], "values")
    assert set(result.diagnostics) == set(diagnostics)
    magnitude = np.abs(np.asarray(values))[batch.response_mask]
    clear = not ((magnitude > 0) & (magnitude < 1e-4 * magnitude.max(initial=0))).any()
    for key, expected in diagnostics.items():
        if key != "sign_flips" or clear:  # the sign of a rounding error is nobody's
            assert_close(xp.asnumpy(result.diagnostics[key]), expected, TOLERANCE[dtype], key)


@pytest.mark.parametrize("name", NAMES)
def test_every_library_agrees_with_the_oracle(xp, name):
    module = oracle(name)
    shape = {"rows": 6, "tokens": 4, "num_groups": 4} if xp.name == "jax" else {"large_groups": False}

    @settings(
        max_examples=EXAMPLES[xp.name],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(rollouts(**shape), module.PARAMS, st.sampled_from(["float64", "float32"]), st.booleans())
    def check(batch, params, dtype, bare):
        rounded = convert(batch, lambda x: x.astype(dtype).astype(float) if x.dtype.kind == "f" else x)
        if bare:
            rounded = without(rounded, az.estimator(name).uses)
        if hasattr(module, "clear"):
            assume(module.clear(rounded, params))
        compare(xp, name, rounded, params, dtype)

    check()


@pytest.mark.parametrize("name", NAMES)
def test_groups_of_eight(name):
    """Counts, ranks and leave-one-out means that a group of three or four can't tell apart."""
    module = oracle(name)

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(rollouts(rows=12, tokens=4, num_groups=2), module.PARAMS, st.integers(0, 2**16), st.integers(5, 10))
    def check(batch, params, seed, size):
        rng = np.random.default_rng(seed)
        batch = replace(batch, group_ids=rng.permutation(np.arange(12) >= size).astype(int))
        rewards = rng.choice([0.0, 0.25, 1.0], 12) if seed % 2 else rng.integers(0, 2, 12).astype(float)
        batch = replace(batch, rewards=rewards, reward_components=np.stack([rewards, rng.integers(0, 3, 12)], axis=1))
        if hasattr(module, "clear"):
            assume(module.clear(batch, params))
        compare(library("numpy"), name, batch, params)

    check()


def corners(cls):
    """For each parameter the settings at which a formula turns: each choice, true and false, the least number."""
    for f in fields(cls):
        if "choices" in f.metadata:
            yield [(f.name, choice) for choice in f.metadata["choices"] if choice != "raise"]
        elif isinstance(f.default, bool):
            yield [(f.name, True), (f.name, False)]
        elif "ge" in f.metadata:
            yield [(f.name, type(f.default)(f.metadata["ge"]))]


def corner_batch():
    """Groups of four, of equal rewards, and of one, of unequal lengths, with an empty response."""
    rng, shape = np.random.default_rng(5), (9, 4)
    rewards = np.array([1, 0, 0.25, 0, 0.7, 0.7, 0.7, 0.3, 2])
    logprobs = -rng.integers(1, 128, shape) / 64
    return az.RolloutBatch(
        rewards=rewards,
        response_mask=np.arange(4) < np.array([4, 2, 3, 1, 4, 1, 2, 3, 0])[:, None],
        group_ids=np.array([0, 0, 0, 0, 1, 1, 1, 2, 1]),
        logprobs=logprobs,
        ref_logprobs=np.minimum(logprobs + rng.integers(-64, 64, shape) / 64, 0.0),
        entropies=rng.integers(1, 1000, shape) / 1000,
        values=rng.integers(-64, 64, shape) / 64,
        reward_components=np.stack([rewards, rng.integers(0, 3, 9)], axis=1),
        baseline_rewards=rng.integers(0, 2, 9).astype(float),
        extras={"sum_pi_squared": rng.random(shape)},
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_two_corners_of_the_parameters(name):
    batch = corner_batch()
    options = list(corners(az.estimator(name)))
    pairs = [dict(pair) for one, two in combinations(options, 2) for pair in product(one, two)]
    for params in pairs or [dict([setting]) for option in options for setting in option]:
        if not hasattr(oracle(name), "clear") or oracle(name).clear(batch, params):
            compare(library("numpy"), name, batch, params)


def can_refuse(cls):
    return any(f.name == "singleton" and "raise" in f.metadata["choices"] for f in fields(cls))


@pytest.mark.parametrize("name", [name for name in NAMES if can_refuse(az.estimator(name))])
def test_a_response_that_is_alone_can_be_refused(name):
    with pytest.raises(ValueError, match="singleton='raise'"):
        az.compute_advantages(corner_batch(), name, singleton="raise")


def test_a_reward_at_the_threshold_is_wrong():
    compare(library("numpy"), "passk", corner_batch(), {"reward_threshold": 0.25, "k": 2})


@pytest.mark.parametrize("name", NAMES)
def test_responses_without_a_token_move_nobody(name):
    module = oracle(name)

    @settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(rollouts(rows=8, tokens=3, num_groups=3), module.PARAMS, st.integers(1, 3))
    def check(batch, params, empty):
        mask = batch.response_mask & (np.arange(8) >= empty)[:, None]
        batch = replace(batch, response_mask=mask)
        if hasattr(module, "clear"):
            assume(module.clear(batch, params))
        compare(library("numpy"), name, batch, params)

    check()


@pytest.mark.parametrize("name", [name for name in NAMES if "entropies" in az.estimator(name).needs])
def test_an_entropy_below_0_is_a_rounding_error(name):
    rng = np.random.default_rng(0)
    entropies = rng.choice([0.0, 0.5, 1.5], (6, 5))
    batch = az.RolloutBatch(
        rewards=np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
        response_mask=np.ones((6, 5), bool),
        group_ids=np.array([0, 0, 0, 1, 1, 1]),
        logprobs=-rng.random((6, 5)),
        ref_logprobs=-rng.random((6, 5)),
        entropies=entropies,
    )
    # the gates of these two standardise what they are given, so that only the sum along the response is held at 0
    least = 1e-9 if name in ("ep_grpo", "erpo") else 1e-3
    below = replace(batch, entropies=np.where(entropies == 0, -least, entropies))
    got, want = (az.compute_advantages(b, name).values for b in (below, batch))
    np.testing.assert_allclose(got, want, atol=1e-7)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("entropy", [0.1, 0.7, 0.0])
def test_equal_entropies_stand_on_edges_in_every_library_and_layout(xp, dtype, entropy):
    for tokens in (40,) if xp.name == "jax" else (10, 40, 200):  # JAX compiles each shape anew
        check_equal_entropies(xp, dtype, entropy, tokens)


def check_equal_entropies(xp, dtype, entropy, tokens):
    rng = np.random.default_rng(tokens)
    shape = (4, tokens)
    batch = az.RolloutBatch(
        rewards=np.array([1.0, 0.0, 1.0, 1.0]),
        response_mask=np.arange(tokens) < np.array([tokens, tokens // 2 + 1, tokens - 1, 3])[:, None],
        group_ids=np.array([0, 0, 1, 1]),
        num_groups=2,
        entropies=np.full(shape, entropy),
        logprobs=-rng.integers(0, 512, shape) / 64,
        ref_logprobs=-rng.integers(0, 512, shape) / 64,
    )
    compare(xp, "ep_grpo", batch, {}, dtype)
    packed = xp.asnumpy(az.compute_advantages(xp.batch(pack(batch, batch.response_mask), dtype), "ep_grpo").values)
    padded = xp.asnumpy(az.compute_advantages(xp.batch(batch, dtype), "ep_grpo").values)[batch.response_mask]
    assert_close(packed, padded, TOLERANCE[dtype], "packed against padded")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "rewards",
    [[0.0, 0.5, 1.0], [1000.875, 1000.875, 1000.25, 1000.0], [0.875, 0.875, 0.25, 0.0], [0.0, 3.0, 7.0, 8.0, 2.0, 4.0]],
)
def test_a_reward_at_its_groups_mean_has_no_polarity(xp, dtype, rewards):
    rng = np.random.default_rng(0)
    # The last response is at the mean exactly, whatever the others' order.
    rewards = np.array([*rewards, mean(rewards)], dtype=float)
    shape = (len(rewards), 3)
    batch = az.RolloutBatch(
        rewards=rewards,
        response_mask=np.ones(shape, bool),
        group_ids=np.zeros(len(rewards), int),
        num_groups=1,
        entropies=rng.integers(1, 3000, shape) / 1000,
        logprobs=-rng.integers(0, 512, shape) / 64,
        ref_logprobs=-rng.integers(0, 512, shape) / 64,
    )
    assert mean(rewards) == rewards[-1]
    compare(xp, "ep_grpo", batch, {"progress_weight": 5.0}, dtype)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo"])
def test_singleton_raise_refuses_what_the_oracle_refuses(xp, name):
    batch = az.RolloutBatch(
        rewards=np.array([1.0, 0.5, 0.0]), response_mask=np.ones((3, 2), bool), group_ids=np.array([0, 1, 0])
    )
    with pytest.raises(ValueError, match="one response"):
        ask_oracle(name, batch, singleton="raise")
    with pytest.raises(ValueError, match="row 1, group 1"):
        az.compute_advantages(xp.batch(batch), name, singleton="raise")
    fine = replace(batch, group_ids=np.array([0, 0, 0]))
    values, _ = ask_oracle(name, fine, singleton="raise")
    assert_close(xp.asnumpy(az.compute_advantages(xp.batch(fine), name, singleton="raise").values), values, 1e-10, name)


def test_task_rewards_decide_what_dynamic_sampling_keeps(xp):
    batch = az.RolloutBatch(
        rewards=np.array([1.0, 0.4, 1.0, 0.0]),
        response_mask=np.ones((4, 2), bool),
        group_ids=np.array([0, 0, 1, 1]),
        num_groups=3,
        extras={"task_rewards": np.array([1.0, 1.0, 1.0, 0.0])},
    )
    result = az.compute_advantages(xp.batch(batch), "dapo")
    values, diagnostics = ask_oracle("dapo", batch, task_rewards=[1.0, 1.0, 1.0, 0.0])
    assert_close(xp.asnumpy(result.values), values, 1e-10, "values")
    assert xp.asnumpy(result.diagnostics["keep"]).tolist() == diagnostics["keep"] == [False, False, True, True]
    assert float(result.diagnostics["kept_groups"]) == diagnostics["kept_groups"] == 0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [1e-30, 1e30, 1e150, 1e300])
def test_extreme_rewards_agree_with_the_oracle(name, number):
    batch = az.RolloutBatch(
        rewards=np.array([1.0, -1.0, 0.25, 0.5]) * number,
        response_mask=np.ones((4, 3), bool),
        group_ids=np.array([0, 0, 0, 0]),
        logprobs=-(np.arange(12.0).reshape(4, 3) % 5),
        ref_logprobs=-(np.arange(12.0).reshape(4, 3) % 3),
        entropies=np.arange(12.0).reshape(4, 3) % 7 / 8,
        values=np.arange(12.0).reshape(4, 3) % 4 * number / 8,
        reward_components=np.array([[1.0, 0.0], [-1.0, 1.0], [0.25, 1.0], [0.5, 0.0]]) * number,
        baseline_rewards=np.array([0.5, 0.5, 0.25, -0.5]) * number,
        extras={"sum_pi_squared": 1 / (1 + np.arange(12.0).reshape(4, 3))},
    )
    values, _ = ask_oracle(name, fill_masked(batch, 0.0))
    got = az.compute_advantages(batch, name).values
    np.testing.assert_allclose(got, values, rtol=1e-10)
