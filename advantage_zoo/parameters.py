"""Parameters: typed, range-checked fields of frozen dataclasses, which may follow a schedule by step."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

from advantage_zoo.suggestions import nearest


def param(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    kind: type | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A parameter: a dataclass field with a range, checked when its owner is made.

    Args:
        default: Its default; the default's type is the parameter's (an int is taken where a float is expected, a list
            where a tuple of numbers is).
        doc: One sentence: what it does, its unit, what the paper says.
        kind: The type of a parameter without a default.
        ge: Smallest allowed value.
        gt: Value that it must exceed.
        le: Largest allowed value.
        choices: Allowed values of a string parameter.
    """
    limits = {"kind": kind, "ge": ge, "gt": gt, "le": le, "choices": choices}
    metadata = {"doc": doc, **{k: v for k, v in limits.items() if v is not None}}
    return field(metadata=metadata) if default is dataclasses.MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Schedule:
    """A parameter's value by step: from ``start`` at step 0 to ``end`` at step ``steps``, and ``end`` from there on.

    Args:
        start: Value at step 0.
        end: Value at step ``steps`` and after.
        steps: Steps of the way, at least 1.
        shape: ``"linear"``, or ``"cosine"``, half a wave: slow at both ends.
    """

    start: float
    end: float
    steps: int
    shape: str = "linear"

    def __post_init__(self) -> None:
        for name in ("start", "end", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
                raise ValueError(f"{self.shape}: {name} is {value!r}; expected a finite number.")
        if not (float(self.steps).is_integer() and self.steps >= 1):
            raise ValueError(f"{self.shape}: steps is {self.steps!r}; expected a whole number of at least 1.")
        if self.shape not in SHAPES:
            raise ValueError(f"shape is {self.shape!r}; expected one of {', '.join(SHAPES)}.")

    def __call__(self, step: int) -> float:
        """The value at a step, which counts from 0."""
        done = min(max(step / self.steps, 0.0), 1.0)
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.end if done == 1 else self.start + done * (self.end - self.start)

    def __str__(self) -> str:
        return f"{self.shape}({self.start:g}, {self.end:g}, {self.steps})"


SHAPES = ("linear", "cosine")


@dataclass(frozen=True)
class Parameterised:
    """Base of estimators and transforms: fields made by :func:`param`, a name, and a spelling."""

    name: ClassVar[str]
    """What users type."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            if f.default is not dataclasses.MISSING or "kind" in f.metadata:
                object.__setattr__(self, f.name, _typed(type(self), f, getattr(self, f.name)))

    @classmethod
    def create(cls, **params: Any) -> Self:
        """Make one from parameters by name; an unknown name raises and tells the nearest."""
        for key in params:
            # Only an error asks dataclasses.fields of the class, which torch.compile cannot trace.
            # The names that the constructor takes.
            if key not in cls.__match_args__:  # pyright: ignore[reportUnnecessaryContains]
                known = parameters_of(cls)
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise TypeError(f"{cls.name} has no parameter {key!r}{nearest(key, known)}; {takes}.")
        return cls(**params)

    def scheduled(self) -> tuple[str, ...]:
        """Names of the parameters that follow a schedule."""
        return tuple(key for key in self.__dataclass_fields__ if isinstance(getattr(self, key, None), Schedule))

    def at(self, step: int | None) -> Self:
        """The same with every scheduled parameter at its value of ``step``, which counts from 0.

        Raises:
            ValueError: A parameter is scheduled and no step is given.
        """
        scheduled = Parameterised.scheduled(self)
        if not scheduled:
            return self
        if step is None:
            raise ValueError(
                f"{type(self).name}.{scheduled[0]} follows a schedule; pass step=, the number of the step."
            )
        values = {key: getattr(self, key)(step) for key in scheduled}
        whole = {key: round(value) for key, value in values.items() if _kind(self.__dataclass_fields__[key]) is int}
        return dataclasses.replace(self, **values | whole)

    def __str__(self) -> str:
        return self.spelled()

    def spelled(self, *, in_full: bool = False) -> str:
        """How users type it: its name, and the parameters that are not at their defaults, or, in full, all."""
        values = {f: getattr(self, f.name) for f in dataclasses.fields(self)}
        given = [f"{f.name}={_word(value, in_full)}" for f, value in values.items() if in_full or value != f.default]
        name = type(self).name
        return f"{name}({', '.join(given)})" if given else name


def _word(value: Any, in_full: bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_word(x, in_full) for x in cast('tuple[Any, ...]', value))}]"
    return value.spelled(in_full=in_full) if isinstance(value, Parameterised) else str(value)


def parameters_of(cls: type[Parameterised]) -> list[str]:
    """Names of a class's parameters, in order."""
    return [f.name for f in dataclasses.fields(cls)]


def _kind(f: "dataclasses.Field[Any]") -> type[Any]:
    kind: type[Any] | None = f.metadata.get("kind")
    return kind or cast("type[Any]", type(f.default))


def _typed(cls: type[Parameterised], f: "dataclasses.Field[Any]", value: Any) -> Any:
    """``value`` checked against the field's type and range."""
    kind, where = _kind(f), f"{cls.name}.{f.name}"
    if isinstance(value, Schedule) and kind in (int, float):
        for end in (value.start, value.end):
            _in_range(where, f.metadata, end)
        return value
    if isinstance(value, list):
        value = tuple(cast("list[Any]", value))
    value = _number(kind, value)
    matches = type(value) is kind if kind in (bool, int, float, str, tuple) else isinstance(value, kind)
    if f.default is not None and not matches:
        raise TypeError(f"{where} is {value!r}; expected {WORDS.get(kind, f'an {kind.__name__.lower()}')}.")
    if kind is tuple:
        numbers_ = [_number(float, x) for x in value]
        for x in numbers_:
            if type(x) is not float:
                raise TypeError(f"{where} holds {x!r}, a {type(x).__name__}; expected numbers.")
            _in_range(where, f.metadata, x)
        return tuple(numbers_)
    _in_range(where, f.metadata, value)
    return value


WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", tuple: "a list of numbers"}
"""What users call the types of parameters."""


def _number(kind: type[Any], value: Any) -> Any:
    """``value`` as ``kind`` where it is as good: NumPy's numbers, an int for a float."""
    if not isinstance(value, bool):
        if kind is float and isinstance(value, numbers.Real):
            return float(value)
        if kind is int and isinstance(value, numbers.Integral):
            return int(value)
    return value


def _in_range(where: str, limits: Mapping[str, Any], value: Any) -> None:
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ValueError(f"{where} is {value}; expected a finite number.")
    if "choices" in limits and value not in limits["choices"]:
        raise ValueError(
            f"{where} is {value!r}{nearest(str(value), limits['choices'])}; expected one of "
            f"{', '.join(limits['choices'])}."
        )
    if "ge" in limits and not value >= limits["ge"]:
        raise ValueError(f"{where} is {value}; expected at least {limits['ge']}.")
    if "gt" in limits and not value > limits["gt"]:
        raise ValueError(f"{where} is {value}; expected more than {limits['gt']}.")
    if "le" in limits and not value <= limits["le"]:
        raise ValueError(f"{where} is {value}; expected at most {limits['le']}.")
