"""FlatBatch: the one form of a batch that estimators see, whatever its layout, dtype and library."""

import copy
from collections.abc import Callable, Collection
from typing import Any

from advantage_zoo.arrays.namespace import (
    Array,
    arange,
    float_dtype,
    index_dtype,
    is_floating,
    namespace,
    stop_gradient,
    widen,
)
from advantage_zoo.arrays.segments import pair_ids, segment_cumsum, segment_scan, segment_sum
from advantage_zoo.batch import OPTIONAL_FIELDS, TASK_REWARDS, RolloutBatch


class _once:  # noqa: N801 - used as a decorator
    """Like functools.cached_property, which torch.compile cannot trace on Python 3.11 (it takes a lock)."""

    def __init__(self, compute: Callable[[Any], Array]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Array:
        if instance is None:
            return self
        value = self.compute(instance)
        setattr(instance, self.compute.__name__, value)  # from now on the attribute is found before this descriptor
        return value


class FlatBatch:
    """What an estimator sees: flat tokens, widened to at least float32, without gradient, exactly 0 where not valid.

    Holds the fields that the estimator declared in ``needs``, each as an attribute of its name, those in ``uses``,
    ``None`` where the batch has none, and no others.

    Attributes:
        xp: Array API namespace.
        rewards: (B,).
        group_ids: (B,), with ``num_groups`` static.
        mask: (N,) bool, the response mask.
        nonempty: (B,) bool, the responses that count: with a valid token and a finite reward. The others move nobody's
            baseline.
        finite: (B,) bool, the responses whose reward is finite. Others are refused before they get here, where values
            can be read; elsewhere their own advantages are NaN, and nobody else's.
        reward_rounding: What a reward's distance from its group's mean may be off by, as a share of the group's range,
            from the rounding of the rewards' own dtype.
        extras: Every extra array of the batch, token-shaped ones flat.
    """

    logprobs: Array
    ref_logprobs: Array
    entropies: Array
    token_rewards: Array
    values: Array
    reward_components: Array
    baseline_rewards: Array

    def __init__(self, batch: RolloutBatch, needs: Collection[str] = (), uses: Collection[str] = ()) -> None:
        xp = self.xp = namespace(batch.rewards)
        self._batch = batch
        rewards = widen(stop_gradient(batch.rewards))
        self.finite = xp.isfinite(rewards)
        self.rewards = xp.where(self.finite, rewards, 0.0)
        self.reward_rounding = 8 * float(xp.finfo(float_dtype(batch.rewards)).eps)
        self.group_ids = xp.astype(batch.group_ids, index_dtype(rewards))  # a narrow type overflows in products
        self.num_groups = int(batch.num_groups or 0)
        self.num_rows = int(batch.rewards.shape[0])
        self.mask = xp.reshape(batch.response_mask, (-1,))
        self.extras = {name: self._prepared(x, batch.is_token_shaped(name)) for name, x in batch.extras.items()}
        for name in (*needs, *uses):
            x = batch.get(name)
            if x is None:
                setattr(self, name, None)
            else:
                known = self.extras.get(name)
                setattr(self, name, self._prepared(x, batch.is_token_shaped(name)) if known is None else known)
        padded = batch.cu_seqlens is None
        self.nonempty = self.finite & (xp.any(batch.response_mask, axis=1) if padded else self.lengths > 0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in OPTIONAL_FIELDS:
            raise AttributeError(name)
        raise AttributeError(f"{name} was not handed over: name it in the estimator's needs or uses.")

    def _prepared(self, x: Array, token_shaped: bool) -> Array:
        if is_floating(x):
            x = widen(stop_gradient(x))
        if not token_shaped:
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

    @_once
    def positions(self) -> Array:
        """(N,) index of a valid token among its response's valid tokens, from 0; anything in range where not valid."""
        xp = self.xp
        so_far = self.row_cumsum(xp.astype(self.mask, self.rewards.dtype))
        return xp.astype(xp.clip(so_far - 1, 0), self.row_ids.dtype)

    @_once
    def counted(self) -> Array:
        """(N,) bool: the valid tokens of responses that count; what a statistic over tokens is taken over."""
        return self.mask & self.to_tokens(self.finite)

    def position_cells(self) -> tuple[Array, int]:
        """(N,) which group, and which of its response's valid tokens: one id a pair; and a bound on the ids, static."""
        if self._width is None:
            return pair_ids(self.token_groups, self.positions), int(self.mask.shape[0])
        return self.token_groups * self._width + self.positions, self.num_groups * self._width

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
        last = self.xp.clip(self.xp.astype(batch.cu_seqlens, self.row_ids.dtype)[1:] - 1, 0)
        return self.xp.take(x, last)

    def group_sum(self, x: Array) -> Array:
        """(B,) to (G,): sum over the group's responses that have a valid token."""
        return segment_sum(self.xp.where(self.nonempty, x, 0.0), self.group_ids, self.num_groups)

    @_once
    def group_sizes(self) -> Array:
        """(G,) number of responses of each group that have a valid token, in the dtype of ``rewards``."""
        return self.group_sum(self.xp.ones_like(self.rewards))

    @_once
    def alone(self) -> Array:
        """(B,) bool: the responses that count and are the only one of their group that does."""
        return self.nonempty & (self.xp.take(self.group_sizes, self.group_ids) == 1)

    def row_cumsum(self, x: Array) -> Array:
        """(N,) to (N,): running sum along each response, inclusive."""
        return segment_cumsum(x, self.row_ids, self._width)

    def row_returns(self, x: Array, discount: Array | float = 1.0) -> Array:
        """(N,) to (N,): ``y_t = x_t + discount y_u`` with u the response's next valid token; masked ones are skipped.

        Args:
            x: (N,); what it holds at masked tokens does not matter.
            discount: A number, or (N,).
        """
        xp, width = self.xp, self._width
        decay = xp.where(self.mask, discount + xp.zeros_like(x), 1.0)
        return segment_scan(xp.where(self.mask, x, 0.0), decay, self.row_ids, width)

    def row_next(self, x: Array) -> Array:
        """(N,) to (N,): what stands at the response's next valid token; 0 at its last."""
        xp = self.xp
        valid = xp.astype(self.mask, x.dtype)
        here = segment_scan(xp.where(self.mask, x, 0.0), 1 - valid, self.row_ids, self._width)
        same = self.row_ids[1:] == self.row_ids[:-1]
        return xp.concat([xp.where(same, here[1:], 0.0), xp.zeros_like(here[:1])])

    @_once
    def last_valid(self) -> Array:
        """(N,) bool: the last valid token of each response that has any."""
        return self.mask & (self.row_next(self.xp.astype(self.mask, self.rewards.dtype)) == 0)

    @_once
    def dense_rewards(self) -> Array:
        """(N,) ``token_rewards`` where the batch has them, else the outcome reward on the last valid token.

        The estimator names ``token_rewards`` in its ``uses``.
        """
        if self.token_rewards is not None:
            return self.token_rewards
        return self.xp.where(self.last_valid, self.to_tokens(self.rewards), 0.0)

    @property
    def _width(self) -> int | None:
        return self._batch.response_mask.shape[1] if self._batch.cu_seqlens is None else None

    def with_rewards_plus(self, change: Array) -> "FlatBatch":
        """The batch with ``change`` (B,) added to the rewards.

        Token rewards, which are complete, get it at the response's last valid token.
        """
        new = copy.copy(self)
        new.__dict__.pop("dense_rewards", None)
        new.rewards = self.xp.where(self.finite, self.rewards + change, 0.0)
        new.extras = {TASK_REWARDS: self.rewards, **self.extras}
        if self.__dict__.get("token_rewards") is not None:
            new.token_rewards = self.token_rewards + self.xp.where(self.last_valid, self.to_tokens(change), 0.0)
        return new

    def unflatten(self, x: Array) -> Array:
        """(N,) to the shape of the batch's mask."""
        return self.xp.reshape(x, tuple(self._batch.response_mask.shape))
