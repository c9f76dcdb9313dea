"""The state that the adapter keeps in a process is fresh for each test."""

import warnings

import pytest

import advantage_zoo as az


@pytest.fixture(autouse=True)
def fresh():
    """What the first batch is warned about (one group is alone, one row is padding) is not what is tested here."""
    pytest.importorskip("verl")
    from advantage_zoo_verl import training

    for state in (training._announced, training._metrics, training._seconds):
        state.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", az.RolloutWarning)
        yield
