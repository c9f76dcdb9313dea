"""The OpenRLHF adapter where OpenRLHF is not: its switch, its line in site-packages, its doctor, its launcher."""

import subprocess
import sys

import advantage_zoo_openrlhf.commands as commands
import pytest
from click.testing import CliRunner

from advantage_zoo.cli import main


@pytest.fixture
def pth(tmp_path, monkeypatch):
    file = tmp_path / "advantage_zoo_openrlhf.pth"
    monkeypatch.setattr(commands, "PTH", file)
    return file


def run(*words, answer=None):
    return CliRunner().invoke(main, ["openrlhf", *words], input=answer)


def test_the_line_is_shown_before_it_is_written_and_can_be_refused(pth):
    refused = run("enable", answer="n\n")
    assert refused.exit_code == 1
    assert str(pth) in refused.output
    assert commands.LINE in refused.output
    assert not pth.exists()
    assert run("enable", answer="y\n").exit_code == 0
    assert pth.read_text() == commands.LINE


def test_enable_disable_status(pth):
    assert "Not enabled" in run("status").output
    assert run("enable", "--yes").exit_code == 0
    assert run("enable", "--yes").exit_code == 0
    assert f"Enabled by {pth}." in run("status").output
    assert f"Removed {pth}; OpenRLHF is as it was." in run("disable").output
    assert not pth.exists()
    assert "Not enabled" in run("disable").output


def test_a_folder_that_cannot_be_written_is_a_sentence(pth, monkeypatch):
    monkeypatch.setattr(commands, "PTH", pth.parent / "gone" / pth.name)
    refused = run("enable", "--yes")
    assert refused.exit_code == 2
    assert f"No such file or directory: '{pth.parent / 'gone' / pth.name}'" in refused.output


def python(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True)


SHOW = """import sys
print(sum(type(finder).__module__.startswith('advantage_zoo') for finder in sys.meta_path))
print({name for name in sys.modules if name.startswith('advantage_zoo') or name in ('numpy', 'ast')})
"""


@pytest.fixture
def script(tmp_path):
    """The line twice, as if it stood in two folders; how many finders are ours then, and what is imported."""
    file = tmp_path / "script.py"
    file.write_text(f"{commands.LINE}{commands.LINE}{SHOW}")
    return str(file)


@pytest.mark.parametrize("words", [["-m", "openrlhf.cli.train_ppo_ray"], ["openrlhf/cli/train_ppo_ray.py"]])
def test_the_line_binds_where_openrlhf_s_command_starts(script, words):
    done = python(script, *words)
    assert done.stdout.splitlines()[0] == "1", done.stderr


def test_the_line_imports_nothing_in_other_processes(script):
    done = python(script, "--algo.advantage.estimator", "ep_grpo")
    assert done.stdout == "0\nset()\n", done.stderr


def test_the_line_does_nothing_where_the_package_is_gone(script):
    done = python("-I", "-S", script, "-m", "openrlhf.cli.train_ppo_ray")  # no site-packages
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\nset()\n", "")


@pytest.mark.skipif("__import__('importlib.util').util.find_spec('openrlhf')", reason="OpenRLHF is installed")
def test_the_launcher_and_the_doctor_say_that_openrlhf_is_not_installed():
    assert "OpenRLHF is not installed" in python("-m", "advantage_zoo_openrlhf", "train_ppo_ray").stderr
    from advantage_zoo_openrlhf.doctor import examine

    assert [(finding.ok, finding.detail) for finding in examine()] == [(True, "not installed")]


def test_the_launcher_names_its_one_command():
    done = python("-m", "advantage_zoo_openrlhf", "train_sft")
    assert done.returncode == 1
    assert "usage: python -m advantage_zoo_openrlhf train_ppo_ray [OpenRLHF's flags]; got ['train_sft']." in done.stderr
