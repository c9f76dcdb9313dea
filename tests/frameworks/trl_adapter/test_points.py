"""TRL as the adapter expects it, and what the doctor says where it is not."""

from dataclasses import replace
from pathlib import Path

import pytest
from advantage_zoo_trl import doctor, points
from frameworks.trl_adapter.made import QUIET

pytestmark = QUIET


@pytest.mark.parametrize("point", points.POINTS, ids=lambda point: point.name)
def test_trl_is_as_the_adapter_expects_it(point):
    assert not point.problem()


def test_the_doctor_tells_what_has_moved(monkeypatch):
    assert all(finding.ok for finding in doctor.examine())
    gone = replace(points.POINTS[0], statements=("self.beta = args.kappa",))
    absent = replace(points.POINTS[0], name="GRPOTrainer.no_such_method")
    monkeypatch.setattr(doctor, "POINTS", (gone, absent))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.17.2")
    version, moved_away, missing = doctor.examine()
    assert not version.ok
    assert "install trl==1.16.0" in version.detail
    assert "has no 'self.beta = args.kappa'" in moved_away.detail
    assert "no_such_method is not there" in missing.detail


def test_the_page_names_every_point():
    page = (Path(__file__).parents[3] / "docs" / "adapters" / "trl.md").read_text()
    assert [point.name for point in points.POINTS if f"`{point.name.split('.')[-1]}`" not in page] == []
