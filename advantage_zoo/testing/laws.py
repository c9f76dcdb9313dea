"""The laws that every estimator keeps, and the subject that a law is tried on. Laws that are claimed: claims.py."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.arrays.namespace import library
from advantage_zoo.batch import TOKEN_FIELDS, RolloutBatch
from advantage_zoo.compute import compute_advantages
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.testing.libraries import BACKENDS, Backend, convert

Compute = Callable[[RolloutBatch, Estimator], Advantages]

TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "float16": 2e-3, "bfloat16": 2e-2}
"""Largest difference between two ways to the same advantages, relative to the largest of them."""


@dataclass(frozen=True)
class Subject:
    """An estimator on one array library.

    Args:
        estimator: The instance.
        backend: The library that it runs on.
        compute: How it is run; tests put a broken way in here to see it caught.
    """

    estimator: Estimator
    backend: Backend = BACKENDS["numpy"]
    compute: Compute = compute_advantages

    def run(self, batch: RolloutBatch, dtype: str = "float64") -> Advantages:
        """The raw result on a NumPy batch converted to the backend."""
        return self.compute(convert(batch, self.backend, dtype), self.estimator)

    def values(self, batch: RolloutBatch, dtype: str = "float64") -> NDArray[np.float64]:
        """The advantages, (B, T) or packed (N,), as NumPy float64."""
        return np.asarray(self.backend.to_numpy(self.run(batch, dtype).values), dtype=np.float64)

    @property
    def exact(self) -> str:
        """The widest dtype that the backend has at present: JAX has float64 only if told so."""
        if self.backend.name != "jax":
            return "float64"
        import jax

        return "float64" if jax.config.jax_enable_x64 else "float32"


@dataclass(frozen=True)
class Law:
    """Something that holds for an estimator on every batch.

    Args:
        id: As claims name it.
        text: The law in a sentence.
        source: Where its breach hurt somebody, or which paper states it.
        check: Raises AssertionError where it does not hold for (subject, NumPy batch, random numbers).
    """

    id: str
    text: str
    source: str
    check: Callable[[Subject, RolloutBatch, np.random.Generator], None]


def same(subject: Subject, got: NDArray[Any], want: NDArray[Any], dtype: str | None = None, slack: float = 1.0) -> None:
    """Assert equality up to the dtype's tolerance."""
    scale = max(float(np.abs(want).max(initial=0.0)), 1e-12)
    tolerance = slack * TOLERANCE[dtype or subject.exact] * scale
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


def changed(batch: RolloutBatch, **fields: Any) -> RolloutBatch:
    """A copy of the batch with other fields."""
    return dataclasses.replace(batch, **fields)


def token_fields(batch: RolloutBatch, change: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every token field of the batch, changed."""
    return {name: change(getattr(batch, name)) for name in TOKEN_FIELDS if getattr(batch, name) is not None}


def masked_zero(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Exactly 0, not NaN, where the mask is False."""
    values = subject.values(batch, subject.exact)
    assert np.all(values[~batch.response_mask] == 0), f"masked tokens hold {values[~batch.response_mask]}"


def masked_blind(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """No output depends on what stands at a masked token."""
    clean = changed(batch, **token_fields(batch, lambda x: np.where(batch.response_mask, x, 0.0)))
    want = subject.values(clean, subject.exact)
    for rubbish in (np.nan, np.inf, -np.inf, 1e9):
        dirty = changed(batch, **token_fields(batch, lambda x, r=rubbish: np.where(batch.response_mask, x, r)))
        np.testing.assert_array_equal(subject.values(dirty, subject.exact), want, f"with {rubbish} at masked tokens")


def padding(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """More padding columns, or the packed layout, change nothing."""
    want = subject.values(batch, subject.exact)
    rows, width = batch.response_mask.shape
    more = int(rng.integers(1, 4))
    wide = changed(
        batch,
        response_mask=np.pad(batch.response_mask, ((0, 0), (0, more))),
        **token_fields(batch, lambda x: np.pad(x, ((0, 0), (0, more)), constant_values=np.nan)),
    )
    same(subject, subject.values(wide, subject.exact)[:, :width], want)
    used = np.array([np.flatnonzero(row).max(initial=-1) + 1 for row in batch.response_mask])
    keep = np.arange(width)[None, :] < (used + rng.integers(0, 2, rows).clip(max=width - used))[:, None]
    if not keep.any():
        return
    packed = RolloutBatch.packed(
        cu_seqlens=np.concatenate([[0], np.cumsum(keep.sum(axis=1))]),
        rewards=batch.rewards,
        response_mask=batch.response_mask[keep],
        group_ids=batch.group_ids,
        num_groups=batch.num_groups,
        **token_fields(batch, lambda x: x[keep]),
    )
    same(subject, subject.values(packed, subject.exact), want[keep])


def holes(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Masked tokens inserted into a response (tool output) leave the action tokens' values."""
    want = subject.values(batch, subject.exact)
    rows, width = batch.response_mask.shape
    at = rng.integers(0, width + 1, rows)
    slots = np.arange(width)[None, :] + (np.arange(width)[None, :] >= at[:, None])  # where each old slot goes

    def spread(x: NDArray[Any], fill: Any) -> NDArray[Any]:
        out = np.full((rows, width + 1), fill, dtype=x.dtype)
        np.put_along_axis(out, slots, x, axis=1)
        return out

    holed = changed(
        batch,
        response_mask=spread(batch.response_mask, False),
        **token_fields(batch, lambda x: spread(x, np.nan)),
    )
    same(subject, np.take_along_axis(subject.values(holed, subject.exact), slots, axis=1), want)


def permutation(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Permuting rows permutes the output; relabelling groups changes nothing."""
    want = subject.values(batch, subject.exact)
    order = rng.permutation(len(batch.rewards))
    labels = rng.permutation(int(batch.num_groups or 1) + 2)
    moved = changed(
        batch,
        rewards=batch.rewards[order],
        response_mask=batch.response_mask[order],
        group_ids=labels[batch.group_ids[order]],
        num_groups=len(labels),
        **token_fields(batch, lambda x: x[order]),
    )
    same(subject, subject.values(moved, subject.exact), want[order])


def group_independence(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Changing one group changes no other group, unless the estimator declares batch statistics."""
    if subject.estimator.batch_statistics:
        return
    want = subject.values(batch, subject.exact)
    touched = batch.group_ids == rng.choice(batch.group_ids)
    other = changed(
        batch,
        rewards=np.where(touched, batch.rewards * 3 + rng.normal(size=touched.shape), batch.rewards),
        **token_fields(batch, lambda x: np.where(touched[:, None], x * 1.5, x)),
    )
    same(subject, subject.values(other, subject.exact)[~touched], want[~touched])


def empty_row(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """A response with no valid token gets zeros and moves nobody's baseline."""
    want = subject.values(batch, subject.exact)
    group = rng.choice(batch.group_ids)
    longer = changed(
        batch,
        rewards=np.append(batch.rewards, 7.0),
        response_mask=np.vstack([batch.response_mask, np.zeros_like(batch.response_mask[:1])]),
        group_ids=np.append(batch.group_ids, group),
        **token_fields(batch, lambda x: np.vstack([x, np.full_like(x[:1], np.nan)])),
    )
    got = subject.values(longer, subject.exact)
    assert np.all(got[-1] == 0), "the empty response has advantages"
    same(subject, got[:-1], want)


def finite(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Finite inputs give finite outputs in every dtype, at any scale of reward."""
    clean = changed(batch, **token_fields(batch, lambda x: np.where(batch.response_mask, x, 0.0)))
    for dtype in subject.backend.dtypes:
        largest = {"float64": 1.7e308, "float32": 3.4e38, "float16": 6.5e4, "bfloat16": 3.3e38}[dtype]
        if dtype == "float64" and subject.exact != "float64":
            continue
        for scale in (largest, largest**0.5, 1.0, largest**-0.5, 1 / largest):
            units = batch.rewards / max(float(np.abs(batch.rewards).max()), 1.0)
            values = subject.values(changed(clean, rewards=units * scale), dtype)
            assert np.isfinite(values).all(), f"{dtype}, rewards up to {scale:g}"


def non_finite_input(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """A NaN or infinite reward is refused by name and row before anything is computed."""
    row = int(rng.integers(len(batch.rewards)))
    for value in (np.nan, np.inf, -np.inf):
        spoiled = np.where(np.arange(len(batch.rewards)) == row, value, batch.rewards)
        try:
            subject.run(changed(batch, rewards=spoiled), subject.exact)
            message = "it was taken"
        except ValueError as error:
            message = str(error)
        assert "rewards" in message, f"a reward of {value}: {message}"
        assert f"row {row}" in message, f"a reward of {value} in row {row}: {message}"


def pure(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Inputs are not written to; the same inputs give the same bits."""
    converted = convert(batch, subject.backend, subject.exact)
    first = subject.backend.to_numpy(subject.compute(converted, subject.estimator).values)
    subject.compute(
        convert(changed(batch, rewards=batch.rewards + 1), subject.backend, subject.exact), subject.estimator
    )
    second = subject.backend.to_numpy(subject.compute(converted, subject.estimator).values)
    np.testing.assert_array_equal(second, first, "the second run differs")
    for f in dataclasses.fields(batch):
        before, after = getattr(batch, f.name), getattr(converted, f.name)
        if isinstance(before, np.ndarray):
            fresh = subject.backend.to_numpy(subject.backend.asarray(before, subject.exact))
            np.testing.assert_array_equal(subject.backend.to_numpy(after), fresh, f"{f.name} was written to")


def kind(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """Same array library, shape and float type out as in."""
    for dtype in subject.backend.dtypes:
        if dtype == "float64" and subject.exact != "float64":
            continue
        values = subject.run(batch, dtype).values
        like = subject.backend.asarray(batch.rewards, dtype)
        assert library(values) == library(like), f"{library(values)} out, {library(like)} in"
        assert values.dtype == like.dtype, f"{values.dtype} out, {like.dtype} in"
        assert tuple(values.shape) == batch.response_mask.shape, f"shape {tuple(values.shape)}"


def agree(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """The library agrees with NumPy's float64, up to the tolerances."""
    want = Subject(subject.estimator).values(batch)
    same(subject, subject.values(batch, subject.exact), want)
    # float32 rounds the inputs: compare with NumPy on the rounded ones.
    rounded = convert(convert(batch, BACKENDS["numpy"], "float32"), BACKENDS["numpy"], "float64")
    want = Subject(subject.estimator).values(rounded)
    same(subject, subject.values(batch, "float32"), want, "float32")


def no_sync(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """No value is read back from the device."""
    if subject.backend.name == "torch":
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode() as mode:
            real = convert(batch, subject.backend, "float32")
            fields = {f.name: getattr(real, f.name) for f in dataclasses.fields(real)}
            fake = {k: mode.from_tensor(v) if hasattr(v, "device") else v for k, v in fields.items()}
            _no_read(lambda: subject.compute(RolloutBatch(**fake), subject.estimator))
    elif subject.backend.name == "jax":
        import jax

        traced = convert(batch, subject.backend, "float32")
        _no_read(lambda: jax.eval_shape(lambda b: subject.compute(b, subject.estimator), traced))


def _no_read(action: Callable[[], Any]) -> None:
    try:
        action()
    except Exception as error:  # every library has its own way to say that a value was asked for
        raise AssertionError(f"a value was read from the device: {type(error).__name__}: {error}") from error


def no_grad(subject: Subject, batch: RolloutBatch, rng: np.random.Generator) -> None:
    """The result carries no gradient."""
    clean = changed(batch, **token_fields(batch, lambda x: np.where(batch.response_mask, x, 0.0)))
    converted = convert(clean, subject.backend, "float32")
    if subject.backend.name == "torch":
        for name in ("rewards", *TOKEN_FIELDS):
            if getattr(converted, name) is not None:
                getattr(converted, name).requires_grad_()
        result = subject.compute(converted, subject.estimator)
        assert not result.values.requires_grad, "the values require a gradient"
        assert not any(x.requires_grad for x in result.diagnostics.values()), "a diagnostic requires a gradient"
    elif subject.backend.name == "jax":
        import jax

        def total(rewards: Any, logprobs: Any) -> Any:
            moved = dataclasses.replace(converted, rewards=rewards, logprobs=logprobs)
            return subject.compute(moved, subject.estimator).values.sum()

        slopes = jax.grad(total, argnums=(0, 1))(converted.rewards, converted.logprobs)
        assert not any(np.asarray(slope).any() for slope in slopes), "the gradient is not 0"


ALWAYS: dict[str, Law] = {
    law.id: law
    for law in (
        Law("MASKED_ZERO", str(masked_zero.__doc__), "NaN on a masked token makes OpenRLHF's loss NaN", masked_zero),
        Law("MASKED_BLIND", str(masked_blind.__doc__), "ROLL#447, miles#1827, slime#1372", masked_blind),
        Law("PADDING", str(padding.__doc__), "verl pads differently in its two trainers", padding),
        Law("HOLES", str(holes.__doc__), "verl#7278", holes),
        Law("PERMUTATION", str(permutation.__doc__), "rLLM#605; verl reorders rows", permutation),
        Law("GROUP_INDEPENDENCE", str(group_independence.__doc__), "verl#6452", group_independence),
        Law("EMPTY_ROW", str(empty_row.__doc__), "verl#6452", empty_row),
        Law("FINITE", str(finite.__doc__), "NeMo-RL#1518, #4158", finite),
        Law("NON_FINITE_INPUT", str(non_finite_input.__doc__), "TRL#5773, ms-swift#8123", non_finite_input),
        Law("PURE", str(pure.__doc__), "advantages are computed more than once", pure),
        Law("KIND", str(kind.__doc__), "a bfloat16 sum of 4,096 ones is 256", kind),
        Law("AGREE", str(agree.__doc__), "one formula, several libraries", agree),
        Law("NO_SYNC", str(no_sync.__doc__), "a read stalls the device's queue", no_sync),
        Law("NO_GRAD", str(no_grad.__doc__), "an advantage is a constant of the loss", no_grad),
    )
}
"""What every estimator keeps, by id."""
