"""Which array library is this, and the few things its standard namespace leaves out.

A library is recognised by the name of its arrays' module and imported only when such an array is in hand, so that
``import advantage_zoo`` imports none.
"""

import sys
from collections.abc import Callable
from functools import partial, reduce
from types import ModuleType
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of NumPy, PyTorch, JAX, or any library with an array API namespace."""


def library(x: Array) -> str:
    """Name of the library that ``x`` belongs to: ``"numpy"``, ``"torch"``, ``"jax"`` or another's top module."""
    top = type(x).__module__.partition(".")[0]
    if top == "jaxlib":
        return "jax"
    if top not in ("numpy", "torch", "jax"):  # subclasses, such as a framework's own tensors, carry their own module
        for name, base in (("torch", "Tensor"), ("numpy", "ndarray")):
            if name in sys.modules and isinstance(x, getattr(sys.modules[name], base)):
                return name
    return top


def namespace(x: Array) -> Any:
    """Array API namespace of ``x``.

    Raises:
        TypeError: ``x`` is not an array of a library that follows the array API standard.
    """
    match library(x):  # import statements, because torch.compile can trace them
        case "torch":
            import array_api_compat.torch as torch_namespace

            return torch_namespace
        case "numpy" | "ml_dtypes":
            import array_api_compat.numpy as numpy_namespace

            return numpy_namespace
        case "jax":
            import jax.numpy as jax_namespace

            return jax_namespace
        case _:
            if not hasattr(x, "__array_namespace__"):
                raise TypeError(f"{x!r} is a {type(x).__name__}, not an array; pass a NumPy, PyTorch or JAX array.")
            return x.__array_namespace__()


def device(x: Array) -> Any:
    """Device of ``x`` in its library's own terms, ``None`` for tracers, which have none yet."""
    if library(x) == "jax":
        return None  # jit decides; two devices in one computation is an error of JAX's own, and a clear one
    return getattr(x, "device", None)


def index_dtype(like: Array) -> Any:
    """Dtype of indices: int64, and int32 under JAX without x64."""
    return namespace(like).arange(0).dtype if library(like) == "jax" else namespace(like).int64


def arange(n: int, like: Array) -> Array:
    """``0 .. n - 1`` as indices, on the device of ``like``."""
    return namespace(like).arange(n, dtype=index_dtype(like), device=device(like))


def zeros(n: int, like: Array) -> Array:
    """``n`` zeros of the dtype and on the device of ``like``."""
    return namespace(like).zeros(n, dtype=like.dtype, device=device(like))


def is_floating(x: Array) -> bool:
    """Whether ``x`` holds real floating point numbers."""
    return bool(namespace(x).isdtype(x.dtype, "real floating"))


def widen(x: Array) -> Array:
    """``x`` in a dtype that is safe to sum: float64 for NumPy, at least float32 elsewhere.

    A bfloat16 sum of 4,096 ones is 256. NumPy's scatter accumulates in float64 in any case, so it costs nothing there.
    """
    xp = namespace(x)
    if library(x) == "numpy":
        return x.astype(xp.float64, copy=False)
    if not is_floating(x):
        return x.astype(float) if library(x) == "jax" else xp.astype(x, _default_float(x))
    return x if xp.finfo(x.dtype).bits >= 32 else xp.astype(x, xp.float32)


def _default_float(x: Array) -> Any:
    xp = namespace(x)
    return xp.float32 if library(x) == "torch" else xp.float64


def float_dtype(*arrays: Array) -> Any:
    """Dtype that an advantage computed from ``arrays`` is returned in: their common floating dtype."""
    xp = namespace(arrays[0])
    floating = [x.dtype for x in arrays if is_floating(x)]
    if not floating:
        return widen(arrays[0]).dtype
    # torch.compile cannot trace torch.result_type, which is what array_api_compat calls
    promote = sys.modules["torch"].promote_types if library(arrays[0]) == "torch" else xp.result_type
    return reduce(promote, floating)


def stop_gradient(x: Array) -> Array:
    """``x`` without its history: an advantage is a constant of the loss."""
    match library(x):
        case "torch":
            return x.detach()
        case "jax":
            return sys.modules["jax"].lax.stop_gradient(x)
        case _:
            return x


def is_concrete(x: Array) -> bool:
    """Whether ``x`` has values: it is not traced by jit or torch.compile, and not a fake tensor."""
    match library(x):
        case "torch":
            torch = sys.modules["torch"]
            return not torch.compiler.is_compiling() and type(x) in (torch.Tensor, torch.nn.Parameter)
        case "jax":
            return not isinstance(x, sys.modules["jax"].core.Tracer)
        case _:
            return True


def is_readable(x: Array) -> bool:
    """Whether the values of ``x`` can be read without waiting for an accelerator."""
    if not is_concrete(x):
        return False
    match library(x):
        case "torch":
            return x.device.type == "cpu"
        case "jax":
            return all(d.platform == "cpu" for d in x.devices())
        case _:
            return True


def register_pytree(
    cls: type, flatten: Callable[[Any], tuple[tuple[Any, ...], Any]], unflatten: Callable[[Any, Any], Any]
) -> bool:
    """Make ``cls`` a JAX pytree if JAX has been imported; whether it has."""
    if "jax" not in sys.modules:
        return False
    jax: ModuleType = sys.modules["jax"]
    jax.tree_util.register_pytree_node(cls, flatten, partial(unflatten))
    return True
