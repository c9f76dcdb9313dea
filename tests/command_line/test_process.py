"""The installed command as a process: its status, and that nobody gets a traceback."""

import re
import subprocess
import sys

import pytest
from command_line.calls import COMMAND, installed


def test_the_installed_command_runs_and_fails_without_a_traceback(file):
    status, out, err = installed("compare", str(file), "-e", "grpo,ep_grpo")
    assert (status, err) == (0, "")
    assert "Polarity" in out
    status, out, err = installed("compare", str(file) + ".gone")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"Error: .* there is no such file\.\n", err)


@pytest.mark.parametrize("words", [["compare", "-e", "grpo"], ["compare", "-e", "grpo", "--json"], ["list"]])
def test_a_reader_that_goes_away_gets_no_traceback(words):
    process = subprocess.Popen([COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=60)


def test_a_terminal_that_is_not_utf8_gets_no_traceback(file):
    status, out, err = installed("compare", str(file), "-e", "grpo,ep_grpo", PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert "Polarity" in out


@pytest.mark.parametrize(
    ("absent", "words"),
    [("pyarrow", ["compare"]), ("rich", ["list"]), ("rich", ["compare", "-e", "grpo"]), ("click", ["list"])],
)
def test_without_the_extra_it_says_what_to_install(absent, words):
    hidden = f"import sys; sys.modules[{absent!r}] = None; sys.argv[1:] = {words!r}"
    code = f"{hidden}\nfrom advantage_zoo.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert 'pip install "advantage-zoo[cli]"' in done.stderr
    assert done.stderr.count("\n") == 1
