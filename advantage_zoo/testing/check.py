"""check_estimator: every invariant that an estimator keeps or claims, on every library."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from advantage_zoo.batch import OPTIONAL_FIELDS, RolloutBatch
from advantage_zoo.compute import compute_advantages, make
from advantage_zoo.estimator import Estimator
from advantage_zoo.registry import registrable
from advantage_zoo.testing.backends import Backend, backend, installed
from advantage_zoo.testing.invariants import INVARIANTS, Invariant, laws_of
from advantage_zoo.testing.layouts import without
from advantage_zoo.testing.strategies import EXTRAS, one_batch, rollouts
from advantage_zoo.testing.trial import Compute, Trial

Checkable = str | type[Estimator] | Estimator
"""A name or spelling, a class, or an instance."""

EXAMPLES = {"numpy": 40, "readonly": 20, "torch": 20, "strict": 8, "jax": 2}
"""Batches a law and library; JAX compiles each shape anew."""


def check_law(
    law: Invariant,
    estimator: Estimator,
    library: Backend,
    *,
    examples: int | None = None,
    compute: Compute = compute_advantages,
    row_fields: Collection[str] = (),
) -> None:
    """Hold an estimator to one law on one library.

    Args:
        law: One of ``INVARIANTS``.
        estimator: An instance.
        library: Where to compute.
        examples: Number of batches; by library if not given.
        compute: What computes; a test of the checks puts a broken one here.
        row_fields: As for :func:`check_estimator`.

    Raises:
        AssertionError: With the law, the smallest counterexample found and the law's source. An estimator that fails
            while a law is tried breaks it, too.
    """
    search = _Search(law, estimator, compute, frozenset(row_fields))
    found = search.counterexample(library, examples or EXAMPLES[library.name])
    if found is None:
        return
    if not found.smallest:  # most breaches show on NumPy, too, where shrinking compiles nothing
        found = search.counterexample(backend("numpy"), EXAMPLES["numpy"]) or found
    raise AssertionError(
        f"{estimator!r} breaks {law.id} on {library.name}: {law.law}\n{found.what}\n"
        f"{'Smallest batch' if found.smallest else 'A batch'}: {found.batch} (seed {found.seed})\nSource: {law.source}"
    ) from found.error


class _Counterexample(NamedTuple):
    what: str
    batch: str
    seed: int
    smallest: bool
    error: Exception


@dataclass(frozen=True)
class _Search:
    """For a batch on which an estimator breaks a law."""

    law: Invariant
    estimator: Estimator
    compute: Compute
    row_fields: frozenset[str]

    def counterexample(self, library: Backend, examples: int) -> _Counterexample | None:
        """The smallest that was found, as Hypothesis shrinks; under JAX the first."""
        last: list[Trial] = []
        traced = library.name == "jax"
        smallest = not traced

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            print_blob=False,
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
            phases=(Phase.generate,) if traced else (Phase.generate, Phase.shrink),
        )
        @given(self._batches(one_shape=traced), st.integers(0, 2**16), st.booleans())
        def hold(batch: RolloutBatch, seed: int, bare: bool) -> None:
            batch = without(batch, self.estimator.uses) if bare else batch
            last[:] = [Trial(self.estimator, batch, library, seed, self.compute)]
            self.law.check(last[0])

        with library.precise():
            try:
                hold()
                if self.law.once is not None:
                    fixed, smallest = one_batch(self._token_extras(), self.row_fields), False
                    last[:] = [Trial(self.estimator, fixed, library, 0, self.compute)]
                    self.law.once(last[0])
            except Exception as error:  # the estimator's own, too
                what = str(error) if isinstance(error, AssertionError) else _failure(self.law, error)
                return _Counterexample(what, self._shown(last[0].batch), last[0].seed, smallest, error)
        return None

    def _batches(self, one_shape: bool) -> st.SearchStrategy[RolloutBatch]:
        """Under JAX of one shape, so that it compiles once."""
        tokens, rows = self._token_extras(), self.row_fields
        if one_shape:
            return rollouts(rows=6, tokens=4, num_groups=4, token_extras=tokens, row_extras=rows)
        return rollouts(token_extras=tokens, row_extras=rows)

    def _token_extras(self) -> frozenset[str]:
        """Fields of the estimator's own, which no batch knows, but those of one number a response."""
        return (self.estimator.needs | self.estimator.uses) - {*OPTIONAL_FIELDS, *EXTRAS} - self.row_fields

    def _shown(self, batch: RolloutBatch) -> str:
        """The batch without what the estimator does not read."""
        read = self.estimator.needs | self.estimator.uses
        kept = without(batch, (set(OPTIONAL_FIELDS) | set(batch.extras)) - read)
        values = {f.name: getattr(kept, f.name) for f in fields(kept)} | {"extras": dict(kept.extras) or None}
        return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)


def _failure(law: Invariant, error: Exception) -> str:
    return f"{law.id}: it fails while this is tried ({type(error).__name__}: {error})."


def cases(which: Checkable, backends: Sequence[str] | None = None) -> tuple[Estimator, list[tuple[Invariant, str]]]:
    """The instance that is checked, at its default parameters if a class or a name, and each (law, library) to try.

    Raises:
        LookupError: No estimator has this name, a backend does not exist, or a claim is no invariant's id.
        TypeError: It is no estimator, or one that could not be registered.
    """
    instance = registrable(which).create() if isinstance(which, type) else make(which)
    unknown = sorted(instance.claims - INVARIANTS.keys())
    if unknown:
        raise LookupError(f"{instance.name} claims {', '.join(unknown)}; there are {', '.join(INVARIANTS)}.")
    if isinstance(backends, str) or (backends is not None and not backends):
        raise TypeError(f"backends is {backends!r}; expected a list of names, for instance ['numpy'].")
    libraries = installed() if backends is None else tuple(backends)
    for name in libraries:
        backend(name)
    laws = laws_of(instance.claims)
    return instance, [(law, name) for name in libraries for law in laws if law.applies(name)]


def check_estimator(
    which: Checkable, backends: Sequence[str] | None = None, *, row_fields: Collection[str] = ()
) -> None:
    """Hold an estimator to every invariant and to those that it claims, on every library.

    A field that only the estimator knows is drawn as an extra of one number a token, (B, T).

    Args:
        which: Its name or spelling, its class, which is tried at its default parameters, or an instance.
        backends: Names of libraries; all that are installed if not given.
        row_fields: Which of its own fields have one number a response instead, (B,).

    Raises:
        AssertionError: It breaks a law; the message tells which, the smallest counterexample and the law's source.
        LookupError: No estimator has this name, or it claims an invariant that does not exist.
        TypeError: It is no estimator, or one that could not be registered.
    """
    instance, pairs = cases(which, backends)
    for law, name in pairs:
        check_law(law, instance, backend(name), row_fields=row_fields)


def conformance_test(
    which: Checkable, backends: Sequence[str] | None = None, *, row_fields: Collection[str] = ()
) -> Callable[..., None]:
    """Make a pytest test with a case for each law and library.

    One line in a test file: ``test_mine = conformance_test(Mine)``.

    Args:
        which: As for :func:`check_estimator`.
        backends: Likewise.
        row_fields: Likewise.
    """
    import pytest

    instance, pairs = cases(which, backends)

    @pytest.mark.parametrize(
        ("law", "library"), [pytest.param(law, name, id=f"{law.id}-{name}") for law, name in pairs]
    )
    def test(law: Invariant, library: str) -> None:
        check_law(law, instance, backend(library), row_fields=row_fields)

    return test
