"""Checks that look at values: the quick ones that every computation makes where it can, and the full one."""

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from advantage_zoo.arrays.namespace import Array, is_floating, is_readable, namespace
from advantage_zoo.batch import OPTIONAL_FIELDS, RolloutBatch
from advantage_zoo.flat import FlatBatch

_SHOWN = 3
"""How many offenders a message lists."""


class RolloutWarning(UserWarning):
    """The rollouts can be used, but part of them teaches nothing."""


def validate(batch: RolloutBatch) -> None:
    """Check the values of a batch, reading them all; on an accelerator this waits for the device.

    Raises:
        ValueError: A reward is not finite, a group id is out of range, ``cu_seqlens`` does not fit, a number at a valid
            token is not finite, a log-probability is above 0 or an entropy below 0 by more than rounding. The message
            lists the field, row, token and value of the first offenders.

    Warns:
        RolloutWarning: A group has one response, or a response has no valid token. Both have a policy (the estimator's
            ``singleton`` parameter; zeros), and both are wasted.
    """
    _refuse_broken(batch)
    flat = FlatBatch(batch, OPTIONAL_FIELDS)
    problems: list[str] = []
    for name in (*OPTIONAL_FIELDS, *batch.extras):
        x = batch.get(name)
        if x is None or not is_floating(x):
            continue
        token_shaped = tuple(x.shape) == tuple(batch.response_mask.shape)
        valid = batch.response_mask if token_shaped else None
        problems += _offenders(name, x, lambda v: ~namespace(v).isfinite(v), "not finite", valid)
        if name in ("logprobs", "ref_logprobs"):
            problems += _offenders(name, x, lambda v: (v > 1e-3) & namespace(v).isfinite(v), "above 0 nats", valid)
        if name == "entropies":
            problems += _offenders(name, x, lambda v: (v < -1e-3) & namespace(v).isfinite(v), "below 0 nats", valid)
    if problems:
        raise ValueError(" ".join(problems) + " Mend or drop these rows before advantages are computed.")
    _warn_of_waste(batch, flat)


def refuse_broken(batch: RolloutBatch) -> None:
    """Refuse what would spoil a computation, where the values can be read without tracing or waiting for a device."""
    if all(is_readable(x) for x in (batch.rewards, batch.group_ids, batch.cu_seqlens) if x is not None):
        _refuse_broken(batch)


def _refuse_broken(batch: RolloutBatch) -> None:
    problems = _offenders("rewards", batch.rewards, lambda v: ~namespace(v).isfinite(v), "not finite")
    if problems:
        raise ValueError(f"{problems[0]} Mend or drop these responses; one such reward would spoil its whole group.")
    outside = _offenders(
        "group_ids", batch.group_ids, lambda v: (v < 0) | (v >= batch.num_groups), f"not in [0, {batch.num_groups})"
    )
    if outside:
        raise ValueError(f"{outside[0]} Raise num_groups or renumber the groups from 0.")
    ends = batch.cu_seqlens
    if ends is not None:
        numbers = [int(i) for i in ends]
        tokens = batch.response_mask.shape[0]
        if numbers[0] != 0 or numbers[-1] != tokens or any(b < a for a, b in pairwise(numbers)):
            shown = numbers if len(numbers) < 8 else f"[{numbers[0]}, ..., {numbers[-1]}]"
            raise ValueError(
                f"cu_seqlens is {shown}; expected numbers from 0 to {tokens}, the token count, never falling."
            )


def _offenders(name: str, x: Array, bad: Callable[[Any], Any], what: str, valid: Array | None = None) -> list[str]:
    """A sentence on the elements of ``x`` that are ``bad``, or nothing."""
    xp = namespace(x)
    if not is_floating(x) and what == "not finite":
        return []
    found = bad(x) if valid is None else bad(x) & valid
    if not bool(xp.any(found)):
        return []
    places = xp.nonzero(found)
    count = int(places[0].shape[0])
    shown: list[str] = []
    for i in range(min(count, _SHOWN)):
        place = tuple(int(axis[i]) for axis in places)
        label = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
        shown.append(f"{name}[{', '.join(map(str, place))}] ({label}) is {x[place]!s}")
    more = f", and {count - _SHOWN} more" if count > _SHOWN else ""
    return [f"{'; '.join(shown)}{more}: {what}."]


def _warn_of_waste(batch: RolloutBatch, flat: FlatBatch) -> None:
    xp = flat.xp
    sizes = flat.group_sizes
    alone = [int(i) for i in xp.nonzero(sizes == 1)[0]]
    empty = [int(i) for i in xp.nonzero(~flat.nonempty)[0]]
    if alone:
        warnings.warn(
            f"{len(alone)} of {int(xp.sum(sizes > 0))} groups have one response (group {alone[0]} is the first), which "
            "has no group-relative advantage. Sample more responses a prompt, or check the group ids.",
            RolloutWarning,
            stacklevel=3,
        )
    if empty:
        warnings.warn(
            f"{len(empty)} of {flat.num_rows} responses have no valid token (row {empty[0]} is the first): they get "
            "zeros and count in no baseline.",
            RolloutWarning,
            stacklevel=3,
        )
