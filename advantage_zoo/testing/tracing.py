"""The invariants that need a library's tracing: agreement, no synchronisation, no gradient."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.estimator import Advantages
from advantage_zoo.testing import layouts
from advantage_zoo.testing.backends import backend, convert
from advantage_zoo.testing.tolerances import LIBRARIES
from advantage_zoo.testing.trial import Trial, require, require_close


def _computation(trial: Trial) -> Callable[[RolloutBatch], Advantages]:
    return lambda batch: trial.compute(batch, trial.estimator)


def agree(trial: Trial) -> None:
    """NumPy, PyTorch, JAX and array-api-strict agree, and so do jax.jit and torch.compile."""
    for dtype in (d for d in LIBRARIES if d in trial.backend.dtypes):
        rounded = convert(trial.batch, lambda x, d=dtype: x.astype(d).astype(float) if x.dtype.kind == "f" else x)
        reference = replace(trial, backend=backend("numpy")).run(rounded)
        runs = {trial.backend.name: trial.run(dtype=dtype)}
        if trial.backend.name == "jax":
            jax: Any = importlib.import_module("jax")
            runs["jax.jit"] = jax.jit(_computation(trial))(trial.backend.batch(trial.batch, dtype))
        for name, result in runs.items():
            got = trial.backend.asnumpy(result.values)
            require_close("AGREE", got, reference.values, f"{name} and NumPy in {dtype}", LIBRARIES[dtype])


def agree_when_compiled(trial: Trial) -> None:
    """``torch.compile(fullgraph=True)`` takes the estimator, and agrees with NumPy; one batch, as compiling is slow."""
    if trial.backend.name != "torch":  # under JAX every batch is traced
        return
    torch: Any = importlib.import_module("torch")
    torch._dynamo.reset()
    compiled = torch.compile(_computation(trial), fullgraph=True, backend="aot_eager")
    try:
        values = compiled(trial.backend.batch(trial.batch)).values
    except torch._dynamo.exc.TorchDynamoException as error:
        why = " ".join(str(error).partition("\n\n")[0].split())
        raise AssertionError(f"AGREE: torch.compile(fullgraph=True) cannot trace it ({why}).") from error
    expected = replace(trial, backend=backend("numpy")).values()
    require_close(
        "AGREE", trial.backend.asnumpy(values), expected, "compiled by PyTorch, and NumPy", LIBRARIES["float64"]
    )


def _both_layouts(batch: RolloutBatch) -> tuple[RolloutBatch, RolloutBatch]:
    return batch, layouts.pack(batch, np.ones_like(batch.response_mask))


def no_sync(trial: Trial) -> None:
    """No value is read back from the device: fake tensors and abstract values have none to read."""
    for batch in _both_layouts(trial.batch):
        here = trial.backend.batch(batch)
        try:
            if trial.backend.name == "torch":
                fake: Any = importlib.import_module("torch._subclasses.fake_tensor").FakeTensorMode()
                with fake:
                    trial.compute(convert(here, fake.from_tensor), trial.estimator)
            elif trial.backend.name == "jax":
                jax: Any = importlib.import_module("jax")
                jax.eval_shape(_computation(trial), here)
        except Exception as error:
            raise AssertionError(f"NO_SYNC: a value was read ({type(error).__name__}: {error}).") from error


def no_grad(trial: Trial) -> None:
    """The result carries no gradient."""
    for batch in _both_layouts(layouts.fill_masked(trial.batch, 0.0)):
        here = trial.backend.batch(batch)
        if trial.backend.name == "torch":
            result = trial.compute(convert(here, _track), trial.estimator)
            tracked = [k for k, x in {"values": result.values, **result.diagnostics}.items() if x.requires_grad]
            require("NO_GRAD", not tracked, f"{', '.join(tracked)} requires a gradient.")
        elif trial.backend.name == "jax":
            _no_jax_gradient(trial, here)


def _track(x: Any) -> Any:
    return x.clone().requires_grad_() if x.is_floating_point() else x


def _no_jax_gradient(trial: Trial, here: RolloutBatch) -> None:
    jax: Any = importlib.import_module("jax")
    floating = {"rewards": here.rewards, **layouts.token_fields(here)}

    def total(arrays: dict[str, Any]) -> Any:
        result: Advantages = trial.compute(replace(here, **arrays), trial.estimator)
        return (result.values**2).sum()

    for name, slope in jax.jit(jax.grad(total))(floating).items():
        require("NO_GRAD", not np.any(np.asarray(slope)), f"the gradient by {name} is {slope}.")
