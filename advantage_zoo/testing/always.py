"""The invariants that every estimator keeps. Each check raises an AssertionError that begins with the law's id."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.arrays import Array
from advantage_zoo.batch import RolloutBatch
from advantage_zoo.testing import layouts
from advantage_zoo.testing.backends import convert
from advantage_zoo.testing.strategies import JUNK
from advantage_zoo.testing.tolerances import LIBRARIES
from advantage_zoo.testing.trial import Trial, require, require_close, require_same


def masked_zero(trial: Trial) -> None:
    """Exactly 0, not NaN, where the mask is False."""
    masked = trial.values()[~trial.batch.response_mask]
    require("MASKED_ZERO", bool(np.all(masked == 0)), f"masked slots hold {masked[masked != 0]}.")


def masked_blind(trial: Trial) -> None:
    """No output depends on a value at a masked token, be it NaN, infinite or 1e9, to the bit."""
    clean = trial.run(layouts.fill_masked(trial.batch, 0.0))
    for junk in JUNK:
        filled = trial.run(layouts.fill_masked(trial.batch, junk))
        require_same("MASKED_BLIND", filled, clean, trial.backend, f"with {junk} in masked slots")


def _same_tokens(
    law: str, trial: Trial, other: RolloutBatch, what: str, rows: NDArray[Any] | None = None, dtype: str = "float64"
) -> None:
    """The valid tokens of ``other`` have the values of those of the trial's batch (of its ``rows``)."""
    here = trial.batch if rows is None else layouts.take_rows(trial.batch, rows)
    one, two = trial.run(dtype=dtype), trial.run(other, dtype)
    expected = trial.backend.asnumpy(one.values)
    expected = (expected if rows is None else expected[rows])[here.response_mask]
    got = trial.backend.asnumpy(two.values)[other.response_mask]
    require_close(law, got, expected, what, LIBRARIES[dtype])
    for name, scalar in one.diagnostics.items():
        before, after = trial.backend.asnumpy(scalar), trial.backend.asnumpy(two.diagnostics[name])
        if before.ndim == 0:
            require_close(law, after, before, f"{what}, diagnostic {name}", LIBRARIES[dtype])


def padding(trial: Trial) -> None:
    """More padding columns, or the packed layout, change nothing."""
    mask = trial.batch.response_mask
    for before, after in ((0, 1), (0, 7), (2, 0)):
        wider = layouts.pad(trial.batch, before, after, float("nan"))
        _same_tokens("PADDING", trial, wider, f"with {before} and {after} more columns")
    packed = layouts.pack(trial.batch, np.ones_like(mask))
    _same_tokens("PADDING", trial, packed, "packed with its padding")
    if mask.any():
        _same_tokens("PADDING", trial, layouts.pack(trial.batch, mask), "packed")


def holes(trial: Trial) -> None:
    """Masked tokens inside a response (tool output) leave the values of the others."""
    for junk in (0.0, float("nan")):
        punched = layouts.punch(trial.batch, 3, junk, trial.rng)
        _same_tokens("HOLES", trial, punched, f"with 3 masked slots ({junk}) inserted")


def permutation(trial: Trial) -> None:
    """Permuting rows permutes the output; relabelling groups changes nothing, and they may be unequal."""
    order = trial.rng.permutation(len(trial.batch.rewards))
    _same_tokens("PERMUTATION", trial, layouts.take_rows(trial.batch, order), f"rows in order {order}", order)
    by_group = np.argsort(trial.batch.group_ids, kind="stable")
    _same_tokens("PERMUTATION", trial, layouts.take_rows(trial.batch, by_group), "rows sorted by group", by_group)
    count = int(trial.batch.num_groups or 0) + 2
    ids = trial.rng.permutation(count)[trial.batch.group_ids]
    relabelled = replace(trial.batch, group_ids=ids, num_groups=count)
    _same_tokens("PERMUTATION", trial, relabelled, f"groups called {ids}")


def group_independence(trial: Trial) -> None:
    """Changing one group changes no other group, unless the estimator declares batch statistics."""
    if trial.estimator.batch_statistics:
        return
    batch, rng = layouts.fill_masked(trial.batch, 0.0), trial.rng
    ids: NDArray[np.int64] = batch.group_ids
    group = int(ids[rng.integers(len(ids))])
    mine: NDArray[np.bool_] = np.equal(ids, group)
    mask: NDArray[np.bool_] = batch.response_mask
    new: dict[str, Any] = {}
    for name, x in {**layouts.token_fields(batch), **layouts.token_extras(batch)}.items():
        other = rng.random(mask.shape) if name in ("entropies", "sum_pi_squared") else x[:, ::-1] - 1.0
        new[name] = np.where(mine[:, None], other, x)
    new["extras"] = {name: new.pop(name, x) for name, x in batch.extras.items()}
    for name, x in layouts.row_fields(batch).items():
        if name != "group_ids":
            other = rng.normal(size=x.shape) * 100 + 50
            new[name] = np.where(np.reshape(mine, (-1,) + (1,) * (x.ndim - 1)), other, x)
    kept = ~mine
    if kept.any():
        got = trial.values(layouts.fill_masked(replace(batch, **new), 0.0))[kept]
        require_close("GROUP_INDEPENDENCE", got, trial.values()[kept], f"after a change of group {group}")


def empty_row(trial: Trial) -> None:
    """A response without a valid token gets zeros and moves nobody's baseline."""
    batch = trial.batch
    row = int(trial.rng.integers(len(batch.rewards)))
    others = np.delete(np.arange(len(batch.rewards)), row)
    if not len(others):
        return
    mask = batch.response_mask.copy()
    mask[row] = False
    rewards = np.where(np.arange(len(mask)) == row, 123.0, batch.rewards)
    emptied = replace(trial, batch=layouts.fill_masked(replace(batch, response_mask=mask, rewards=rewards), 0.0))
    require("EMPTY_ROW", not emptied.values()[row].any(), f"row {row} has no valid token, but advantages.")
    _same_tokens("EMPTY_ROW", emptied, layouts.take_rows(emptied.batch, others), f"without empty row {row}", others)


def finite(trial: Trial) -> None:
    """Finite inputs give finite outputs, in every dtype and at any scale of the rewards."""
    tiny = {"float64": 5e-324, "float32": 1e-45, "float16": 6e-8, "bfloat16": 1e-40}
    large = {"float64": 1.79e308, "float32": 3.4e38, "float16": 65504.0, "bfloat16": 3.38e38}
    unit = trial.batch.rewards / max(1.0, float(np.max(np.abs(trial.batch.rewards))))
    for dtype in trial.backend.dtypes:
        for scale in (tiny[dtype], 1e-30, 1.0, 1e30, large[dtype] / 3, large[dtype]):
            rewards = np.clip(unit * scale, -large[dtype], large[dtype])
            result = trial.run(trial.with_rewards(rewards), dtype)
            for name, x in {"values": result.values, **result.diagnostics}.items():
                x = trial.backend.asnumpy(x)
                require("FINITE", bool(np.isfinite(x).all()), f"{name} {x} for rewards {rewards} in {dtype}.")


def non_finite_input(trial: Trial) -> None:
    """A NaN or infinite reward is refused by name and row."""
    row = int(trial.rng.integers(len(trial.batch.rewards)))
    for bad in (float("nan"), float("inf"), float("-inf")):
        rewards = np.where(np.arange(len(trial.batch.rewards)) == row, bad, trial.batch.rewards)
        try:
            trial.run(trial.with_rewards(rewards))
        except ValueError as error:
            named = f"rewards[{row}]" in str(error) and f"row {row}" in str(error)
            require("NON_FINITE_INPUT", named, f"the error does not name rewards and row {row}: {error}")
        else:
            require("NON_FINITE_INPUT", False, f"rewards[{row}] is {bad}, and nothing was raised.")


def _contents(trial: Trial, batch: RolloutBatch) -> list[bytes]:
    contents: list[bytes] = []

    def read(x: Array) -> Array:
        contents.append(trial.backend.asnumpy(x).tobytes())
        return x

    convert(batch, read)
    return contents


def pure(trial: Trial) -> None:
    """Inputs are not written to; same inputs, same bits; no state between calls."""
    here = trial.backend.batch(trial.batch)
    before = _contents(trial, here)
    first = trial.compute(here, trial.estimator)
    for old, new in zip(before, _contents(trial, here), strict=True):
        require("PURE", old == new, "an input was written to.")
    trial.run(trial.with_rewards(trial.batch.rewards[::-1] * 2 + 1))
    require_same("PURE", trial.compute(here, trial.estimator), first, trial.backend, "the same batch again")


def kind(trial: Trial) -> None:
    """Same array library, shape, device and float type out as in."""
    for dtype in trial.backend.dtypes:
        batch = trial.backend.batch(trial.batch, dtype)
        values = trial.compute(batch, trial.estimator).values
        rows: list[tuple[str, Any, Any]] = [
            ("type", type(values), type(batch.rewards)),
            ("dtype", values.dtype, batch.rewards.dtype),
            ("shape", tuple(values.shape), tuple(batch.response_mask.shape)),
            ("device", getattr(values, "device", None), getattr(batch.rewards, "device", None)),
        ]
        for what, got, expected in rows:
            require("KIND", got == expected, f"{what} is {got}, expected {expected}.")
