"""compute_advantages: from a batch and a name to advantages."""

import numbers
import re
from typing import Any

from advantage_zoo.arrays.namespace import Array, float_dtype
from advantage_zoo.batch import RolloutBatch, register_with_jax
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.flat import FlatBatch
from advantage_zoo.registry import estimator, registry
from advantage_zoo.spelling import build
from advantage_zoo.transforms import TRANSFORMS
from advantage_zoo.validation import refuse_broken

_NAME = re.compile(r"[\w:@-]+")


def make(which: str | Estimator, /, **params: Any) -> Estimator:
    """An estimator from its spelling, or the instance itself.

        >>> make("ep_grpo", num_buckets=5) == make("ep_grpo(num_buckets=5)")
        True
        >>> make("grpo | clip(-2, 2)").name
        'grpo | clip(low=-2.0, high=2.0)'

    Args:
        which: A name, or any spelling (:mod:`advantage_zoo.spelling`), or an instance.
        **params: Parameters of the estimator, if it is given by a name alone.

    Raises:
        LookupError: A name in it is no estimator's and no transform's.
        TypeError: A parameter is unknown, missing or of the wrong type.
        ValueError: The spelling cannot be read, or a parameter is out of its range.
    """
    if isinstance(which, str):
        if which in registry().entries or (_NAME.fullmatch(which) and which not in TRANSFORMS):
            return estimator(which).create(**params)
        built = build(which)
    elif isinstance(which, Estimator):  # pyright: ignore[reportUnnecessaryIsInstance]
        built = which
    else:
        raise TypeError(f"{which!r} is neither an estimator's name nor an instance of one.")
    if params:
        raise TypeError(
            f"{', '.join(params)}: {built} has its parameters already; write them inside, as in name(key=value)."
        )
    return built


def compute_advantages(
    batch: RolloutBatch, which: str | Estimator, /, *, step: int | None = None, **params: Any
) -> Advantages:
    """Advantages of ``batch`` under an estimator.

    Args:
        batch: The rollouts.
        which: An estimator's name or spelling (see :func:`make`), or an instance.
        step: The optimisation step, from 0, for parameters that follow a schedule.
        **params: Parameters of the estimator, if it is given by a name alone.

    Returns:
        Values in the shape of ``batch.response_mask``, exactly 0 where it is False; same array library, device and
        floating dtype as the inputs used; no gradient. What overflows that dtype is its largest number.

    Raises:
        LookupError: No estimator has this name.
        TypeError: A parameter is unknown.
        ValueError: The batch lacks a field that the estimator needs, or a parameter is out of range. Where values can
            be read without waiting for an accelerator, a reward that is not finite or a group id out of range is
            refused as well; on an accelerator and under jit, call :func:`advantage_zoo.validate` first.
    """
    if not isinstance(batch, RolloutBatch):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"The batch is a {type(batch).__name__}; expected a RolloutBatch.")
    if step is not None and (isinstance(step, bool) or not isinstance(step, numbers.Integral) or step < 0):  # pyright: ignore
        raise ValueError(f"step is {step!r}; expected the number of the optimisation step, a whole number from 0.")
    register_with_jax()
    chosen = make(which, **params).at(step)
    missing = [name for name in sorted(chosen.needs) if batch.get(name) is None]
    if missing:
        raise ValueError(f"{chosen.name} needs {' and '.join(missing)}, which the batch does not have.")
    looked = refuse_broken(batch)
    flat = FlatBatch(batch, chosen.needs, chosen.uses)
    result = chosen.compute(flat)
    if not isinstance(result, Advantages):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{chosen.name} returned a {type(result).__name__}; expected Advantages(values, diagnostics).")
    return Advantages(_finish(result.values, batch, flat, chosen, looked), dict(result.diagnostics))


def _finish(values: Array, batch: RolloutBatch, flat: FlatBatch, chosen: Estimator, looked: bool) -> Array:
    """Saturate, zero what is masked, and restore shape and dtype, for every estimator alike."""
    xp = flat.xp
    if tuple(values.shape) != tuple(flat.mask.shape):
        raise ValueError(
            f"{chosen.name} returned values of shape {tuple(values.shape)}; expected one a token, "
            f"{tuple(flat.mask.shape)} (batch.to_tokens spreads what is one a response)."
        )
    used = [x for x in (batch.get(name) for name in (*chosen.needs, *chosen.uses)) if x is not None]
    dtype = float_dtype(batch.rewards, *used)
    limit = min(float(xp.finfo(dtype).max), float(xp.finfo(values.dtype).max))
    values = xp.clip(values, -limit, limit)
    if not looked:  # nobody could refuse a reward that is not finite: the NaN stays with the response that brought it
        values = xp.where(flat.to_tokens(flat.finite), values, xp.nan)
    values = xp.where(flat.mask, values, 0.0)
    return flat.unflatten(xp.astype(values, dtype))
