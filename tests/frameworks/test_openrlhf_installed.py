"""OpenRLHF as it is installed: enabled, disabled, looked at by the doctor, and never changed on disk."""

import base64
import hashlib
import importlib.metadata
import subprocess
import sys
import warnings

import pytest
from advantage_zoo_openrlhf import commands, doctor
from advantage_zoo_openrlhf.points import BINDING
from click.testing import CliRunner

from advantage_zoo.cli import main

with warnings.catch_warnings():  # of OpenRLHF's own imports
    warnings.simplefilter("ignore")
    import openrlhf.cli.train_ppo_ray
    import openrlhf.trainer.ppo_trainer_async  # noqa: F401

UNKNOWN = ("--algo.advantage.estimator", "ep_grpo")  # without a reference
NEEDS = "error: ep_grpo needs ref_logprobs: pass --algo.kl.use_loss"


def say(*words):
    """The last line of what Python says when it runs this module."""
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.fixture
def switch():
    yield lambda *words: CliRunner().invoke(main, ["openrlhf", *words], catch_exceptions=False).output
    commands.PTH.unlink(missing_ok=True)


def test_the_launcher_takes_it():
    assert NEEDS in say("advantage_zoo_openrlhf", "train_ppo_ray", *UNKNOWN)


def test_enabled_the_plain_command_takes_it_and_disabled_it_is_as_before(switch):
    assert "Enabled" in switch("enable", "--yes")
    assert NEEDS in say("openrlhf.cli.train_ppo_ray", *UNKNOWN)
    assert "takes the zoo's estimators" in doctor.examine()[1].detail
    assert "as it was" in switch("disable")
    assert "invalid choice: 'ep_grpo'" in say("openrlhf.cli.train_ppo_ray", *UNKNOWN)


def test_no_file_of_openrlhf_is_changed():
    files = [file for file in importlib.metadata.files("openrlhf") if file.hash]
    assert len(files) > 50
    for file in files:
        digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, file


def test_the_doctor_finds_every_point():
    findings = doctor.examine()
    assert [finding.what for finding in findings[:2]] == ["openrlhf", "plain command"]
    assert [finding for finding in findings if not finding.ok] == []
    assert findings[0].detail.startswith("0.11.2 (tested: 0.11.2")
    assert [finding.what for finding in findings[2:]] == [str(point) for point in BINDING.points]
