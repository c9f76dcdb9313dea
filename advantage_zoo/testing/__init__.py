"""For tests of estimators: the invariants, a Hypothesis strategy of rollouts, and ``check_estimator``.

Needs hypothesis; ``import advantage_zoo`` does not import this package.
"""

from advantage_zoo.testing.backends import Backend, backend, installed
from advantage_zoo.testing.check import cases, check_estimator, check_law, conformance_test
from advantage_zoo.testing.invariants import INVARIANTS, Invariant
from advantage_zoo.testing.strategies import rollouts
from advantage_zoo.testing.trial import Trial

__all__ = [
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
