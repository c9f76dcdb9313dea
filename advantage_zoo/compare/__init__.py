"""Many estimators on one batch of rollouts: metrics, tables, the HTML report."""

from advantage_zoo.compare.comparison import Comparison, Result, compare
from advantage_zoo.compare.work import ComparisonError

__all__ = ["Comparison", "ComparisonError", "Result", "compare"]
