"""The command line, called in this process or as it is installed, and what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from advantage_zoo.cli import main

COMMAND = Path(sys.executable).parent / "advantage-zoo"
UNFED = {"gae", "gdpo", "otb", "remax"}
"""Estimators that need what no rollout file holds."""


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def left_out(result):
    """The estimators that the note on standard error names; a second one tells what computes what is missing."""
    line, *computes = result.stderr.splitlines()
    assert all(note.startswith("Note: advantage-zoo score ") for note in computes)
    assert line.startswith("Note: left out: ")
    return set(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", line.partition("out: ")[2])))


def refused(*words):
    """The sentence that a wrong command gets: one line, status 2, nothing on standard output."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("Note: ")]
    assert line.startswith("Error: ")
    return line


def installed(*words, **env):
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, env={**os.environ, **env}, timeout=120)
    return done.returncode, done.stdout, done.stderr
