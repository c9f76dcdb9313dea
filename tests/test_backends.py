"""jit and compile give what eager gives; no gradient, nothing read back; the house's types are JAX pytrees."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import library

import advantage_zoo as az
from advantage_zoo.testing.layouts import pack

NAMES = ("grpo", "dr_grpo", "dapo", "ep_grpo")
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
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
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
        assert len(jax.tree_util.tree_leaves(batch)) == 6
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
