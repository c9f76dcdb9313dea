"""The state that the adapter keeps in a process is fresh for each test."""

import warnings

import pytest

import advantage_zoo as az
from advantage_zoo.training import Training


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """What the first batch is warned about (one group is alone, one row is padding) is not what is tested here."""
    pytest.importorskip("verl")
    from advantage_zoo_verl import training

    monkeypatch.setattr(training, "TRAINING", Training("verl", timing="timing_s/advantage_zoo"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", az.RolloutWarning)
        yield
