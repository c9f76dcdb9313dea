"""RolloutBatch: the one data type that flows through the house, and FlatBatch, the one form that estimators see.

Notation: B sequences, T token slots, N flat tokens, G groups. A padded batch holds (B, T) token arrays, a packed one
(N,) arrays with ``cu_seqlens`` (B + 1,).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from advantage_zoo.arrays.namespace import (
    Array,
    arange,
    device,
    is_floating,
    library,
    namespace,
    register_pytree,
    stop_gradient,
    widen,
)
from advantage_zoo.arrays.segments import segment_cumsum, segment_sum
from advantage_zoo.estimator import Advantages, no_arrays

TOKEN_FIELDS = ("logprobs", "ref_logprobs", "entropies", "token_rewards", "values")
"""Optional fields with one number a token slot."""

OPTIONAL_FIELDS = (*TOKEN_FIELDS, "reward_components", "baseline_rewards")
"""Every field that an estimator may name in ``needs``; any other name is looked for in ``extras``."""

_CHILDREN = ("rewards", "response_mask", "group_ids", *OPTIONAL_FIELDS, "extras", "cu_seqlens")
_jax_knows = False


@dataclass(frozen=True, kw_only=True, eq=False)
class RolloutBatch:
    """Rollouts of G prompts: what an advantage is computed from.

    Shapes, dtypes, libraries and devices are checked here, from metadata alone; :func:`advantage_zoo.validate` looks at
    the values. Token fields may hold anything, NaN included, where the mask is False. A JAX pytree, with ``num_groups``
    static.

    Args:
        rewards: (B,) outcome reward of each response; integers and booleans are taken as numbers.
        response_mask: (B, T) bool, True on tokens that the policy emitted: not on prompt, padding or tool output.
        group_ids: (B,) integers in ``[0, num_groups)``: which prompt a response answers.
        num_groups: Static number of groups, an upper bound will do; B if not given.
        logprobs: (B, T) nats; log-probability of the emitted token under the sampling policy.
        ref_logprobs: (B, T) nats; the same token under the frozen reference policy.
        entropies: (B, T) nats; entropy of the sampling policy's next-token distribution.
        token_rewards: (B, T) dense rewards, for instance with the KL penalty in them.
        values: (B, T) the critic's estimates.
        reward_components: (B, K) the rewards that ``rewards`` was made of (GDPO).
        baseline_rewards: (B,) reward of the greedy response to the same prompt (ReMax).
        extras: Further arrays by name, of shape (B, ...) or the mask's, that only a plugin or a transform knows.
        cu_seqlens: (B + 1,) integers, the cumulative lengths of a packed batch; see :meth:`packed`.

    Raises:
        TypeError: A field is not an array, or belongs to another array library than ``rewards``.
        ValueError: A field's shape, dtype or device is wrong; the message names it.
    """

    rewards: Array
    response_mask: Array
    group_ids: Array
    num_groups: int | None = None
    logprobs: Array | None = None
    ref_logprobs: Array | None = None
    entropies: Array | None = None
    token_rewards: Array | None = None
    values: Array | None = None
    reward_components: Array | None = None
    baseline_rewards: Array | None = None
    extras: Mapping[str, Array] = field(default_factory=no_arrays)
    cu_seqlens: Array | None = None

    def __post_init__(self) -> None:
        _check(self)
        if self.num_groups is None:
            object.__setattr__(self, "num_groups", self.rewards.shape[0])
        register_with_jax()

    @classmethod
    def packed(cls, *, cu_seqlens: Array, response_mask: Array | None = None, **fields: Any) -> "RolloutBatch":
        """Batch whose token fields are flat, (N,): row b holds the slots ``cu_seqlens[b]`` to ``cu_seqlens[b + 1]``.

        Args:
            cu_seqlens: (B + 1,) integers from 0 to N, not decreasing.
            response_mask: (N,) bool; all True if not given.
            **fields: As for :class:`RolloutBatch`, with (N,) for (B, T).
        """
        if response_mask is None:
            token_field = next((fields[name] for name in TOKEN_FIELDS if fields.get(name) is not None), None)
            if token_field is None:
                raise ValueError("A packed batch needs response_mask or a token field, to know how many tokens it has.")
            xp = namespace(token_field)
            response_mask = xp.ones_like(token_field, dtype=xp.bool)
        return cls(cu_seqlens=cu_seqlens, response_mask=response_mask, **fields)

    def get(self, name: str) -> Array | None:
        """The optional field or extra called ``name``; ``None`` if the batch has none."""
        return getattr(self, name) if name in OPTIONAL_FIELDS else self.extras.get(name)


class _once:  # noqa: N801 - used as a decorator
    """Like functools.cached_property, which torch.compile cannot trace on Python 3.11 (it takes a lock)."""

    def __init__(self, compute: Callable[[Any], Array]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Array:
        value = self.compute(instance)
        setattr(instance, self.compute.__name__, value)  # from now on the attribute is found before this descriptor
        return value


class FlatBatch:
    """What an estimator sees: flat tokens, widened to at least float32, without gradient, exactly 0 where not valid.

    Holds the fields that the estimator declared in ``needs``, each as an attribute of its name, and no others.

    Attributes:
        xp: Array API namespace.
        rewards: (B,).
        group_ids: (B,), with ``num_groups`` static.
        mask: (N,) bool, the response mask.
        nonempty: (B,) bool, the responses with at least one valid token. The others move nobody's baseline.
        extras: Every extra array of the batch, token-shaped ones flat.
    """

    logprobs: Array
    ref_logprobs: Array
    entropies: Array
    token_rewards: Array
    values: Array
    reward_components: Array
    baseline_rewards: Array

    def __init__(self, batch: RolloutBatch, needs: Collection[str] = ()) -> None:
        xp = self.xp = namespace(batch.rewards)
        self._batch = batch
        self.rewards = widen(stop_gradient(batch.rewards))
        self.group_ids = batch.group_ids
        self.num_groups = int(batch.num_groups or 0)
        self.num_rows = int(batch.rewards.shape[0])
        self.mask = xp.reshape(batch.response_mask, (-1,))
        self.extras = {name: self._flatten(x) for name, x in batch.extras.items()}
        for name in needs:
            x = batch.get(name)
            if x is not None:
                setattr(self, name, self.extras[name] if name in self.extras else self._flatten(x))
        if batch.cu_seqlens is None:
            self.nonempty = xp.any(batch.response_mask, axis=1)
        else:
            self.nonempty = self.lengths > 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in OPTIONAL_FIELDS:
            raise AttributeError(name)
        raise AttributeError(f"{name} was not handed over: name it in the estimator's needs.")

    def _flatten(self, x: Array) -> Array:
        if is_floating(x):
            x = widen(stop_gradient(x))
        if tuple(x.shape) != tuple(self._batch.response_mask.shape):
            return x
        x = self.xp.reshape(x, (-1,))
        return self.xp.where(self.mask, x, self.xp.zeros_like(x))

    @_once
    def row_ids(self) -> Array:
        """(N,) which response a token belongs to."""
        xp, batch = self.xp, self._batch
        if batch.cu_seqlens is None:
            rows = arange(self.num_rows, self.rewards)[:, None]
            return xp.reshape(xp.broadcast_to(rows, tuple(batch.response_mask.shape)), (-1,))
        slots = arange(batch.response_mask.shape[0], self.rewards)
        return xp.searchsorted(xp.astype(batch.cu_seqlens, slots.dtype)[1:], slots, side="right")

    @_once
    def token_groups(self) -> Array:
        """(N,) which group a token belongs to."""
        return self.to_tokens(self.group_ids)

    @_once
    def lengths(self) -> Array:
        """(B,) number of valid tokens of each response, in the dtype of ``rewards``."""
        return self.row_sum(self.xp.astype(self.mask, self.rewards.dtype))

    def to_tokens(self, x: Array) -> Array:
        """(B,) to (N,): each token gets its response's number."""
        if self._batch.cu_seqlens is None:
            shape = tuple(self._batch.response_mask.shape)
            return self.xp.reshape(self.xp.broadcast_to(x[:, None], shape), (-1,))
        return self.xp.take(x, self.row_ids)

    def row_sum(self, x: Array) -> Array:
        """(N,) to (B,): sum over each response."""
        if self._batch.cu_seqlens is None:
            return self.xp.sum(self.xp.reshape(x, tuple(self._batch.response_mask.shape)), axis=1)
        return segment_sum(x, self.row_ids, self.num_rows)

    def row_last(self, x: Array) -> Array:
        """(N,) to (B,): what stands in each response's last slot, valid or not."""
        batch = self._batch
        if batch.cu_seqlens is None:
            return self.xp.reshape(x, tuple(batch.response_mask.shape))[:, -1]
        last = self.xp.clip(self.xp.astype(batch.cu_seqlens, self.row_ids.dtype)[1:] - 1, 0, None)
        return self.xp.take(x, last)

    def group_sum(self, x: Array) -> Array:
        """(B,) to (G,): sum over the group's responses that have a valid token."""
        return segment_sum(self.xp.where(self.nonempty, x, 0.0), self.group_ids, self.num_groups)

    @_once
    def group_sizes(self) -> Array:
        """(G,) number of responses of each group that have a valid token, in the dtype of ``rewards``."""
        return self.group_sum(self.xp.ones_like(self.rewards))

    def row_cumsum(self, x: Array) -> Array:
        """(N,) to (N,): running sum along each response, inclusive."""
        width = self._batch.response_mask.shape[1] if self._batch.cu_seqlens is None else None
        return segment_cumsum(x, self.row_ids, width)

    def unflatten(self, x: Array) -> Array:
        """(N,) to the shape of the batch's mask."""
        return self.xp.reshape(x, tuple(self._batch.response_mask.shape))


def _check(batch: RolloutBatch) -> None:
    """Metadata only: nothing here reads a value."""
    for name in ("rewards", "response_mask", "group_ids"):
        if getattr(batch, name) is None:
            raise TypeError(f"{name} is missing; every RolloutBatch needs rewards, response_mask and group_ids.")
    namespace(batch.rewards)  # raises for what is not an array
    if len(batch.rewards.shape) != 1:
        raise ValueError(
            f"rewards has shape {tuple(batch.rewards.shape)}; expected (B,), one outcome reward a response."
        )
    rows = batch.rewards.shape[0]
    if rows == 0:
        raise ValueError("rewards is empty; a batch holds at least one response.")
    mask_shape = tuple(getattr(batch.response_mask, "shape", ()))
    _check_field(batch, "response_mask", ("bool",))
    if batch.cu_seqlens is None and (len(mask_shape) != 2 or mask_shape[0] != rows):
        raise ValueError(
            f"response_mask has shape {mask_shape}; expected (B, T) with B = {rows}, the length of rewards. "
            "For packed tokens use RolloutBatch.packed."
        )
    if any(size == 0 for size in mask_shape):
        raise ValueError(f"response_mask has shape {mask_shape}; a batch holds at least one token slot.")
    if batch.cu_seqlens is not None:
        if len(mask_shape) != 1:
            raise ValueError(f"response_mask has shape {mask_shape}; a packed batch holds flat tokens, (N,).")
        _check_field(batch, "cu_seqlens", ("integral",), (rows + 1,), "one more than rewards has rows")
    _check_field(batch, "group_ids", ("integral",), (rows,), "the shape of rewards")
    for name in TOKEN_FIELDS:
        _check_field(batch, name, ("real floating",), mask_shape, "the shape of response_mask")
    _check_field(batch, "baseline_rewards", ("real floating", "integral", "bool"), (rows,), "the shape of rewards")
    _check_field(batch, "reward_components", ("real floating", "integral", "bool"))
    _check_field(batch, "rewards", ("real floating", "integral", "bool"))
    components = batch.reward_components
    if components is not None and (len(components.shape) != 2 or components.shape[0] != rows):
        raise ValueError(f"reward_components has shape {tuple(components.shape)}; expected (B, K) with B = {rows}.")
    for name, x in batch.extras.items():
        if name in _CHILDREN or name == "num_groups":
            raise ValueError(f"extras holds {name!r}, which is a field of its own; pass it as {name}=.")
        _check_array(f"extras[{name!r}]", x, batch.rewards)
        if len(x.shape) == 0 or (x.shape[0] != rows and tuple(x.shape) != mask_shape):
            raise ValueError(f"extras[{name!r}] has shape {tuple(x.shape)}; expected (B, ...) with B = {rows}.")
    if batch.num_groups is not None and (type(batch.num_groups) is not int or batch.num_groups < 1):
        raise ValueError(f"num_groups is {batch.num_groups!r}; expected a positive int, so that it is static.")


def _check_field(
    batch: RolloutBatch, name: str, kinds: tuple[str, ...], shape: tuple[int, ...] | None = None, why: str = ""
) -> None:
    x = getattr(batch, name)
    if x is None:
        return
    _check_array(name, x, batch.rewards)
    if not namespace(x).isdtype(x.dtype, kinds):
        hint = " (pass mask != 0)" if kinds == ("bool",) else ""
        raise ValueError(f"{name} has dtype {x.dtype}; expected {' or '.join(kinds)}{hint}.")
    if shape is not None and tuple(x.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {shape}, {why}.")


def _check_array(name: str, x: Any, rewards: Array) -> None:
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise TypeError(
            f"{name} is a {type(x).__name__}, not an array; pass a {library(rewards)} array, as rewards is."
        )
    if library(x) != library(rewards):
        raise TypeError(f"{name} is a {library(x)} array and rewards a {library(rewards)} one; convert one of them.")
    if device(x) != device(rewards):
        raise ValueError(f"{name} is on device {device(x)} and rewards on {device(rewards)}; move one of them.")


def register_with_jax() -> None:
    """Make the house's data types JAX pytrees, once, as soon as somebody else has imported JAX."""
    global _jax_knows
    if not _jax_knows:
        _jax_knows = register_pytree(RolloutBatch, _flatten_batch, _unflatten_batch) and register_pytree(
            Advantages, lambda a: ((a.values, dict(a.diagnostics)), None), lambda _, c: Advantages(*c)
        )


def _flatten_batch(batch: RolloutBatch) -> tuple[tuple[Any, ...], Any]:
    return tuple(getattr(batch, name) for name in _CHILDREN), batch.num_groups


def _unflatten_batch(num_groups: Any, children: tuple[Any, ...]) -> RolloutBatch:
    # Without checks: JAX unflattens with placeholders that are no arrays.
    batch = object.__new__(RolloutBatch)
    for name, child in zip(_CHILDREN, children, strict=True):
        object.__setattr__(batch, name, child)
    object.__setattr__(batch, "num_groups", num_groups)
    return batch
