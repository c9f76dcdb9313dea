"""Binding named points of a framework: once it has imported them, once each, and loudly where they are gone."""

import importlib
import itertools
import logging
import sys

import pytest

from advantage_zoo.binding import Binding, Point, is_ours

FRAMEWORK = """
REGISTRY = {}

def score(x, scale=1):
    "The framework's own."
    return x * scale

class Trainer:
    def step(self, batch):
        return batch
"""
OURS = """
def score(original, x, *args, **kwargs):
    return original(x, *args, **kwargs) + 1

def step(original, trainer, batch):
    return [original(trainer, batch)]

def fill(registry):
    registry.setdefault("ours", score)
"""
count = itertools.count()


@pytest.fixture
def framework(tmp_path, monkeypatch):
    """A framework that can be imported and is not yet, and what we would do to it: its name, and ours."""
    name, ours = f"framework_{next(count)}", f"ours_{next(count)}"
    (tmp_path / f"{name}.py").write_text(FRAMEWORK)
    (tmp_path / f"{ours}.py").write_text(OURS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    return name, ours


def binding(framework, *points):
    name, ours = framework
    made = tuple(Point(name, there, parameters, f"{ours}:{here}") for there, parameters, here in points)
    return Binding("numpy", made, ("1.0",))  # of a distribution that is installed


ALL = (("score", "x scale", "score"), ("Trainer.step", "self batch", "step"), ("REGISTRY", "", "fill"))


@pytest.mark.parametrize("before", [True, False])
def test_points_are_bound_whether_their_module_is_imported_before_or_after(framework, before):
    name, ours = framework
    if before:
        importlib.import_module(name)
    bound = binding(framework, *ALL)
    bound.bind()
    assert ours not in sys.modules or before  # nothing of ours is imported before it is needed
    module = importlib.import_module(name)
    bound.bind()
    bound.bind_module(module)
    assert module.score(3, scale=2) == 7
    assert module.score.__doc__ == "The framework's own."
    assert module.Trainer().step(5) == [5]
    assert list(module.REGISTRY) == ["ours"]
    assert is_ours(module.score)
    assert not bound.problems
    bound.refuse_if_unbound()


def test_what_has_moved_is_logged_and_refused_and_the_rest_is_bound(framework, caplog):
    gone = (("Trainer.gone", "", "step"), ("score", "x weight bias", "score"), ("Trainer.step", "batch", "step"))
    bound = binding(framework, *gone)
    bound.bind()
    with caplog.at_level(logging.ERROR):
        module = importlib.import_module(framework[0])
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert module.score(3) == 3
    assert module.Trainer().step(5) == [5]
    with pytest.raises(
        RuntimeError, match=r"does not fit numpy .*Trainer.gone could not .*takes no weight and no bias.* fit: 1.0"
    ):
        bound.refuse_if_unbound()
    assert [finding.ok for finding in bound.findings()] == [False, False, True]


def test_findings_tell_what_is_bound_what_is_not_and_what_a_release_does_not_have(framework):
    name, _ = framework
    bound = Binding(
        "numpy", (*binding(framework, ALL[0]).points, Point("no_such.module", "f", "", "ours:score")), ("1.0",)
    )
    unbound, absent = bound.findings()
    assert (unbound.what, unbound.ok) == (f"{name}.score", False)
    assert "not bound in this process" in unbound.detail
    assert (absent.ok, absent.detail) == (True, "not in this release")
    bound.bind()
    assert bound.findings()[0].detail == "as expected, and bound"


def test_a_module_that_fails_fails_as_it_would_without_us(framework, tmp_path):
    (tmp_path / f"{framework[0]}.py").write_text("raise KeyError('its own')")
    bound = binding(framework, *ALL)
    bound.bind()
    with pytest.raises(KeyError, match="its own"):
        importlib.import_module(framework[0])
    (finding, *_) = bound.findings()
    assert "KeyError: 'its own'" in finding.detail
    assert not finding.ok
