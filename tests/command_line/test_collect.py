"""`collect`: what it hands to the adapter, and what it says."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line.calls import refused, run
from made_rollouts import made_rollouts

DISK = "advantage_zoo_transformers.disk"


@pytest.fixture
def adapter(monkeypatch):
    """Stands for what collects; its `result` is what collecting gives, or raises."""
    asked = SimpleNamespace(result=made_rollouts(), options=None)

    def collect_from_disk(**options):
        asked.options = options
        if isinstance(asked.result, Exception):
            raise asked.result
        return asked.result

    monkeypatch.setitem(sys.modules, DISK, SimpleNamespace(collect_from_disk=collect_from_disk))
    return asked


WORDS = ("collect", "--model", "m", "--prompts", "p.txt", "--reward", "task.py:judge", "--out", "out.parquet")


def test_collect_hands_its_options_over_and_says_what_is_next(adapter):
    result = run(*WORDS, "--ref-model", "base", "--group-size", "4", "--top-p", "0.9", "--seed", "7")
    assert result.exit_code == 0, result.output
    assert adapter.options == {
        "model": "m",
        "ref_model": "base",
        "prompts": Path("p.txt"),
        "reward": "task.py:judge",
        "out": Path("out.parquet"),
        "group_size": 4,
        "max_new_tokens": 256,
        "temperature": 1.0,
        "top_p": 0.9,
        "seed": 7,
        "batch_size": 64,
    }
    assert "9 responses to 3 prompts" in result.stdout
    assert "advantage-zoo compare out.parquet" in result.stdout


@pytest.mark.parametrize("error", [ValueError, OSError, ImportError])
def test_collect_says_what_is_wrong_in_one_sentence(adapter, error):
    adapter.result = error("task.py has no function\n'judge'")
    assert refused(*WORDS) == "Error: task.py has no function 'judge'"


def test_collect_without_its_extra_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, DISK, None)
    assert "[cli,transformers]" in refused(*WORDS)
