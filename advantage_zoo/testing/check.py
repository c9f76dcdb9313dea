"""check_estimator: every law that holds for all, and every law that the estimator claims."""

from collections.abc import Iterable

import numpy as np

from advantage_zoo.estimator import Estimator
from advantage_zoo.registry import estimator
from advantage_zoo.testing.backends import available
from advantage_zoo.testing.claims import CLAIMS
from advantage_zoo.testing.laws import ALWAYS, Law, Subject
from advantage_zoo.testing.strategies import example_batches, rollouts


def laws_of(which: type[Estimator] | Estimator) -> list[Law]:
    """The laws that hold for all, and those that the estimator claims."""
    return [*ALWAYS.values(), *(CLAIMS[claim] for claim in sorted(which.claims) if claim in CLAIMS)]


def check_estimator(
    which: str | type[Estimator] | Estimator, backends: Iterable[str] | None = None, examples: int = 50
) -> None:
    """Check an estimator against every law that it must keep or claims, on every array library.

    Args:
        which: A name, a class (checked at its default parameters) or an instance.
        backends: Names from ``advantage_zoo.testing.BACKENDS``; those installed if not given.
        examples: Batches that Hypothesis tries for each law on NumPy; other libraries get a tenth of them.

    Raises:
        AssertionError: A law does not hold; the message names the law, its source, and the smallest batch found.
    """
    chosen = estimator(which)() if isinstance(which, str) else which if isinstance(which, Estimator) else which()
    for backend in available(backends):
        for law in laws_of(chosen):
            if backend.name == "numpy":
                search(law, Subject(chosen, backend), examples)
            else:
                check_examples(law, Subject(chosen, backend), max(examples // 10, 3))


def search(law: Law, subject: Subject, examples: int) -> None:
    """Let Hypothesis look for a batch that breaks the law, and shrink it."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(rollouts(), st.integers(0, 2**16))
    def hold(batch: object, seed: int) -> None:
        law.check(subject, batch, np.random.default_rng(seed))  # pyright: ignore[reportArgumentType]

    try:
        hold()
    except AssertionError as error:
        raise AssertionError(_message(law, subject, error)) from error


def check_examples(law: Law, subject: Subject, examples: int) -> None:
    """Try the law on the first of the fixed batches."""
    for seed, batch in enumerate(example_batches(examples)):
        try:
            law.check(subject, batch, np.random.default_rng(seed))
        except AssertionError as error:
            raise AssertionError(f"{_message(law, subject, error)}\nwith {batch}") from error


def _message(law: Law, subject: Subject, error: AssertionError) -> str:
    where = f"{subject.estimator} on {subject.backend.name}"
    return f"{where} breaks {law.id}: {law.text} (source: {law.source})\n{error}"
