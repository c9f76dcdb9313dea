"""Many estimators on one batch of rollouts: metrics, tables, the HTML report."""

from advantage_zoo.compare.comparison import Comparison, ComparisonError, Result, compare

__all__ = ["Comparison", "ComparisonError", "Result", "compare"]
