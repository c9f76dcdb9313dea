"""The TRL adapter where TRL is not: its script says what to install, its doctor that all is well."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("trl") is not None, reason="TRL is installed")


def test_the_script_says_what_to_install():
    done = subprocess.run([sys.executable, "-m", "advantage_zoo_trl.script"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "zoo-grpo needs TRL (No module named 'trl'): pip install 'advantage-zoo[trl]'.\n"


def test_the_doctor_finds_nothing_wrong():
    from advantage_zoo_trl.doctor import examine

    assert [(finding.ok, finding.detail) for finding in examine()] == [(True, "not installed")]


def test_the_package_names_what_it_has():
    import advantage_zoo_trl

    with pytest.raises(AttributeError, match="has no attribute 'ZooDPOTrainer'"):
        _ = advantage_zoo_trl.ZooDPOTrainer
