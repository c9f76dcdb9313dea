"""The only files that know array libraries: namespaces, segment sums, and the statistics built on them.

Notation, here and everywhere: B sequences, T token slots, N flat tokens (B * T, or the packed length), G groups,
K buckets.
"""

from advantage_zoo.arrays.namespace import Array, is_concrete, namespace, widen
from advantage_zoo.arrays.segments import segment_cumsum, segment_max, segment_scan, segment_sum
from advantage_zoo.arrays.statistics import (
    bucket_indices,
    centre,
    masked_mean,
    min_and_median_of_positive,
    moments,
    ratio,
    saturating,
    segment_quantile,
    sigmoid,
    standardise,
    top_share,
    unit,
)

__all__ = [
    "Array",
    "bucket_indices",
    "centre",
    "is_concrete",
    "masked_mean",
    "min_and_median_of_positive",
    "moments",
    "namespace",
    "ratio",
    "saturating",
    "segment_cumsum",
    "segment_max",
    "segment_quantile",
    "segment_scan",
    "segment_sum",
    "sigmoid",
    "standardise",
    "top_share",
    "unit",
    "widen",
]
