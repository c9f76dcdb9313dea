"""Checks that look at values: the quick ones that every computation makes where it can, and the full one."""

import warnings
from collections.abc import Callable, Sequence

from advantage_zoo.arrays.namespace import Array, index_dtype, is_floating, is_readable, namespace, stop_gradient
from advantage_zoo.batch import OPTIONAL_FIELDS, RolloutBatch
from advantage_zoo.flat import FlatBatch

SLACK = 1e-3
"""Nats by which rounding may put a log-probability above 0, or an entropy below."""

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
        where = _Where(batch, name)
        problems += where.offenders(x, lambda v: ~namespace(v).isfinite(v), "not finite")
        if name in ("logprobs", "ref_logprobs"):
            problems += where.offenders(x, lambda v: (v > SLACK) & namespace(v).isfinite(v), "above 0 nats")
        if name == "entropies":
            problems += where.offenders(x, lambda v: (v < -SLACK) & namespace(v).isfinite(v), "below 0 nats")
    if problems:
        raise ValueError(" ".join(problems) + " Mend or drop these rows before advantages are computed.")
    _warn_of_waste(batch, flat)


def refuse_broken(batch: RolloutBatch) -> bool:
    """Refuse what would spoil a computation, if values can be read without tracing or waiting; whether they could."""
    readable = all(is_readable(x) for x in (batch.rewards, batch.group_ids, batch.cu_seqlens) if x is not None)
    if readable:
        _refuse_broken(batch)
    return readable


def _refuse_broken(batch: RolloutBatch) -> None:
    xp = namespace(batch.rewards)
    if is_floating(batch.rewards):
        problems = _Where(batch, "rewards").offenders(batch.rewards, lambda v: ~xp.isfinite(v), "not finite")
        if problems:
            raise ValueError(
                f"{problems[0]} Mend or drop these responses; one such reward would spoil its whole group."
            )
    ids = xp.astype(batch.group_ids, index_dtype(batch.group_ids))  # the bound may not fit a narrow type
    count = batch.num_groups
    outside = _Where(batch, "group_ids").offenders(ids, lambda v: (v < 0) | (v >= count), f"not in [0, {count})")
    if outside:
        raise ValueError(f"{outside[0]} Raise num_groups or renumber the groups from 0.")
    if batch.cu_seqlens is not None:
        tokens = batch.response_mask.shape[0]
        ends = xp.astype(batch.cu_seqlens, index_dtype(batch.cu_seqlens))
        if int(ends[0]) != 0 or int(ends[-1]) != tokens or bool(xp.any(ends[1:] < ends[:-1])):
            first = ", ".join(str(int(end)) for end in ends[: min(8, ends.shape[0])])
            shown = f"[{first}]" if ends.shape[0] <= 8 else f"[{first}, ..., {int(ends[-1])}]"
            raise ValueError(
                f"cu_seqlens is {shown}; expected numbers from 0 to {tokens}, the token count, never falling."
            )


class _Where:
    """Finds and names the elements of a field that are not as they should be."""

    def __init__(self, batch: RolloutBatch, name: str) -> None:
        self.batch = batch
        self.name = name
        self.token_shaped = name not in ("rewards", "group_ids") and batch.is_token_shaped(name)

    def offenders(self, x: Array, bad: Callable[[Array], Array], what: str) -> list[str]:
        """A sentence on the elements of ``x`` that are ``bad`` (of a token field: at valid tokens), or nothing."""
        xp = namespace(x)
        found = bad(x) & self.batch.response_mask if self.token_shaped else bad(x)
        if not bool(xp.any(found)):
            return []
        places = xp.nonzero(found)
        count = int(places[0].shape[0])
        shown = [self._shown(x, tuple(int(axis[i]) for axis in places)) for i in range(min(count, _SHOWN))]
        more = f", and {count - _SHOWN} more" if count > _SHOWN else ""
        return [f"{'; '.join(shown)}{more}: {what}."]

    def _shown(self, x: Array, place: tuple[int, ...]) -> str:
        element = stop_gradient(x)[place]
        value = float(element) if is_floating(x) else int(element)
        return f"{self.name}[{', '.join(map(str, place))}] ({self._label(place)}) is {value}"

    def _label(self, place: tuple[int, ...]) -> str:
        ends = self.batch.cu_seqlens
        if self.token_shaped and ends is not None:  # a flat index says little: which response, which of its tokens
            row = sum(int(end) <= place[0] for end in ends[1:])
            return f"row {row}, token {place[0] - int(ends[row])}"
        return f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")


def _warn_of_waste(batch: RolloutBatch, flat: FlatBatch) -> None:
    xp = flat.xp
    sizes = flat.group_sizes
    used = int(xp.sum(xp.astype(sizes > 0, sizes.dtype)))
    alone = [int(i) for i in xp.nonzero(sizes == 1)[0]]
    empty = [int(i) for i in xp.nonzero(~flat.nonempty)[0]]
    for sentence in waste(alone, used, empty, flat.num_rows):
        warnings.warn(sentence, RolloutWarning, stacklevel=3)


def waste(alone: Sequence[int], used: int, empty: Sequence[int], rows: int) -> list[str]:
    """Sentences on groups of one response, of ``used`` groups, and on responses without a valid token, of ``rows``."""
    found: list[str] = []
    if len(alone):
        found.append(
            f"{len(alone)} of {used} groups have one response (group {alone[0]} is the first), which "
            "has no group-relative advantage. Sample more responses a prompt, or check the group ids."
        )
    if len(empty):
        found.append(
            f"{len(empty)} of {rows} responses have no valid token (row {empty[0]} is the first): they get "
            "zeros and count in no baseline."
        )
    return found
