"""The laws that an estimator may claim (``Estimator.claims``), at its default parameters."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.testing.laws import TOLERANCE, Law, Subject, changed, same, token_fields


def _clean(batch: RolloutBatch) -> RolloutBatch:
    return changed(batch, **token_fields(batch, lambda x: np.where(batch.response_mask, x, 0.0)))


def _sequence_values(subject: Subject, batch: RolloutBatch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(B,) value at each response's first valid token, and which responses have one."""
    values = subject.values(batch, subject.exact)
    first = batch.response_mask.argmax(axis=1)
    return values[np.arange(len(first)), first], batch.response_mask.any(axis=1)


def _groups(batch: RolloutBatch, present: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Rows with a valid token, group by group."""
    rows = [np.flatnonzero((batch.group_ids == g) & present) for g in np.unique(batch.group_ids)]
    return [r for r in rows if r.size]


def _by_group(batch: RolloutBatch, rng: np.random.Generator, choices: list[float]) -> NDArray[np.float64]:
    """A number for each group, spread over its rows."""
    return rng.choice(choices, int(batch.num_groups or 1))[batch.group_ids]


def shift(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Adding a constant to a group's rewards changes nothing."""
    want = subject.values(batch, subject.exact)
    moved = changed(batch, rewards=batch.rewards + _by_group(batch, rng, [-2.0, 0.5, 4.0]))
    same(subject, subject.values(moved, subject.exact), want, slack=100)


def scale(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Multiplying a group's rewards by a positive number changes nothing, up to eps."""
    want = subject.values(batch, subject.exact)
    moved = changed(batch, rewards=batch.rewards * _by_group(batch, rng, [0.5, 3.0, 64.0]))
    np.testing.assert_allclose(subject.values(moved, subject.exact), want, rtol=1e-3, atol=1e-6)


def scale_equivariant(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Multiplying a group's rewards by a positive number multiplies its advantages by it."""
    factor = _by_group(batch, rng, [0.5, 3.0, 64.0])
    want = subject.values(batch, subject.exact) * factor[:, None]
    same(subject, subject.values(changed(batch, rewards=batch.rewards * factor), subject.exact), want, slack=10)


def zero_sum(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """A group's sequence advantages sum to 0."""
    values, present = _sequence_values(subject, batch)
    for rows in _groups(batch, present):
        size = float(np.abs(values[rows]).sum())
        assert abs(values[rows].sum()) <= 10 * TOLERANCE[subject.exact] * size, f"they sum to {values[rows].sum()}"


def dead_group_zero(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Equal rewards give exactly 0, in every dtype, whatever the value."""
    for dtype in subject.backend.dtypes:
        if dtype == "float64" and subject.exact != "float64":
            continue
        for value in (0.1, 0.81593, 1.2, -7.3, 6e4, float(rng.random())):
            values = subject.values(changed(batch, rewards=np.full_like(batch.rewards, value)), dtype)
            assert np.all(values == 0), f"{dtype}, all rewards {value}: up to {np.abs(values).max()}"


def dead_group_alive(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Equal rewards and a policy away from its reference give an advantage that is not 0."""
    shape = (4, 12)
    apart = dataclasses.replace(
        batch,
        rewards=np.full(4, float(rng.integers(0, 2))),
        response_mask=np.ones(shape, dtype=bool),
        group_ids=np.zeros(4, dtype=int),
        num_groups=1,
        logprobs=-rng.gamma(0.7, 1.0, shape),
        ref_logprobs=-rng.gamma(0.7, 1.0, shape),
        entropies=rng.gamma(0.7, 1.0, shape),
        extras={},
    )
    assert np.any(subject.values(apart, subject.exact) != 0), "every advantage is 0"


def uniform(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """The same value on all tokens of a response."""
    values = subject.values(batch, subject.exact)
    for row, valid in zip(values, batch.response_mask, strict=True):
        assert np.unique(row[valid]).size <= 1, f"a response holds {np.unique(row[valid])}"


def sign(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """The sign of an advantage is that of the reward minus the group's mean."""
    values, present = _sequence_values(subject, batch)
    for rows in _groups(batch, present):
        deviation = batch.rewards[rows] - batch.rewards[rows].mean()
        clear = np.abs(deviation) > 1e-9
        np.testing.assert_array_equal(np.sign(values[rows][clear]), np.sign(deviation[clear]))


def bounded(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """No advantage exceeds (G - 1) / sqrt(G) for a group of G."""
    values, present = _sequence_values(subject, batch)
    for rows in _groups(batch, present):
        limit = (rows.size - 1) / rows.size**0.5
        assert np.abs(values[rows]).max() <= limit * (1 + TOLERANCE[subject.exact]) + 1e-12, f"above {limit}"


def monotone(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """A higher reward never gets a lower advantage within its group."""
    values, present = _sequence_values(subject, batch)
    for rows in _groups(batch, present):
        rising = values[rows][np.argsort(batch.rewards[rows], kind="stable")]
        assert np.all(np.diff(rising) >= -1e-12 * np.abs(rising).max()), f"{rising} for rising rewards"


def singleton(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """A group of one: an error, 0 or the raw reward, as the parameter ``singleton`` says."""
    alone = changed(batch, group_ids=np.arange(len(batch.rewards)), num_groups=len(batch.rewards))
    present = batch.response_mask.any(axis=1)

    def under(policy: str) -> NDArray[np.float64]:
        chosen = dataclasses.replace(subject.estimator, singleton=policy)  # pyright: ignore[reportCallIssue]
        return _sequence_values(dataclasses.replace(subject, estimator=chosen), alone)[0]

    np.testing.assert_array_equal(under("zero"), 0.0)
    same(subject, under("raw"), np.where(present, batch.rewards, 0.0))
    if not present.any():
        return
    try:
        under("raise")
    except ValueError:
        return
    raise AssertionError("singleton='raise' did not raise")


CLAIMS: dict[str, Law] = {
    law.id: law
    for law in (
        Law("SHIFT", str(shift.__doc__), "a baseline is subtracted", shift),
        Law("SCALE", str(scale.__doc__), "arXiv:2402.03300", scale),
        Law("SCALE_EQUIVARIANT", str(scale_equivariant.__doc__), "arXiv:2503.20783", scale_equivariant),
        Law("ZERO_SUM", str(zero_sum.__doc__), "the baseline is the group's own mean", zero_sum),
        Law(
            "DEAD_GROUP_ZERO", str(dead_group_zero.__doc__), "0.12 in verl, 119 in OpenRLHF's formula", dead_group_zero
        ),
        Law("DEAD_GROUP_ALIVE", str(dead_group_alive.__doc__), "arXiv:2605.04960, Table I", dead_group_alive),
        Law("UNIFORM", str(uniform.__doc__), "a sequence-level advantage", uniform),
        Law("SIGN", str(sign.__doc__), "SkyRL's MaxRL turns signs for negative rewards", sign),
        Law("BOUNDED", str(bounded.__doc__), "NeMo-RL#4158: 3,993", bounded),
        Law("MONOTONE", str(monotone.__doc__), "a group-relative advantage", monotone),
        Law("SINGLETON", str(singleton.__doc__), "verl#7581", singleton),
    )
}
"""What an estimator may claim, by id. ``REDUCES_TO`` is claimed, too, and is tested case by case."""
