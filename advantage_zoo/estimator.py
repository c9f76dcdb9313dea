"""What an estimator is: a frozen dataclass of range-checked parameters, and metadata about itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from advantage_zoo.arrays.namespace import Array
from advantage_zoo.parameters import Parameterised as Parameterised
from advantage_zoo.parameters import param as param

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


@dataclass(frozen=True)
class Estimator(Parameterised, ABC):
    """Base of every estimator.

    A subclass is a ``@dataclass(frozen=True)`` whose fields, each made by :func:`param`, are its parameters. It names
    itself in the class variables and computes in :meth:`compute`; masking, dtypes, devices, layouts and the checks of
    its inputs are the framework's work.

    Raises:
        TypeError: A parameter is unknown or of the wrong type.
        ValueError: A parameter is out of its range.
    """

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

    @abstractmethod
    def compute(self, batch: "FlatBatch") -> Advantages:
        """Advantages of a flat batch, one a token, (N,); what is one a response goes through ``batch.to_tokens``.

        What stands at masked tokens does not matter; the fields of ``batch`` are widened and carry no gradient.
        """

    def explain(self, batch: "FlatBatch") -> Mapping[str, Array]:
        """What each token's advantage is made of, for reports: (N,) or (B,) arrays by name; nothing if not overridden.

        What stands at masked tokens does not matter. A class that overrides :meth:`compute` does not inherit it: what
        another formula is made of would not be its own.
        """
        return no_arrays()

    @classmethod
    def explains(cls) -> bool:
        """Whether :meth:`explain` is of this class's :meth:`compute`, and not of one that was overridden."""
        owner = {name: next(c for c in cls.__mro__ if name in vars(c)) for name in ("compute", "explain")}
        return owner["explain"] is not Estimator and issubclass(owner["explain"], owner["compute"])

    @property
    def batch_statistics(self) -> bool:
        """Whether one group's advantages depend on other groups, as those of batch normalisation do."""
        return False
