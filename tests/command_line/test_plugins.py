"""Estimators of plugins on the command line, those that fail included."""

import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
from command_line.calls import UNFED, left_out, refused, run

import advantage_zoo as az
from advantage_zoo import registry


@dataclass(frozen=True)
class Faulty(az.Estimator):
    name: ClassVar[str] = "faulty"

    def compute(self, batch):
        raise RuntimeError("out of order\nin two lines")


@dataclass(frozen=True)
class Critic(az.Estimator):
    name: ClassVar[str] = "critic"
    needs: ClassVar[frozenset[str]] = frozenset({"values"})

    def compute(self, batch):
        return az.Advantages(batch.values)


@dataclass(frozen=True)
class Loud(az.Estimator):
    """Its name is a built-in's, and NumPy warns while it computes."""

    name: ClassVar[str] = "grpo"
    weight: float = az.param(2.0, doc="Of the reward.")

    def compute(self, batch):
        np.log(np.zeros(1))
        return az.Advantages(batch.to_tokens(batch.rewards) * self.weight)


@pytest.fixture
def plugin(monkeypatch):
    """Registers classes as the plugin `acme`."""

    def install(*classes):
        @az.hookimpl
        def advantage_zoo_register_estimators(register):
            for cls in classes:
                register(cls)

        module = ModuleType("acme")
        module.advantage_zoo_register_estimators = advantage_zoo_register_estimators
        monkeypatch.setattr(EntryPoint, "load", lambda _: module)
        points = [EntryPoint("acme", "acme", registry.PROJECT)]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: points)
        monkeypatch.setattr(registry, "_loaded", {})
        monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "acme")

    return install


def test_an_estimator_that_raises_is_named(plugin, file):
    plugin(Faulty)
    line = refused("compare", file)
    assert "faulty failed on these rollouts (RuntimeError: out of order in two lines)" in line
    assert run("compare", file, "-e", "grpo").exit_code == 0


def test_an_estimator_that_no_file_can_feed_is_left_out_or_refused_by_name(plugin, file):
    plugin(Critic)
    result = run("compare", file)
    assert result.exit_code == 0
    assert left_out(result) == {"critic", *UNFED}
    assert "critic" not in result.stdout
    assert "has no values, which critic needs" in refused("compare", file, "-e", "grpo,critic")


def test_qualified_names_work_everywhere(plugin, file, tmp_path):
    plugin(Loud)
    assert "acme:grpo" in run("list").output
    report = tmp_path / "out.html"
    result = run(
        *("compare", file, "-e", "grpo,acme:grpo", "--set", "acme:grpo.weight=3", "--set", "grpo.eps=1"),
        *("--json", "--report", report),
    )
    assert result.exit_code == 0, result.output
    out = json.loads(result.stdout)
    assert out["estimators"][1]["parameters"] == {"weight": 3.0}
    assert out["estimators"][0]["parameters"]["eps"] == 1.0
    assert "acme:grpo" in report.read_text(encoding="utf-8")
    assert "Note: divide by zero encountered in log\n" in result.stderr  # without the place in the code
    assert f"Wrote {report}" in result.stderr


def test_plugin_problems_are_shown_by_list(plugin, file):
    plugin(Loud)
    result = run("list")
    assert result.exit_code == 0
    assert "acme:grpo" in result.stderr
    assert "cannot be shadowed" in result.stderr
