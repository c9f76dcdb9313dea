"""The shipped rollouts, which the tests cut into files."""

import pyarrow.parquet as pq
import pytest

from advantage_zoo.rollouts import shipped_rollouts


@pytest.fixture(scope="module")
def shipped():
    return pq.read_table(shipped_rollouts())
