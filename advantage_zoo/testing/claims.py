"""The invariants that an estimator may claim. Each check raises an AssertionError that begins with the law's id."""

from dataclasses import fields, replace
from math import sqrt
from typing import Any

import numpy as np

from advantage_zoo.compute import compute_advantages, make
from advantage_zoo.testing.layouts import fill_masked
from advantage_zoo.testing.strategies import DEAD
from advantage_zoo.testing.tolerances import LAWS
from advantage_zoo.testing.trial import Trial, require, require_close


def shift(trial: Trial) -> None:
    """Adding a constant to a group's rewards changes nothing."""
    constants = trial.rng.integers(-64, 64, int(trial.batch.num_groups or 0)) / 4
    moved = trial.with_rewards(trial.batch.rewards + constants[trial.batch.group_ids])
    require_close("SHIFT", trial.values(moved), trial.values(), f"rewards plus {constants} by group")


def _factors(trial: Trial) -> Any:
    return (2.0 ** trial.rng.integers(1, 7, int(trial.batch.num_groups or 0)))[trial.batch.group_ids]


def scale(trial: Trial) -> None:
    """Multiplying a group's rewards by c > 0 changes nothing, up to eps."""
    # A spread of about 1e3 leaves an eps of up to 1e-4 no say.
    large = trial.batch.rewards * 1e3
    expected, got = (trial.values(trial.with_rewards(r)) for r in (large, large * _factors(trial)))
    require_close("SCALE", got, expected, "rewards multiplied by powers of 2 by group")


def scale_equivariant(trial: Trial) -> None:
    """Multiplying a group's rewards by c > 0 multiplies its advantages by c."""
    c = _factors(trial)
    got = trial.values(trial.with_rewards(trial.batch.rewards * c))
    require_close("SCALE_EQUIVARIANT", got, trial.values() * c[:, None], f"rewards times {c}")


def zero_sum(trial: Trial) -> None:
    """A group's sequence advantages sum to 0."""
    values = trial.sequences()
    for rows in trial.groups():
        if len(rows) > 1:  # a group of one has a policy of its own, SINGLETON
            limit = LAWS["ZERO_SUM"] * max(1.0, float(np.max(np.abs(values))))
            require("ZERO_SUM", bool(abs(values[rows].sum()) <= limit), f"rows {rows} have {values[rows]}.")


def dead_group_zero(trial: Trial) -> None:
    """Equal rewards give exactly 0, in every dtype, whatever their value."""
    count, rng = int(trial.batch.num_groups or 0), trial.rng
    for dtype in trial.backend.dtypes * 3:
        rewards = rng.choice([*DEAD, 0.1, 1.2, 1e-3, 3e4], count)[trial.batch.group_ids]
        got = trial.values(trial.with_rewards(rewards), dtype)
        require("DEAD_GROUP_ZERO", not got.any(), f"{got} in {dtype} for rewards {rewards} by group.")


def dead_group_alive(trial: Trial) -> None:
    """Equal rewards and a policy away from its reference give a non-zero advantage."""
    batch = fill_masked(trial.batch, 0.0)
    rewards = trial.rng.integers(0, 2, int(batch.num_groups or 0)).astype(float)[batch.group_ids]
    # Every response diverges by an amount of its own, so that any group of two can be told apart token by token.
    logprobs: Any = batch.logprobs
    away: Any = logprobs - 0.5 - np.arange(len(rewards))[:, None]
    values = trial.values(replace(batch, rewards=rewards, ref_logprobs=np.where(batch.response_mask, away, 0.0)))
    for rows in trial.groups():
        if len(rows) > 1:
            require("DEAD_GROUP_ALIVE", bool(values[rows].any()), f"rows {rows} have only zeros.")


def uniform(trial: Trial) -> None:
    """The same value on all tokens of a response."""
    values = trial.values()
    for row, mask in enumerate(trial.batch.response_mask):
        require("UNIFORM", len(set(values[row][mask].tolist())) <= 1, f"row {row} has {values[row][mask]}.")


def sign(trial: Trial) -> None:
    """The sign of the advantage is that of the reward minus the group's mean."""
    values = trial.sequences()
    for rows in trial.groups():
        r = trial.batch.rewards[rows]
        above = r - r.mean()
        clear = np.abs(above) > LAWS["SIGN"] * max(1.0, float(np.max(np.abs(r))))
        if len(rows) > 1:
            wrong = clear & (np.sign(values[rows]) != np.sign(above))
            require("SIGN", not wrong.any(), f"rows {rows} with rewards {r} have {values[rows]}.")


def bounded(trial: Trial) -> None:
    """No advantage exceeds (n - 1) / sqrt(n) in a group of n."""
    values = np.abs(trial.values()).max(axis=1)
    for rows in trial.groups():
        if len(rows) > 1:
            limit = (len(rows) - 1) / sqrt(len(rows)) * (1 + LAWS["BOUNDED"])
            require("BOUNDED", bool(values[rows].max() <= limit), f"rows {rows} have {values[rows]}, above {limit}.")


def monotone(trial: Trial) -> None:
    """A higher reward never gets a lower advantage within its group."""
    values = trial.sequences()
    for rows in trial.groups():
        order = rows[np.argsort(trial.batch.rewards[rows], kind="stable")]
        rising = np.diff(values[order]) >= -LAWS["MONOTONE"] * max(1.0, float(np.max(np.abs(values))))
        higher = np.diff(trial.batch.rewards[order]) > 0
        require("MONOTONE", bool((rising | ~higher).all()), f"rows {order} with rising rewards have {values[order]}.")


def singleton(trial: Trial) -> None:
    """A group of one: raise, zero or raw, as the parameter ``singleton`` says."""
    alone = [rows[0] for rows in trial.groups() if len(rows) == 1]
    has = any(f.name == "singleton" for f in fields(trial.estimator))
    require("SINGLETON", has, "the estimator claims it, but has no parameter called singleton.")
    for policy in ("zero", "raw"):
        changed: Any = replace(trial.estimator, singleton=policy)
        values = replace(trial, estimator=changed).sequences()
        for row in alone:
            expected = trial.batch.rewards[row] if policy == "raw" else 0.0
            close = abs(values[row] - expected) <= LAWS["SINGLETON"] * max(1.0, abs(expected))
            require("SINGLETON", bool(close), f"{policy}: row {row} has {values[row]}, expected {expected}.")
    strict: Any = replace(trial.estimator, singleton="raise")
    try:
        replace(trial, estimator=strict).run()
    except ValueError as error:
        require("SINGLETON", bool(alone) and "singleton" in str(error), f"raised without cause or reason: {error}")
    else:
        require("SINGLETON", not alone, f"raise: row {alone[:1]} is alone in its group, and nothing was raised.")


def reduces_to(trial: Trial) -> None:
    """A named special case equals another estimator."""
    reductions = trial.estimator.reductions
    require("REDUCES_TO", bool(reductions), "the estimator claims it, but its class variable reductions is empty.")
    counted = trial.batch.group_ids[trial.batch.response_mask.any(axis=1)]
    sizes = np.bincount(counted, minlength=int(trial.batch.num_groups or 0))
    for params, other, times in reductions:
        special: Any = replace(trial.estimator, **params)
        got = replace(trial, estimator=special).values()
        expected = replace(trial, estimator=make(other), compute=compute_advantages).values()
        factor = times(np.maximum(sizes[trial.batch.group_ids], 1).astype(float))
        require_close("REDUCES_TO", got, expected * factor[:, None], f"with {dict(params)}, against {other}")
