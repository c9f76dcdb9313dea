"""Checks of estimators against stated laws, for this package's own and for yours.

    from advantage_zoo.testing import check_estimator
    check_estimator("grpo")

Needs Hypothesis, and the array libraries that are to be checked.
"""

from advantage_zoo.testing.backends import BACKENDS, Backend, available, convert
from advantage_zoo.testing.check import check_estimator, check_examples, laws_of, search
from advantage_zoo.testing.claims import CLAIMS
from advantage_zoo.testing.laws import ALWAYS, TOLERANCE, Law, Subject
from advantage_zoo.testing.strategies import example_batches, rollouts

__all__ = [
    "ALWAYS",
    "BACKENDS",
    "CLAIMS",
    "TOLERANCE",
    "Backend",
    "Law",
    "Subject",
    "available",
    "check_estimator",
    "check_examples",
    "convert",
    "example_batches",
    "laws_of",
    "rollouts",
    "search",
]
