"""RolloutBatch: the one data type that flows through the house.

Notation: B sequences, T token slots, N flat tokens, G groups. A padded batch holds (B, T) token arrays, a packed one
(N,) arrays with ``cu_seqlens`` (B + 1,).
"""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from advantage_zoo.arrays.namespace import Array, device, library, namespace, register_pytree
from advantage_zoo.estimator import Advantages, no_arrays

TOKEN_FIELDS = ("logprobs", "ref_logprobs", "entropies", "token_rewards", "values")
"""Optional fields with one number a token slot."""

TASK_REWARDS = "task_rewards"
"""The extra, (B,), in which a transform that shapes the rewards keeps what they were."""

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
        num_groups = self.rewards.shape[0] if self.num_groups is None else self.num_groups
        object.__setattr__(self, "num_groups", int(num_groups))
        object.__setattr__(self, "extras", dict(self.extras))
        register_with_jax()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register_with_jax()  # a worker that was sent the batch has made none yet

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

    def is_token_shaped(self, name: str) -> bool:
        """Whether the optional field or extra called ``name`` has one entry a token slot, not one a response."""
        if name in OPTIONAL_FIELDS or name == TASK_REWARDS:
            return name in TOKEN_FIELDS
        return tuple(self.extras[name].shape) == tuple(self.response_mask.shape)


def _check(batch: RolloutBatch) -> None:
    """Metadata only: nothing here reads a value."""
    for name in ("rewards", "response_mask", "group_ids"):
        if getattr(batch, name) is None:
            raise TypeError(f"{name} is missing; every RolloutBatch needs rewards, response_mask and group_ids.")
    _check_array("rewards", batch.rewards, batch.rewards)
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
    if not isinstance(batch.extras, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"extras is {batch.extras!r}; expected a mapping of names to arrays.")
    for name, x in batch.extras.items():
        if name in _CHILDREN or name == "num_groups":
            raise ValueError(f"extras holds {name!r}, which is a field of its own; pass it as {name}=.")
        _check_array(f"extras[{name!r}]", x, batch.rewards)
        if len(x.shape) == 0 or (x.shape[0] != rows and tuple(x.shape) != mask_shape):
            raise ValueError(f"extras[{name!r}] has shape {tuple(x.shape)}; expected (B, ...) with B = {rows}.")
        if mask_shape == (rows,) and name != TASK_REWARDS:
            raise ValueError(
                f"extras[{name!r}] could have one entry a response or one a token: the batch has {rows} of both. "
                "Pad the batch."
            )
    number = batch.num_groups
    if number is not None and (isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < 1):
        raise ValueError(f"num_groups is {number!r}; expected a positive int, so that it is static.")


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
        raise TypeError(f"{name} is a {type(x).__name__}, not an array; pass a NumPy, PyTorch or JAX array.")
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
