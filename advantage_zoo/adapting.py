"""What the adapters into training frameworks share: an estimator from a configuration, its batch, what it logs."""

import re
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.batch import OPTIONAL_FIELDS, TOKEN_FIELDS, RolloutBatch
from advantage_zoo.compute import compute_advantages, make
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.estimators import GAE
from advantage_zoo.parameters import Parameterised, Schedule, parameters_of
from advantage_zoo.spelling import parameter
from advantage_zoo.suggestions import nearest
from advantage_zoo.transforms import Pipeline

WARMUP = "progress_warmup_steps"
"""A setting, not a parameter: a trainer knows its step, an estimator does not. ``ep_grpo``'s authors report about 200
steps before the process signal is stable (arXiv:2605.04960)."""


def from_config(
    which: str, params: Mapping[str, Any] | None = None, *, where: str, defaults: Mapping[str, Any] | None = None
) -> Estimator:
    """An estimator from its spelling and a block of parameters, as a framework's configuration holds them.

        >>> str(from_config("ep_grpo", {"num_buckets": "5", "progress_warmup_steps": 200}, where="algorithm.ep_grpo"))
        'ep_grpo(progress_weight=linear(0, 0.2, 200), num_buckets=5)'

    Args:
        which: Any spelling.
        params: Parameters by name, each as a value of its type or as text in the spelling; ``progress_warmup_steps``,
            for an estimator with a ``progress_weight``, lets that weight rise from 0 over so many steps.
        where: The block's name in the configuration, which begins every message about it.
        defaults: Parameters that the framework has settings of its own for, ``None`` where they are not set. They hold
            for an estimator that has them, called without parameters or transforms, unless ``params`` sets them.

    Raises:
        LookupError: A name in the spelling is no estimator's and no transform's.
        TypeError: A parameter is unknown or of the wrong type, or the spelling has parameters or transforms already.
        ValueError: The spelling or a value cannot be read, or a parameter is out of its range.
    """
    built = make(which)
    given = {str(key): value for key, value in (params or {}).items()}  # 5 is a number in YAML
    cls = type(built)
    if built.spelled() == cls.name:
        ruled = {key: x for key, x in (defaults or {}).items() if x is not None and key in parameters_of(cls)}
        given = ruled | given
    if not given:
        return built
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
        made = make(which.partition("(")[0].strip(), **{key: _read(cls, key, value) for key, value in given.items()})
        return _warmed(made, _whole(steps)) if warms else made
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def describe(estimator: Estimator, *distributions: str) -> str:
    """One line for the log: the estimator with all its parameters, defaults included, and what it runs on.

    Args:
        estimator: Any.
        distributions: Installed packages whose versions are told after advantage-zoo's own.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in ("advantage-zoo", *distributions))
    return f"{estimator.spelled(in_full=True)} ({versions})"


def scalars(advantages: Advantages, prefix: str) -> dict[str, Array]:
    """The scalar diagnostics as ``prefix/name``, still on their device: nothing is waited for until they are read.

    What loggers do not take in a name, as ``|`` and spaces in an estimator's spelling, becomes ``_``.
    """
    prefix = re.sub(r"[^\w@:./-]+", "_", prefix).rstrip("_")
    return {f"{prefix}/{key}": x for key, x in advantages.diagnostics.items() if len(x.shape) == 0}


def lacking(estimator: Estimator, absent: Collection[str], advice: Mapping[str, str]) -> list[str]:
    """A sentence for each field of ``absent`` that the estimator needs.

    Args:
        estimator: Whose ``needs`` count.
        absent: Fields that the framework does not hand over.
        advice: What to do, or why it is so, by field; the end of a sentence, without its full stop.
    """
    return [
        f"{estimator.name} needs {name}: {advice.get(name, 'there is no column of this name')}."
        for name in sorted(estimator.needs.intersection(absent))
    ]


def refuse(problems: Iterable[str], where: str = "") -> None:
    """Refuse what cannot work, and say all that is wrong at once.

    Args:
        problems: A sentence for each; if there is none, all is well.
        where: What the message begins with.

    Raises:
        ValueError: There is a problem.
    """
    said = " ".join(problems)
    if said:
        raise ValueError(f"{where}{said}")


@contextmanager
def replaced(thing: Any, **values: Any) -> Generator[None]:
    """Attributes of something of the framework's, for as long as the block lasts."""
    held: dict[str, Any] = thing.__dict__
    before = {name: held[name] for name in values if name in held}  # not what its class has
    held.update(values)
    try:
        yield
    finally:
        for name in values:
            del held[name]
        held.update(before)


def make_batch(fields: Mapping[str, Array | None], **more: Any) -> RolloutBatch:
    """A batch of fields by their names in ``needs``; those that :class:`RolloutBatch` does not know are its extras."""
    there = {name: x for name, x in fields.items() if x is not None}
    known = {name: x for name, x in there.items() if name in OPTIONAL_FIELDS}
    return RolloutBatch(**more, **known, extras={name: x for name, x in there.items() if name not in known})


def critic_targets(batch: RolloutBatch, estimator: Estimator, *, step: int | None = None) -> Array:
    """(B, T) what a critic learns: its values and the advantages before any whitening or clipping (lambda returns)."""
    return compute_advantages(batch, _bare(estimator), step=step).values + batch.values


def _bare(estimator: Any) -> Estimator:
    """The estimator without what changes its advantages afterwards; GAE's presets all whiten."""
    if isinstance(estimator, Pipeline):
        return replace(estimator, estimator=_bare(estimator.estimator), after=())
    if isinstance(estimator, GAE):
        return replace(estimator, whiten=False)
    if hasattr(estimator, "lam"):
        return GAE(discount=estimator.discount, lam=estimator.lam)
    return estimator


def lonely(estimator: Estimator, setting: str, samples: int, *, components: int = 1) -> list[str]:
    """A sentence if the estimator compares the responses to a prompt, and there is one.

    Args:
        estimator: Any.
        setting: What the framework calls the number of responses to a prompt.
        samples: Its value.
        components: How many reward components each response has.
    """
    if samples > 1 or not needs_groups(estimator, components=components):
        return []
    return [
        f"{setting} is {samples}, and {estimator.name} compares the responses to a prompt with each other; set it to 2 "
        "or more (8 is usual)."
    ]


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
    batch = make_batch(
        fields,
        rewards=outcome,
        response_mask=np.ones(shape, dtype=bool),
        group_ids=np.arange(len(rewards)) // group_size,
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
