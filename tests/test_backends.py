"""jit and compile give what eager gives; no gradient, nothing read back; the house's types are JAX pytrees."""

import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import library

import advantage_zoo as az
from advantage_zoo.testing.layouts import pack

NAMES = tuple(name for name in az.names() if ":" not in name)
LAYOUTS = ("padded", "packed", "trimmed")


def numpy_batch(layout="padded", seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(7) < np.array([7, 3, 0, 5, 1, 6])[:, None]
    mask[0, 2:4] = False
    batch = az.RolloutBatch(
        rewards=np.array([1.0, 0.0, 0.5, 1.0, 1.0, 0.3]),
        response_mask=mask,
        group_ids=np.array([0, 1, 0, 1, 2, 0]),
        num_groups=4,
        logprobs=-rng.integers(0, 512, mask.shape) / 64,
        ref_logprobs=-rng.integers(0, 512, mask.shape) / 64,
        entropies=rng.integers(1, 3000, mask.shape) / 1000,
        values=rng.integers(-64, 64, mask.shape) / 64,
        reward_components=np.stack([np.array([1.0, 0.0, 0.5, 1.0, 1.0, 0.3]), rng.integers(0, 2, 6)], axis=1),
        baseline_rewards=rng.integers(0, 2, 6).astype(float),
        extras={"sum_pi_squared": rng.integers(1, 64, mask.shape) / 64},
    )
    keep = {"padded": None, "packed": np.ones_like(mask), "trimmed": mask}[layout]
    return batch if keep is None else pack(batch, keep)


def assert_same(xp, got, expected, tolerance=1e-12):
    np.testing.assert_allclose(xp.asnumpy(got.values), xp.asnumpy(expected.values), atol=tolerance)
    assert set(got.diagnostics) == set(expected.diagnostics)
    for name, x in got.diagnostics.items():
        np.testing.assert_allclose(xp.asnumpy(x), xp.asnumpy(expected.diagnostics[name]), atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_jit(jax, name, layout):
    xp = library("jax")
    with xp.precise():
        batch = xp.batch(numpy_batch(layout))
        assert_same(xp, jax.jit(lambda b: az.compute_advantages(b, name))(batch), az.compute_advantages(batch, name))
        assert_same(xp, az.compute_advantages(batch, name), az.compute_advantages(numpy_batch(layout), name), 1e-10)


def compiled(torch, name, backend):
    torch._dynamo.reset()
    return torch.compile(lambda b: az.compute_advantages(b, name), fullgraph=True, backend=backend)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_compile(torch, name, layout):
    xp = library("torch")
    batch = xp.batch(numpy_batch(layout))
    assert_same(xp, compiled(torch, name, "aot_eager")(batch), az.compute_advantages(batch, name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # inductor's own
@pytest.mark.parametrize(
    ("name", "layout"),
    [(n, layout) for n in NAMES for layout in LAYOUTS if layout == "padded" or n in ("ep_grpo", "gae", "gtpo")],
)
def test_inductor(torch, name, layout):
    xp = library("torch")
    batch = xp.batch(numpy_batch(layout))
    assert_same(xp, compiled(torch, name, "inductor")(batch), az.compute_advantages(batch, name), 1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_refused_stays_with_its_response(jax, name, layout):
    """Under jit a reward cannot be looked at; a NaN must not reach the siblings."""
    xp = library("jax")
    with xp.precise():
        batch = numpy_batch(layout)
        fine = az.compute_advantages(batch, "grpo")
        spoilt = np.where(np.arange(6) == 3, np.nan, batch.rewards)
        from dataclasses import replace

        got = jax.jit(lambda b: az.compute_advantages(b, name).values)(xp.batch(replace(batch, rewards=spoilt)))
        rows = np.repeat(np.arange(6), np.diff(batch.cu_seqlens)) if layout != "padded" else np.indices((6, 7))[0]
        got, mask = np.asarray(got), batch.response_mask
        assert np.isnan(got[mask & (rows == 3)]).all()
        assert np.isfinite(got[rows != 3]).all()
        assert not got[~mask].any()
        if name == "grpo":
            others = mask & (batch.group_ids[rows] != 1)
            np.testing.assert_allclose(got[others], fine.values[others], atol=1e-12)


def test_batches_and_advantages_are_pytrees(jax):
    xp = library("jax")
    with xp.precise():
        batch = xp.batch(numpy_batch())
        doubled = jax.tree_util.tree_map(lambda x: x, batch)
        assert type(doubled) is az.RolloutBatch
        assert doubled.num_groups == 4
        assert len(jax.tree_util.tree_leaves(batch)) == 10
        result = jax.tree_util.tree_map(lambda x: x * 2, az.compute_advantages(batch, "dr_grpo"))
        assert type(result) is az.Advantages
        shifted = jax.jit(lambda b: b)(batch)
        np.testing.assert_array_equal(shifted.rewards, batch.rewards)


@pytest.mark.parametrize("order", ["import jax; import advantage_zoo as az", "import advantage_zoo as az; import jax"])
def test_pytrees_whichever_is_imported_first(jax, order):
    code = f"""{order}
import jax.numpy as jnp
batch = az.RolloutBatch(
    rewards=jnp.array([1.0, 0.0]), response_mask=jnp.ones((2, 1), dtype=bool), group_ids=jnp.array([0, 0]))
result = jax.jit(lambda b: az.compute_advantages(b, "dr_grpo"))(batch)
assert result.values.tolist() == [[0.5], [-0.5]], result
assert len(jax.tree_util.tree_leaves(batch)) == 3
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_tensors_that_require_gradients(torch):
    xp = library("torch")
    batch = xp.batch(numpy_batch())
    for name in NAMES:
        for field in ("rewards", "logprobs", "entropies"):
            getattr(batch, field).requires_grad_()
        values = az.compute_advantages(batch, name).values
        assert not values.requires_grad
        loss = -(values * batch.logprobs).sum()
        (slope,) = torch.autograd.grad(loss, batch.logprobs)
        torch.testing.assert_close(slope, -values)


def test_subclasses_of_tensors_are_tensors(torch):
    batch = library("torch").batch(numpy_batch())
    from dataclasses import replace

    weights = replace(batch, rewards=torch.nn.Parameter(batch.rewards))
    expected = az.compute_advantages(batch, "grpo").values
    torch.testing.assert_close(az.compute_advantages(weights, "grpo").values, expected)
    with pytest.raises(ValueError, match="row 0"):
        az.compute_advantages(replace(batch, rewards=torch.nn.Parameter(batch.rewards * float("nan"))), "grpo")


def test_singleton_raise_says_that_it_cannot_be_traced(jax):
    batch = library("jax").batch(numpy_batch(), "float32")
    with pytest.raises(ValueError, match="singleton='raise' must read the group sizes"):
        jax.jit(lambda b: az.compute_advantages(b, "grpo", singleton="raise"))(batch)


def test_the_meta_device_has_no_values_to_read(torch):
    from advantage_zoo.testing.backends import convert

    for layout in LAYOUTS:
        batch = convert(library("torch").batch(numpy_batch(layout), "float32"), lambda x: x.to("meta"))
        for name in NAMES:
            assert az.compute_advantages(batch, name).values.device.type == "meta"


@pytest.mark.parametrize("which", ["by name", "by instance", "with parameters"])
def test_compiled_once_for_batches_of_several_widths(torch, which):
    """Every trainer's batches differ in width; Dynamo makes it symbolic at the second one."""
    az.names()  # the first look-up searches for plugins, which cannot be traced
    params = {"num_buckets": 5} if which == "with parameters" else {}
    chosen = az.estimators.EPGRPO() if which == "by instance" else "ep_grpo"
    run = torch.compile(
        lambda b: az.compute_advantages(b, chosen, **params).values, fullgraph=True, backend="aot_eager"
    )
    for width in (5, 7, 9, 33):
        generator = torch.Generator().manual_seed(width)
        signals = {name: -torch.rand(6, width, generator=generator) for name in ("logprobs", "ref_logprobs")}
        batch = az.RolloutBatch(
            rewards=torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0]),
            response_mask=torch.rand(6, width, generator=generator) < 0.9,
            group_ids=torch.arange(6) % 2,
            num_groups=2,
            entropies=torch.rand(6, width, generator=generator),
            **signals,
        )
        want = az.compute_advantages(batch, chosen, **params).values
        np.testing.assert_allclose(run(batch).numpy(), want.numpy(), atol=1e-6)


def test_the_batch_may_be_made_inside_the_compiled_function():
    """In a process of its own: whatever ran before would hide an import that cannot be traced."""
    code = """
import torch, advantage_zoo as az
chosen = az.estimators.GRPO()
def advantages(rewards, mask, groups):
    batch = az.RolloutBatch(rewards=rewards, response_mask=mask, group_ids=groups, num_groups=2)
    return az.compute_advantages(batch, chosen).values
given = torch.tensor([1.0, 0, 0, 1]), torch.ones(4, 3, dtype=torch.bool), torch.tensor([0, 0, 1, 1])
got = torch.compile(advantages, fullgraph=True, backend="aot_eager")(*given)
assert torch.equal(got, advantages(*given))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_batch_that_was_pickled_is_a_pytree_in_the_process_that_reads_it(jax):
    batch = az.RolloutBatch(
        rewards=np.array([1.0, 0.0]), response_mask=np.ones((2, 2), dtype=bool), group_ids=np.zeros(2, dtype=np.int32)
    )
    code = """
import pickle, sys, jax, advantage_zoo as az
batch = pickle.loads(bytes.fromhex(sys.argv[1]))
print(jax.jit(lambda b: az.compute_advantages(b, az.estimators.DrGRPO()).values)(batch).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(batch).hex()], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[[0.5, 0.5], [-0.5, -0.5]]"


def test_a_reward_that_nobody_could_refuse_stays_with_its_response(jax):
    rewards = jax.numpy.asarray([np.nan, 1.0, 0.0, 0.0, 1.0, 0.0])
    mask = jax.numpy.ones((6, 2), dtype=bool)

    def advantages(rewards, groups):
        batch = az.RolloutBatch(rewards=rewards, response_mask=mask, group_ids=groups, num_groups=2)
        return az.compute_advantages(batch, "grpo").values

    groups = jax.numpy.asarray([0, 0, 0, 1, 1, 1])
    closed_over = jax.jit(lambda g: advantages(rewards, g))(groups)
    for values in (jax.jit(advantages)(rewards, groups), closed_over):
        assert np.isnan(values[0]).all()
        assert np.isfinite(values[1:]).all()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "uint64", "int32"])
def test_group_ids_of_any_integer_type(xp, dtype):
    rng = np.random.default_rng(0)
    rows, groups = 60, 30  # times ten buckets: more than a narrow type holds
    fields = {name: -rng.random((rows, 4)) for name in ("logprobs", "ref_logprobs")}
    batch = az.RolloutBatch(
        rewards=rng.integers(0, 2, rows).astype(float),
        response_mask=np.ones((rows, 4), dtype=bool),
        group_ids=np.arange(rows) % groups,
        num_groups=groups,
        entropies=rng.random((rows, 4)),
        **fields,
    )
    want = az.compute_advantages(batch, "ep_grpo").values
    given = xp.batch(batch)
    narrow = xp.asarray((np.arange(rows) % groups).astype(dtype), None)
    got = az.compute_advantages(replace(given, group_ids=narrow), "ep_grpo").values
    np.testing.assert_allclose(xp.asnumpy(got), want, atol=1e-10)
