"""What composes with an estimator: each takes a batch and gives a new one."""

from advantage_zoo.transforms.overlong import OverlongPenalty as OverlongPenalty

__all__ = ["OverlongPenalty"]
