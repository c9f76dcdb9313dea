"""The array libraries under test, and how a NumPy batch becomes one of theirs."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.batch import RolloutBatch


@dataclass(frozen=True)
class Backend:
    """An array library under test.

    Args:
        name: What ``ADVANTAGE_ZOO_TEST_BACKENDS`` calls it.
        module: What must be importable.
        dtypes: Names of its floating dtypes.
        asarray: NumPy array, and the name of a dtype for floating ones, to its array.
        to_numpy: Its array to NumPy, half precision widened.
    """

    name: str
    module: str
    dtypes: tuple[str, ...]
    asarray: Callable[[NDArray[Any], str], Array]
    to_numpy: Callable[[Array], NDArray[Any]]


def _numpy(x: NDArray[Any], dtype: str) -> Array:
    with np.errstate(over="ignore"):  # rubbish in the padding may exceed a half
        return x.astype(dtype) if x.dtype.kind == "f" else x.copy()


def _read_only(x: NDArray[Any], dtype: str) -> Array:
    out = _numpy(x, dtype)
    out.setflags(write=False)
    return out


def _torch(x: NDArray[Any], dtype: str) -> Array:
    torch = importlib.import_module("torch")
    out = torch.from_numpy(np.ascontiguousarray(x).copy())
    return out.to(getattr(torch, dtype)) if x.dtype.kind == "f" else out


def _jax(x: NDArray[Any], dtype: str) -> Array:
    jax = importlib.import_module("jax")
    if x.dtype.kind == "f":
        return jax.numpy.asarray(x.astype(np.float64 if dtype == "float64" else np.float32)).astype(dtype)
    return jax.numpy.asarray(x if x.dtype.kind == "b" else x.astype(np.int32))


def _strict(x: NDArray[Any], dtype: str) -> Array:
    strict = importlib.import_module("array_api_strict")
    return strict.asarray(x.astype(dtype) if x.dtype.kind == "f" else x)


def _torch_to_numpy(x: Array) -> NDArray[Any]:
    return x.double().numpy() if x.is_floating_point() else x.numpy()


def _jax_to_numpy(x: Array) -> NDArray[Any]:
    out = np.asarray(x)
    return out if out.dtype.kind in "bi" else out.astype(np.float64)


_HALF = ("float64", "float32", "float16")
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("numpy", "numpy", _HALF, _numpy, np.asarray),
        Backend("readonly", "numpy", _HALF, _read_only, np.asarray),
        Backend("torch", "torch", (*_HALF, "bfloat16"), _torch, _torch_to_numpy),
        Backend("jax", "jax", (*_HALF, "bfloat16"), _jax, _jax_to_numpy),
        Backend("strict", "array_api_strict", ("float64", "float32"), _strict, np.from_dlpack),
    )
}
"""By name. JAX has float64 only with ``jax_enable_x64``."""


def available(names: Iterable[str] | None = None) -> list[Backend]:
    """The named backends, or all whose library is installed.

    Raises:
        LookupError: A name is unknown, or its library is not installed: a check that was asked for is not skipped.
    """
    if names is None:
        return [backend for backend in BACKENDS.values() if importlib.util.find_spec(backend.module)]
    chosen: list[Backend] = []
    for name in names:
        if name not in BACKENDS:
            raise LookupError(f"No backend is called {name!r}; there are {', '.join(BACKENDS)}.")
        if not importlib.util.find_spec(BACKENDS[name].module):
            raise LookupError(f"Backend {name!r} needs {BACKENDS[name].module}, which is not installed.")
        chosen.append(BACKENDS[name])
    return chosen


def convert(batch: RolloutBatch, backend: Backend, dtype: str = "float64") -> RolloutBatch:
    """A NumPy batch as one of ``backend``, its floating fields in ``dtype``."""
    fields: dict[str, Any] = {}
    for f in dataclasses.fields(batch):
        value = getattr(batch, f.name)
        if isinstance(value, np.ndarray):
            value = backend.asarray(value, dtype)
        fields[f.name] = value
    fields["extras"] = {name: backend.asarray(x, dtype) for name, x in batch.extras.items()}
    return RolloutBatch(**fields)
