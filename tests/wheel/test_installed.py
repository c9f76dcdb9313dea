"""The wheel as a user has it: no checkout, no torch, no JAX, and three third-party packages installed as wheels."""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import advantage_zoo as az

SCRIPTS = Path(sys.executable).parent


def command(*words, plugins=None):
    """The installed command's exit status, output and errors."""
    env = {k: v for k, v in os.environ.items() if k != "ADVANTAGE_ZOO_PLUGINS"}
    if plugins is not None:
        env["ADVANTAGE_ZOO_PLUGINS"] = plugins
    done = subprocess.run([SCRIPTS / "advantage-zoo", *words], env=env, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def batch():
    return az.RolloutBatch(
        rewards=np.array([1.0, 0.0, 0.0, 0.0]),
        response_mask=np.ones((4, 2), dtype=bool),
        group_ids=np.zeros(4, dtype=int),
        num_groups=1,
        logprobs=np.full((4, 2), -0.5),
    )


@pytest.fixture
def chosen(monkeypatch):
    return lambda setting: monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", setting)


def test_the_wheel_is_what_is_tested():
    assert "site-packages" in az.__file__
    for absent in ("torch", "jax", "transformers"):
        assert importlib.util.find_spec(absent) is None
    files = [str(f) for f in importlib.metadata.files("advantage-zoo")]
    tops = {f.split("/")[0] for f in files if not f.startswith("..")}
    assert tops == {
        "advantage_zoo",
        "advantage_zoo_openrlhf",
        "advantage_zoo_transformers",
        "advantage_zoo_trl",
        "advantage_zoo_verl",
        f"advantage_zoo-{az.__version__}.dist-info",
    }
    assert "advantage_zoo/rollouts/arithmetic.parquet" in files
    assert "advantage_zoo/py.typed" in files


def test_plugins_are_listed_and_compared(batch):
    status, out, err = command("list", "--json", plugins="acme")
    assert status == 0, err
    listed = {entry["name"]: entry for entry in json.loads(out)["estimators"]}
    assert {"grpo", "dr_grpo", "dapo", "ep_grpo", "centred_reward", "surprise"} <= set(listed)
    assert listed["surprise"]["plugin"] == "acme"
    status, out, err = command("compare", "--json", plugins="acme")
    assert status == 0, err
    assert {"centred_reward", "surprise", "ep_grpo"} <= {e["name"] for e in json.loads(out)["estimators"]}


def test_plugin_computes_by_name_with_parameters(batch, chosen):
    chosen("acme")
    assert {"centred_reward", "surprise"} <= set(az.names())
    advantages = az.compute_advantages(batch, "centred_reward", baseline=0.25)
    np.testing.assert_array_equal(advantages.values[:, 0], [0.75, -0.25, -0.25, -0.25])
    assert az.compute_advantages(batch, "acme:surprise").values[0, 0] == 0.5
    with pytest.raises(TypeError, match=r"centred_reward has no parameter 'base' \(did you mean 'baseline'\?\)"):
        az.compute_advantages(batch, "centred_reward", base=1.0)


def test_a_name_that_two_plugins_claim_raises_and_offers_both(batch, chosen):
    chosen("acme,rival")
    with pytest.raises(LookupError, match="type one of acme:surprise, rival:surprise"):
        az.compute_advantages(batch, "surprise")
    assert az.compute_advantages(batch, "rival:surprise").values[0, 0] == 7
    assert az.compute_advantages(batch, "acme:surprise").values[0, 0] == 0.5
    assert {"acme:surprise", "rival:surprise", "nine"} <= set(az.names())
    assert "surprise" not in az.names()


def test_a_builtin_cannot_be_shadowed(batch, chosen):
    chosen("rival")
    assert az.estimator("grpo") is az.estimators.GRPO
    assert az.compute_advantages(batch, "rival:grpo").values[0, 0] == 8
    assert {"grpo", "rival:grpo"} <= set(az.names())


def test_broken_plugins_are_remembered_and_named(batch, chosen):
    chosen("wreck,late_wreck,acme")
    assert az.compute_advantages(batch, "grpo").values.shape == (4, 2)  # the host lives
    assert "surprise" in az.names()  # and so do the others
    assert az.compute_advantages(batch, "salvaged").values[0, 0] == 1
    with pytest.raises(LookupError) as failed:
        az.estimator("wreckage")
    for words in ("Plugin wreck: ", "libwreck.so.7", "Plugin late_wreck: ", "Unfrozen is not decorated"):
        assert words in str(failed.value)


@pytest.mark.parametrize(
    ("setting", "there", "not_there"),
    [
        ("none", [], ["centred_reward", "nine"]),
        ("acme", ["centred_reward", "surprise"], ["nine"]),
        ("acme,rival", ["centred_reward", "nine"], []),
        ("-rival,-wreck,-late_wreck", ["centred_reward", "surprise"], ["nine"]),
        ("", ["centred_reward", "nine", "salvaged"], ["surprise"]),
    ],
)
def test_the_environment_switches_plugins(chosen, setting, there, not_there):
    chosen(setting)
    assert set(there) <= set(az.names())
    assert not set(not_there) & set(az.names())
    assert {"grpo", "dr_grpo", "dapo", "ep_grpo"} <= set(az.names())


def test_a_plugin_that_is_named_but_not_installed_is_reported(chosen):
    chosen("acmee")
    with pytest.raises(LookupError, match="Plugin acmee: ADVANTAGE_ZOO_PLUGINS names it"):
        az.estimator("surprise")


def test_the_main_job_runs_on_the_shipped_rollouts(tmp_path):
    report = tmp_path / "compare.html"
    status, out, err = command("compare", "--report", str(report), plugins="none")
    assert status == 0, err
    assert "Traceback" not in err
    for name in ("grpo", "dr_grpo", "dapo", "ep_grpo"):
        assert name in out
    assert "<html" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    [
        ("collect", "--model", "m", "--prompts", "p", "--reward", "r:f", "--out", "o"),
        ("score", "f", "--model", "m", "--out", "o"),
    ],
)
def test_what_needs_an_extra_says_so(words):
    status, _, err = command(*words)
    assert status == 2
    assert "transformers" in err
    assert "Traceback" not in err
