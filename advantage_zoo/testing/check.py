"""check_estimator: every invariant that an estimator keeps or claims, on every library."""

from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.compute import compute_advantages, make
from advantage_zoo.estimator import Estimator
from advantage_zoo.testing.backends import Backend, backend, installed
from advantage_zoo.testing.invariants import INVARIANTS, Invariant, laws_of
from advantage_zoo.testing.layouts import without
from advantage_zoo.testing.strategies import rollouts
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
) -> None:
    """Hold an estimator to one law on one library.

    Args:
        law: One of ``INVARIANTS``.
        estimator: An instance.
        library: Where to compute.
        examples: Number of batches; by library if not given.
        compute: What computes; a test of the checks puts a broken one here.

    Raises:
        AssertionError: With the law, the smallest counterexample found and the law's source.
    """
    # One shape under JAX, so that it compiles once.
    batches = rollouts(rows=6, tokens=4, num_groups=4) if library.name == "jax" else rollouts()
    last: list[RolloutBatch] = []

    @settings(
        max_examples=examples or EXAMPLES[library.name],
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
        phases=(Phase.generate,) if library.name == "jax" else (Phase.generate, Phase.shrink),
    )
    @given(batches, st.integers(0, 2**16), st.booleans())
    def hold(batch: RolloutBatch, seed: int, bare: bool) -> None:
        if bare:
            batch = without(batch, estimator.uses)
        last[:] = [batch]
        law.check(Trial(estimator, batch, library, seed, compute))

    with library.precise():
        try:
            hold()
        except AssertionError as error:
            raise AssertionError(
                f"{estimator!r} breaks {law.id} on {library.name}: {law.law}\n{error}\n"
                f"Smallest batch: {last[0]}\nWhere it hurt: {law.source}"
            ) from error


def cases(which: Checkable, backends: Sequence[str] | None = None) -> tuple[Estimator, list[tuple[Invariant, str]]]:
    """The instance that is checked, at its default parameters if a class or a name, and each (law, library) to try.

    Raises:
        LookupError: No estimator has this name, a backend does not exist, or a claim is no invariant's id.
    """
    instance = which.create() if isinstance(which, type) else make(which)
    unknown = sorted(instance.claims - INVARIANTS.keys())
    if unknown:
        raise LookupError(f"{instance.name} claims {', '.join(unknown)}; there are {', '.join(INVARIANTS)}.")
    libraries = installed() if backends is None else tuple(backends)
    for name in libraries:
        backend(name)
    return instance, [(law, name) for name in libraries for law in laws_of(instance.claims)]


def check_estimator(which: Checkable, backends: Sequence[str] | None = None) -> None:
    """Hold an estimator to every invariant and to those that it claims, on every library.

    Args:
        which: Its name or spelling, its class, which is tried at its default parameters, or an instance.
        backends: Names of libraries; all that are installed if not given.

    Raises:
        AssertionError: It breaks a law; the message tells which, the smallest counterexample and the law's source.
        LookupError: No estimator has this name, or it claims an invariant that does not exist.
    """
    instance, pairs = cases(which, backends)
    for law, name in pairs:
        check_law(law, instance, backend(name))


def conformance_test(which: Checkable, backends: Sequence[str] | None = None) -> Callable[..., None]:
    """Make a pytest test with a case for each law and library.

    One line in a test file: ``test_mine = conformance_test(Mine)``.

    Args:
        which: As for :func:`check_estimator`.
        backends: Likewise.
    """
    import pytest

    instance, pairs = cases(which, backends)

    @pytest.mark.parametrize(
        ("law", "library"), [pytest.param(law, name, id=f"{law.id}-{name}") for law, name in pairs]
    )
    def test(law: Invariant, library: str) -> None:
        check_law(law, instance, backend(library))

    return test
