"""Rollouts on disk: one Parquet row a response, read and written by :class:`Rollouts`."""

from advantage_zoo.rollouts.parquet import SHIPPED, RolloutFileError, read_rollouts, shipped_rollouts, write_rollouts
from advantage_zoo.rollouts.rollouts import Rollouts

__all__ = ["SHIPPED", "RolloutFileError", "Rollouts", "read_rollouts", "shipped_rollouts", "write_rollouts"]
