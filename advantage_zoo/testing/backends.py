"""The array libraries under test, each as a way in from NumPy and a way back."""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.arrays import Array
from advantage_zoo.batch import RolloutBatch
from advantage_zoo.suggestions import nearest

WIDE = ("float64", "float32")
ALL = (*WIDE, "float16", "bfloat16")
TRACING = ("torch", "jax")
"""Libraries with devices, gradients and a compiler."""


@dataclass(frozen=True)
class Backend:
    """An array library.

    Args:
        name: ``"numpy"``, ``"torch"``, ``"jax"`` or ``"strict"`` (array-api-strict); ``"readonly"`` for NumPy arrays
            that cannot be written to.
        dtypes: Names of the floating dtypes that it has.
        asarray: NumPy array and dtype's name (``None`` to keep it) to the library's array, always a copy.
        asnumpy: The library's array to NumPy, narrow floats widened.
        precise: Context in which float64 is float64 (JAX needs one).
    """

    name: str
    dtypes: tuple[str, ...]
    asarray: Callable[[NDArray[Any], str | None], Array]
    asnumpy: Callable[[Array], NDArray[Any]]
    precise: Callable[[], AbstractContextManager[Any]] = nullcontext

    def batch(self, batch: RolloutBatch, dtype: str = "float64") -> RolloutBatch:
        """A NumPy batch in this library, its floating fields in ``dtype``."""
        with np.errstate(over="ignore"):  # what stands in masked slots may exceed a narrow dtype
            return convert(batch, lambda x: self.asarray(x, dtype if x.dtype.kind == "f" else None))


def convert(batch: RolloutBatch, function: Callable[[Array], Array]) -> RolloutBatch:
    """The batch with ``function`` applied to each of its arrays."""
    changes: dict[str, Any] = {"extras": {name: function(x) for name, x in batch.extras.items()}}
    for f in fields(batch):
        if f.name not in ("num_groups", "extras") and getattr(batch, f.name) is not None:
            changes[f.name] = function(getattr(batch, f.name))
    return replace(batch, **changes)


def _numpy() -> Backend:
    return Backend("numpy", (*WIDE, "float16"), lambda x, dtype: np.array(x, dtype=dtype), np.asarray)


def _readonly() -> Backend:
    def asarray(x: NDArray[Any], dtype: str | None) -> Array:
        x = np.array(x, dtype=dtype)
        x.setflags(write=False)
        return x

    return replace(_numpy(), name="readonly", asarray=asarray)


def _torch() -> Backend:
    torch: Any = importlib.import_module("torch")

    def asarray(x: NDArray[Any], dtype: str | None) -> Array:
        return torch.tensor(np.array(x), dtype=dtype and getattr(torch, dtype))

    def asnumpy(x: Array) -> NDArray[Any]:
        return (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).detach().numpy()

    return Backend("torch", ALL, asarray, asnumpy)


def _jax() -> Backend:
    jax: Any = importlib.import_module("jax")
    importlib.import_module("jax.experimental")

    def asnumpy(x: Array) -> NDArray[Any]:
        return np.asarray(x.astype("float32") if str(x.dtype) in ("bfloat16", "float16") else x)

    def precise() -> AbstractContextManager[Any]:
        return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()

    return Backend("jax", ALL, lambda x, dtype: jax.numpy.array(x, dtype=dtype), asnumpy, precise)


def _strict() -> Backend:
    strict: Any = importlib.import_module("array_api_strict")

    def asarray(x: NDArray[Any], dtype: str | None) -> Array:
        return strict.asarray(np.array(x, dtype=dtype))

    return Backend("strict", WIDE, asarray, np.from_dlpack)


_MAKE: dict[str, tuple[str, Callable[[], Backend]]] = {
    "numpy": ("numpy", _numpy),
    "readonly": ("numpy", _readonly),
    "torch": ("torch", _torch),
    "jax": ("jax", _jax),
    "strict": ("array_api_strict", _strict),
}


def backend(name: str) -> Backend:
    """The backend called ``name``.

    Raises:
        LookupError: There is none of this name.
        ImportError: Its library is not installed.
    """
    if name not in _MAKE:
        raise LookupError(f"No backend is called {name!r}{nearest(name, _MAKE)}; there are {', '.join(_MAKE)}.")
    return _MAKE[name][1]()


def installed() -> tuple[str, ...]:
    """Names of the backends whose library is installed."""
    return tuple(name for name, (module, _) in _MAKE.items() if importlib.util.find_spec(module) is not None)
