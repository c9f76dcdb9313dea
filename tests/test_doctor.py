"""`advantage-zoo doctor`, with adapters that are well, ill and broken."""

import json
from importlib.metadata import EntryPoint, PackageNotFoundError

import pytest
from click.testing import CliRunner

from advantage_zoo import doctor
from advantage_zoo.cli import main
from advantage_zoo.doctor import Finding


def fine():
    return [Finding("version", True, "1.2.3"), Finding("plugin", True, "bound")]


def ill():
    return [Finding("version", False, "9.9.9 is not one that was tested; install 1.2.3.")]


def torn():
    raise RuntimeError("half of it is gone")


@pytest.fixture
def adapters(monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")  # whatever is installed where the test runs

    def install(**functions):
        points = [EntryPoint(name, f"{__name__}:{name}", doctor.GROUP) for name in functions]
        monkeypatch.setattr(EntryPoint, "load", lambda point: functions[point.name])
        monkeypatch.setattr(doctor, "entry_points", lambda group: points if group == doctor.GROUP else [])

    return install


def test_a_healthy_house(adapters):
    adapters(acme=fine)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "1.2.3" in result.output
    assert "Nothing is wrong." in result.output


def test_what_is_wrong_is_counted_and_fails(adapters):
    adapters(acme=fine, rival=ill, wreck=torn)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "2 of these to mend." in result.output
    told = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).output)
    assert list(told) == ["advantage-zoo", "acme", "rival", "wreck"]
    assert told["rival"] == [
        {"what": "version", "ok": False, "detail": "9.9.9 is not one that was tested; install 1.2.3."}
    ]
    assert "RuntimeError: half of it is gone" in told["wreck"][0]["detail"]
    assert not told["wreck"][0]["ok"]


def test_it_starts_with_itself(adapters):
    adapters()
    (own,) = doctor.examine().values()
    assert [finding.what for finding in own[:2]] == ["version", "registry"]
    assert "estimators; plugins: " in own[1].detail


def test_a_framework_that_is_not_installed_is_no_fault(monkeypatch):
    from advantage_zoo_verl.doctor import examine

    def not_there(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("advantage_zoo.binding.version", not_there)
    assert examine() == [Finding("verl", True, "not installed")]
