"""What an estimator is: a frozen dataclass of range-checked parameters, and metadata about itself."""

import dataclasses
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.suggestions import nearest

if TYPE_CHECKING:
    from advantage_zoo.flat import FlatBatch


@dataclass(frozen=True)
class Paper:
    """Where an estimator comes from.

    Args:
        title: The paper's title.
        arxiv: arXiv identifier, for instance ``"2402.03300"``.
        equations: The equations implemented, as the paper numbers them.
    """

    title: str
    arxiv: str
    equations: str = ""

    @property
    def url(self) -> str:
        """Address of the paper's abstract."""
        return f"https://arxiv.org/abs/{self.arxiv}"


class Reduction(NamedTuple):
    """A special case of an estimator that equals another one."""

    params: Mapping[str, Any]
    """Parameters of the special case, over the defaults."""
    to: str
    """What it equals, as users type it."""
    times: Callable[[Any], Any] = lambda size: size * 0 + 1
    """From the size of a response's group, (B,), to the factor by which it equals it."""


def no_arrays() -> dict[str, Array]:
    """An empty mapping; torch.compile cannot trace ``dict[str, Array]()``."""
    return {}


@dataclass(frozen=True, eq=False)
class Advantages:
    """Advantages of a batch, and what the estimator has to say about them.

    Args:
        values: One a token. An estimator's ``compute`` returns them flat, (N,);
            :func:`advantage_zoo.compute_advantages` in the mask's shape, (B, T) or packed (N,).
        diagnostics: Scalars (and (B,) arrays, where the name says so) by name, on the batch's device: nothing
            synchronises until somebody prints them.
    """

    values: Array
    diagnostics: Mapping[str, Array] = field(default_factory=no_arrays)


def param(
    default: Any,
    *,
    doc: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A parameter of an estimator: a dataclass field with a range, checked when the estimator is made.

    Args:
        default: Its default; the default's type is the parameter's (an int is taken where a float is expected).
        doc: One sentence: what it does, its unit, what the paper says.
        ge: Smallest allowed value.
        gt: Value that it must exceed.
        le: Largest allowed value.
        choices: Allowed values of a string parameter.
    """
    limits = {"ge": ge, "gt": gt, "le": le, "choices": choices}
    return field(default=default, metadata={"doc": doc, **{k: v for k, v in limits.items() if v is not None}})


@dataclass(frozen=True)
class Estimator(ABC):
    """Base of every estimator.

    A subclass is a ``@dataclass(frozen=True)`` whose fields, each made by :func:`param`, are its parameters. It names
    itself in the class variables and computes in :meth:`compute`; masking, dtypes, devices, layouts and the checks of
    its inputs are the framework's work.

    Raises:
        TypeError: A parameter is unknown or of the wrong type.
        ValueError: A parameter is out of its range.
    """

    name: ClassVar[str]
    """What users type."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Fields of the batch beyond rewards, mask and groups; a name that is no field is looked for in ``extras``."""
    uses: ClassVar[frozenset[str]] = frozenset()
    """Fields that it reads where the batch has them, and does without where not."""
    paper: ClassVar[Paper | None] = None
    """Where the formula comes from."""
    claims: ClassVar[frozenset[str]] = frozenset()
    """Invariants that it promises beyond those that every estimator keeps, at its default parameters."""
    reductions: ClassVar[tuple[Reduction, ...]] = ()
    """Special cases that equal another estimator; the claim REDUCES_TO is about these."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = _typed(type(self), f, getattr(self, f.name))
            object.__setattr__(self, f.name, value)

    @abstractmethod
    def compute(self, batch: "FlatBatch") -> Advantages:
        """Advantages of a flat batch, one a token, (N,); what is one a response goes through ``batch.to_tokens``.

        What stands at masked tokens does not matter; the fields of ``batch`` are widened and carry no gradient.
        """

    @property
    def batch_statistics(self) -> bool:
        """Whether one group's advantages depend on other groups, as those of batch normalisation do."""
        return False

    @classmethod
    def create(cls, **params: Any) -> "Estimator":
        """Make one from parameters by name; an unknown name raises and tells the nearest."""
        for key in params:
            # Only an error asks dataclasses.fields of the class, which torch.compile cannot trace.
            if key not in cls.__dataclass_fields__ or key in Estimator.__annotations__:
                known = [f.name for f in dataclasses.fields(cls)]
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise TypeError(f"{cls.name} has no parameter {key!r}{nearest(key, known)}; {takes}.")
        return cls(**params)


def _typed(cls: type[Estimator], f: "dataclasses.Field[Any]", value: Any) -> Any:
    """``value`` checked against the field's type and range."""
    kind = cast("type[Any]", type(f.default))
    where = f"{cls.name}.{f.name}"
    if not isinstance(value, bool):  # NumPy's numbers and an int for a float are as good
        if kind is float and isinstance(value, numbers.Real):
            value = float(value)
        elif kind is int and isinstance(value, numbers.Integral):
            value = int(value)
    if f.default is not dataclasses.MISSING and f.default is not None and type(value) is not kind:
        raise TypeError(f"{where} is {value!r}, a {type(value).__name__}; expected {kind.__name__}.")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ValueError(f"{where} is {value}; expected a finite number.")
    limits: Mapping[str, Any] = f.metadata
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
    return value
