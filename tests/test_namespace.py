"""What the core asks of an array library, library by library: names, dtypes, devices, gradients, tracing."""

import subprocess
import sys
import types

import numpy as np
import pytest

from advantage_zoo.arrays.namespace import (
    arange,
    device,
    float_dtype,
    index_dtype,
    is_concrete,
    is_floating,
    is_readable,
    library,
    namespace,
    register_pytree,
    stop_gradient,
    widen,
    zeros,
)

FLOATS = {"numpy": "float64", "readonly": "float64", "torch": "float32", "jax": "float64", "strict": "float64"}
"""What numbers that are not floating become."""


def dtype_name(x):
    return str(x.dtype).rpartition(".")[2]


def test_a_library_is_known_by_its_arrays(xp):
    x = xp.asarray(np.ones(3), "float32")
    name = {"readonly": "numpy", "strict": "array_api_strict"}.get(xp.name, xp.name)
    assert library(x) == name
    standard = {"numpy": "array_api_compat.numpy", "torch": "array_api_compat.torch", "jax": "jax.numpy"}
    assert namespace(x).__name__ == standard.get(name, name)
    assert xp.asnumpy(namespace(x).asarray(x)).tolist() == [1, 1, 1]
    assert type(namespace(x).asarray(x)) is type(x)


def test_subclasses_of_other_packages_belong_to_the_library_of_their_base(torch):
    theirs = type("Theirs", (torch.Tensor,), {"__module__": "somebody.tensors"})
    assert library(torch.ones(2).as_subclass(theirs)) == "torch"
    ours = type("Ours", (np.ndarray,), {"__module__": "somebody.arrays"})
    assert library(np.ones(2).view(ours)) == "numpy"


def test_a_subclass_of_numpy_is_known_where_pytorch_is_not_imported():
    code = (
        "import sys, numpy; from advantage_zoo.arrays.namespace import library\n"
        "made = type('Ours', (numpy.ndarray,), {'__module__': 'somebody.arrays'})\n"
        "print(library(numpy.ones(2).view(made)), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["numpy", "False"]


def test_arrays_of_jaxlib_are_jaxs():
    assert library(type("ArrayImpl", (), {"__module__": "jaxlib._jax"})()) == "jax"


def test_what_is_no_array_is_said():
    with pytest.raises(TypeError, match=r"^\[1, 2\] is a list, not an array; pass a NumPy, PyTorch or JAX array\.$"):
        namespace([1, 2])


def test_bfloat16_of_ml_dtypes_is_numpys(jax):
    scalar = np.ones(2, dtype=jax.numpy.bfloat16)[0]
    assert namespace(scalar) is namespace(np.ones(2))


def test_indices_and_zeros(xp):
    like = xp.asarray(np.ones(2), "float32")
    for made, expected, dtype in (
        (arange(4, like), [0, 1, 2, 3], "int64"),
        (arange(0, like), [], "int64"),
        (zeros(3, like), [0, 0, 0], "float32"),
        (zeros(3, xp.asarray(np.ones(2), "float64")), [0, 0, 0], "float64"),
    ):
        assert xp.asnumpy(made).tolist() == expected
        assert dtype_name(made) == dtype
        assert type(made) is type(like)
    assert dtype_name(namespace(like).zeros(1, dtype=index_dtype(like))) == "int64"
    assert device(like) == (None if xp.name == "jax" else like.device)


def test_indices_and_zeros_are_made_where_the_array_is(torch):
    like = torch.ones(2, device="meta")
    assert device(like) == like.device
    for made, dtype in ((arange(3, like), torch.int64), (zeros(3, like), torch.float32)):
        assert (made.device.type, made.shape, made.dtype) == ("meta", (3,), dtype)


def test_numbers_of_pythons_own_have_no_device():
    assert device(types.SimpleNamespace()) is None


def test_indices_of_jax_without_x64(jax):
    like = jax.numpy.ones(2, dtype="float16")
    assert index_dtype(like) == arange(3, like).dtype == "int32"
    assert arange(3, like).tolist() == [0, 1, 2]
    assert zeros(3, like).dtype == "float16"
    assert widen(jax.numpy.ones(2, dtype=int)).dtype == "float32"


def test_sums_are_safe_in_wide_dtypes(xp):
    for dtype in xp.dtypes:
        x = xp.asarray(np.array([0.5, 2.0]), dtype)
        wide = widen(x)
        numpys = xp.name in ("numpy", "readonly")
        assert dtype_name(wide) == ("float64" if numpys or dtype == "float64" else "float32")
        assert xp.asnumpy(wide).tolist() == [0.5, 2.0]
        assert (wide is x) == (dtype == "float64" or (dtype == "float32" and not numpys))
        assert is_floating(x) is True
    for numbers in (np.array([True, False]), np.array([1, 0])):
        x = xp.asarray(numbers, None)
        assert dtype_name(widen(x)) == FLOATS[xp.name]
        assert xp.asnumpy(widen(x)).tolist() == [1, 0]
        assert is_floating(x) is False


def test_results_have_the_common_dtype_of_what_is_floating(xp):
    whole = xp.asarray(np.array([1, 2]), None)
    made = {dtype: xp.asarray(np.ones(2), dtype) for dtype in xp.dtypes}
    for x in made.values():
        assert float_dtype(whole, x) == float_dtype(x) == x.dtype
        assert float_dtype(whole, x, made["float64"]) == float_dtype(made["float64"], x) == made["float64"].dtype
    assert float_dtype(whole) == widen(whole).dtype


def test_pytorchs_narrow_dtypes_meet_in_float32(torch):
    narrow = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16)
    assert float_dtype(*narrow) == torch.float32


def test_values_are_read_where_they_are_here(xp):
    x = xp.asarray(np.ones(2), "float64")
    assert is_concrete(x) is True
    assert is_readable(x) is True
    assert xp.asnumpy(stop_gradient(x)).tolist() == [1, 1]


def test_pytorchs_history_devices_and_fakes(torch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    weight = torch.nn.Parameter(torch.ones(2))
    assert stop_gradient(weight).requires_grad is False
    assert is_concrete(weight) is is_readable(weight) is True
    far = torch.ones(2, device="meta")
    assert (is_concrete(far), is_readable(far)) == (True, False)
    fake = FakeTensorMode().from_tensor(torch.ones(2))
    assert is_concrete(fake) is is_readable(fake) is False


@pytest.mark.parametrize(("platforms", "readable"), [("cpu", True), ("gpu", False), ("cpu gpu", False)])
def test_values_of_jax_on_an_accelerator_are_not_read(jax, platforms, readable):
    devices = [types.SimpleNamespace(platform=platform) for platform in platforms.split()]
    array = type("ArrayImpl", (), {"__module__": "jaxlib._jax", "devices": lambda self: devices})()
    assert is_readable(array) is readable


def test_pytorchs_compiler_has_no_values(torch):
    def told(x):
        return x + 1 if is_concrete(x) else x - 1

    assert torch.compile(told, backend="eager", fullgraph=True)(torch.ones(1)).item() == 0
    assert told(torch.ones(1)).item() == 2


def test_pytorchs_compiler_can_follow_the_common_dtype(torch):
    def summed(x, y):
        return x.to(float_dtype(x, y)) + y

    compiled = torch.compile(summed, backend="eager", fullgraph=True)
    assert compiled(torch.ones(1), torch.ones(1, dtype=torch.float64)).dtype == torch.float64


def test_jaxs_tracers_have_no_values_and_stopped_gradients_none(jax):
    told = []

    def halved(x):
        told.append((is_concrete(x), is_readable(x), device(x)))
        return (x * stop_gradient(x)).sum()

    assert jax.grad(jax.jit(halved))(jax.numpy.array([3.0])).tolist() == [3]
    assert set(told) == {(False, False, None)}


def test_a_class_becomes_a_pytree_once_jax_is_there(jax):
    class Pair:
        def __init__(self, one, other):
            self.one, self.other = one, other

    assert register_pytree(Pair, lambda pair: ((pair.one,), pair.other), lambda aux, children: Pair(*children, aux))
    made = jax.tree_util.tree_map(lambda x: x + 1, Pair(1, "name"))
    assert (made.one, made.other) == (2, "name")


def test_without_jax_no_class_becomes_a_pytree():
    code = "from advantage_zoo.arrays.namespace import register_pytree as r; print(r(type('A', (), {}), None, None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
