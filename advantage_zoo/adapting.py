"""What the adapters into training frameworks share: an estimator from a framework's configuration, and what it logs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.batch import OPTIONAL_FIELDS, TOKEN_FIELDS, RolloutBatch
from advantage_zoo.compute import compute_advantages, make
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.parameters import Parameterised, Schedule, parameters_of
from advantage_zoo.spelling import parameter
from advantage_zoo.suggestions import nearest

WARMUP = "progress_warmup_steps"
"""A setting, not a parameter: a trainer knows its step, an estimator does not. ``ep_grpo``'s authors report about 200
steps before the process signal is stable (arXiv:2605.04960)."""


def from_config(which: str, params: Mapping[str, Any] | None = None, *, where: str) -> Estimator:
    """An estimator from its spelling and a block of parameters, as a framework's configuration holds them.

        >>> str(from_config("ep_grpo", {"num_buckets": "5", "progress_warmup_steps": 200}, where="algorithm.ep_grpo"))
        'ep_grpo(progress_weight=linear(0, 0.2, 200), num_buckets=5)'

    Args:
        which: Any spelling.
        params: Parameters by name, each as a value of its type or as text in the spelling; ``progress_warmup_steps``,
            for an estimator with a ``progress_weight``, lets that weight rise from 0 over so many steps.
        where: The block's name in the configuration, which begins every message about it.

    Raises:
        LookupError: A name in the spelling is no estimator's and no transform's.
        TypeError: A parameter is unknown or of the wrong type, or the spelling has parameters or transforms already.
        ValueError: The spelling or a value cannot be read, or a parameter is out of its range.
    """
    built = make(which)
    given = dict(params or {})
    if not given:
        return built
    cls = type(built)
    if built.spelled() != cls.name:
        raise TypeError(
            f"{where}: {which} has its parameters inside; write {', '.join(given)} there, as name(key=value)."
        )
    known = parameters_of(cls)
    warms = "progress_weight" in known
    settings = [*known, WARMUP] if warms else known
    for key in given:
        if key not in settings:
            takes = f"it takes {', '.join(settings)}" if settings else "it takes none"
            raise TypeError(f"{where}.{key}: {built.name} has no parameter {key!r}{nearest(key, settings)}; {takes}.")
    steps = given.pop(WARMUP, 0)
    try:
        made = make(which, **{key: _read(cls, key, value) for key, value in given.items()})
        return _warmed(made, _whole(steps)) if warms else made
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def describe(estimator: Estimator) -> str:
    """One line for the log: the estimator with all its parameters, defaults included, and advantage-zoo's version."""
    from advantage_zoo import __version__

    return f"{estimator.spelled(in_full=True)} (advantage-zoo {__version__})"


def scalars(advantages: Advantages, prefix: str) -> dict[str, Array]:
    """The scalar diagnostics as ``prefix/name``, still on their device: nothing is waited for until they are read."""
    return {f"{prefix}/{key}": x for key, x in advantages.diagnostics.items() if len(x.shape) == 0}


def needs_groups(estimator: Estimator, *, components: int = 1) -> bool:
    """Whether responses that are alone in their groups get the same, whichever of them is rewarded.

    The estimator is tried on responses of a policy that is its own reference, as it is when training starts.

    Args:
        estimator: What is tried.
        components: How many reward components each response has.

    Returns:
        False also for an estimator that cannot be tried, as it needs a field that only a plugin knows.
    """
    one, other = ([float(k == rewarded) for k in range(8)] * 2 for rewarded in (0, 1))

    def alike(group_size: int) -> bool:
        return np.array_equal(*(_trial(estimator, rewards, group_size, components) for rewards in (one, other)))

    try:
        if alike(8):
            return False  # it does not look at rewards at all
    except Exception:
        return False
    try:
        return alike(1)
    except ValueError:
        return True  # singleton="raise"


def _trial(estimator: Estimator, rewards: list[float], group_size: int, components: int) -> Array:
    outcome, shape = np.array(rewards), (len(rewards), 2)
    fields: dict[str, Array] = {name: np.full(shape, -1.0) for name in (*TOKEN_FIELDS, *sorted(estimator.needs))}
    fields["entropies"] = np.ones(shape)
    fields["token_rewards"] = np.stack([np.zeros_like(outcome), outcome], 1)
    fields["reward_components"] = np.repeat(outcome[:, None], components, 1)
    fields["baseline_rewards"] = np.zeros_like(outcome)
    batch = RolloutBatch(
        rewards=outcome,
        response_mask=np.ones(shape, dtype=bool),
        group_ids=np.arange(len(rewards)) // group_size,
        extras={name: x for name, x in fields.items() if name not in OPTIONAL_FIELDS},
        **{name: x for name, x in fields.items() if name in OPTIONAL_FIELDS},
    )
    return compute_advantages(batch, estimator, step=0).values


def _read(cls: type[Parameterised], key: str, value: Any) -> Any:
    return parameter(cls, key, value) if isinstance(value, str) else value


def _whole(steps: Any) -> int:
    number = int(steps) if isinstance(steps, str) and steps.strip().isdigit() else steps
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"{WARMUP} is {steps!r}; expected a number of steps, 0 or more.")
    return number


def _warmed(made: Estimator, steps: int) -> Estimator:
    """``made`` with its progress_weight rising from 0, if ``steps`` is not 0."""
    weight: float | Schedule = vars(made)["progress_weight"]
    if not steps:
        return made
    if isinstance(weight, Schedule):
        raise ValueError(f"progress_weight follows {weight} and {WARMUP} is {steps}; give one of the two.")
    return replace(made, progress_weight=Schedule(0, weight, steps))
