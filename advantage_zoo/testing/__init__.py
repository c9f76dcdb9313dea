"""For tests of estimators: the invariants, ``check_estimator``, a Hypothesis strategy of rollouts.

Needs hypothesis; ``import advantage_zoo`` does not import this package.
"""

from advantage_zoo.testing.backends import Backend, backend, installed
from advantage_zoo.testing.broken import BROKEN
from advantage_zoo.testing.check import cases, check_estimator, check_law, conformance_test
from advantage_zoo.testing.invariants import INVARIANTS, Invariant
from advantage_zoo.testing.strategies import rollouts
from advantage_zoo.testing.trial import Trial

__all__ = [
    "BROKEN",
    "INVARIANTS",
    "Backend",
    "Invariant",
    "Trial",
    "backend",
    "cases",
    "check_estimator",
    "check_law",
    "conformance_test",
    "installed",
    "rollouts",
]
