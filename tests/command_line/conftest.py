"""The command without plugins, on a terminal of 80 columns; a rollout file."""

import pytest
from made_rollouts import rollout_file


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def file(tmp_path):
    return rollout_file(tmp_path / "made.parquet")
