"""Rollouts on disk: our Parquet files, one row a response, and what training frameworks dump."""

from advantage_zoo.rollouts.dumping import RolloutDump
from advantage_zoo.rollouts.dumps import column_map, read
from advantage_zoo.rollouts.parquet import SHIPPED, RolloutFileError, read_rollouts, shipped_rollouts, write_rollouts
from advantage_zoo.rollouts.rollouts import Rollouts
from advantage_zoo.rollouts.writing import Tokens

__all__ = [
    "SHIPPED",
    "RolloutDump",
    "RolloutFileError",
    "Rollouts",
    "Tokens",
    "column_map",
    "read",
    "read_rollouts",
    "shipped_rollouts",
    "write_rollouts",
]
