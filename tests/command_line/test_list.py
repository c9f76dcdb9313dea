"""`--help`, `--version` and `list`: what there is, and how it is called."""

import json
import re

import pytest
from command_line.calls import run

import advantage_zoo as az


@pytest.mark.parametrize("words", [(), ("list",), ("check",), ("compare",), ("collect",)])
def test_help_teaches_by_example(words):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "\\b" not in result.output
    assert "Usage: " in result.output
    if words != ("list",):
        assert re.search(r"^  advantage-zoo \w+", result.output, re.MULTILINE)  # examples keep their lines


def test_version():
    assert az.__version__ in run("--version").output


def test_list_shows_every_estimator():
    result = run("list")
    assert result.exit_code == 0
    for name in (*az.names(), *az.presets(), *az.transforms.TRANSFORMS):
        assert re.search(rf"^ *{name} ", result.output, re.MULTILINE)
    assert "2605.04960" in result.output
    assert "…" not in result.output


def test_list_as_json():
    out = json.loads(run("list", "--json").stdout)
    listed = {entry["name"]: entry for entry in out["estimators"]}
    assert tuple(listed) == az.names()
    assert listed["ep_grpo"]["needs"] == ["entropies", "logprobs", "ref_logprobs"]
    assert listed["ep_grpo"]["parameters"]["num_buckets"]["default"] == 10
    assert listed["ep_grpo"]["paper"]["arxiv"] == "2605.04960"
    assert set(listed["grpo"]) == {"name", "plugin", "needs", "uses", "paper", "claims", "parameters"}
    presets = {entry["name"]: entry for entry in out["presets"]}
    assert tuple(presets) == az.presets()
    assert presets["grpo@verl"]["framework"] == "verl 0.9.1"
    assert {entry["name"]: entry["stands"] for entry in out["transforms"]} == {
        "clip": "after the estimator",
        "length_cap": "after the estimator",
        "mix": "as the estimator",
        "overlong": "before the estimator",
        "top_entropy": "after the estimator",
        "whiten": "after the estimator",
    }
    assert out["problems"] == {}
