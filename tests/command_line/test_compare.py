"""`compare` as a user has it: what it prints, and what it says when something is wrong."""

import json
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line.calls import UNFED, installed, left_out, refused, run
from made_rollouts import made_rollouts, rollout_file

import advantage_zoo as az


def test_compare_prints_every_table_and_one_note_on_stderr(file):
    result = run("compare", file)
    assert result.exit_code == 0, result.output
    assert left_out(result) == UNFED
    for words in ("Signal", "Polarity", "Agreement", "Diagnostics", "length", "token by token"):
        assert words in result.stdout
    for name in {*az.names()} - UNFED:
        assert name in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "\x1b" not in result.stdout


def test_compare_without_a_file_takes_the_shipped_one():
    status, out, err = installed("compare", "--json", "-e", "grpo,ep_grpo")
    assert (status, err) == (0, "")
    assert json.loads(out)["rollouts"]["responses"] > 100


def test_json_alone_on_stdout(file):
    result = run("compare", file, "--json", "-e", "grpo,ep_grpo")
    out = json.loads(result.stdout, parse_constant=lambda word: pytest.fail(word))
    assert set(out) == {"file", "rollouts", "threshold", "estimators", "left_out", "agreement"}
    assert [entry["name"] for entry in out["estimators"]] == ["grpo", "ep_grpo"]
    assert out["estimators"][0]["metrics"]["groups_without_signal"] == {"count": 2, "total": 3, "share": 2 / 3}


def test_json_of_metadata_with_numbers_that_json_has_not(tmp_path):
    path = rollout_file(tmp_path / "nan.parquet", metadata={"loss": float("nan"), "all": [float("inf"), 1]})
    out = json.loads(run("compare", path, "--json").stdout, parse_constant=lambda word: pytest.fail(word))
    assert out["rollouts"]["metadata"] == {"loss": None, "all": [None, 1]}


def test_estimators_are_comma_separated_and_repeatable(file):
    out = json.loads(run("compare", file, "--json", "-e", "grpo, dapo", "--estimators", "ep_grpo,grpo").stdout)
    assert [entry["name"] for entry in out["estimators"]] == ["grpo", "dapo", "ep_grpo"]


def test_set_changes_parameters_and_numbers(file):
    plain = json.loads(run("compare", file, "--json").stdout)
    result = run("compare", file, "--json", "--set", "ep_grpo.num_buckets=2", "--set", "ep_grpo.gate_progress=false")
    tuned = json.loads(result.stdout)
    before, after = ({e["name"]: e for e in out["estimators"]} for out in (plain, tuned))
    assert after["ep_grpo"]["parameters"]["num_buckets"] == 2
    assert after["ep_grpo"]["parameters"]["gate_progress"] is False
    assert after["ep_grpo"]["metrics"] != before["ep_grpo"]["metrics"]
    assert after["grpo"] == before["grpo"]


def test_threshold_decides_what_failed(file):
    low, high = (
        json.loads(run("compare", file, "--json", "-e", "grpo", "--threshold", t).stdout)["estimators"][0]["metrics"]
        for t in ("0.5", "1")
    )
    assert low["right_steps_punished"]["total"] == 5
    assert high["right_steps_punished"]["total"] == 13  # every step that is right


def test_a_file_without_signals_still_feeds_those_that_need_none(tmp_path):
    path = rollout_file(tmp_path / "bare.parquet", logprobs=None, ref_logprobs=None, entropies=None)
    result = run("compare", path)
    assert result.exit_code == 0, result.output
    assert {"ep_grpo", "erpo", "prime", *UNFED} <= left_out(result)
    assert (
        "ep_grpo, erpo (needs entropies, logprobs and ref_logprobs, which these rollouts do not have)" in result.stderr
    )
    assert "dr_grpo" in result.stdout


@pytest.mark.parametrize("column", ["logprobs", "ref_logprobs", "entropies"])
def test_a_missing_input_is_named_with_the_estimator(tmp_path, column):
    path = rollout_file(tmp_path / "f.parquet", **{column: None})
    line = refused("compare", path, "--estimators", "ep_grpo")
    assert f"f.parquet has no {column}, which ep_grpo needs" in line
    assert "--estimators grpo runs without" in refused("compare", path, "-e", "grpo,ep_grpo")


def without(column):
    return lambda table: table.drop_columns([column])


def with_column(name, values):
    return lambda table: table.set_column(table.schema.get_field_index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        *[(without(c), c) for c in ("prompt", "text", "tokens", "token_ids", "reward", "group")],
        (with_column("reward", ["good"] * 9), "reward"),
        (with_column("reward", [None] + [1.0] * 8), "reward"),
        (with_column("reward", [float("nan")] + [1.0] * 8), "reward.*0.* nan"),
        (with_column("reward", [1.0] * 8 + [float("inf")]), "reward.*8.* inf"),
        (with_column("entropies", [[1.0]] * 9), "entropies, row 0, has 1 entries; expected 4"),
        (with_column("step_index", [[9] * n for n in (4, 5, 6, 4, 7, 6, 5, 9, 4)]), "step_index, row 0.* 9"),
        (without("step_index"), "step_index and step_correct belong together"),
        (lambda table: table.slice(0, 0), "holds no rows"),
    ],
)
def test_bad_columns_are_named(tmp_path, file, spoil, words):
    path = tmp_path / "spoiled.parquet"
    pq.write_table(spoil(pq.read_table(file)), path)
    assert re.search(words, refused("compare", path))


@pytest.mark.parametrize("name", ["logprobs", "ref_logprobs", "entropies"])
def test_a_signal_that_is_not_finite_is_named(tmp_path, file, name):
    signals = list(getattr(made_rollouts(), name))
    signals[3] = np.where(np.arange(4) == 2, np.nan, signals[3]).astype(np.float32)
    path = tmp_path / "nan.parquet"
    pq.write_table(with_column(name, signals)(pq.read_table(file)), path)
    assert re.search(rf"\b{name}\b.*3.*2.* nan", refused("compare", path))


def test_bad_files_are_named(tmp_path, file):
    (tmp_path / "text.parquet").write_text("not parquet")
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "half.parquet").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for name, words in [
        ("none.parquet", "no such file"),
        (".", "is "),
        ("text.parquet", "not a readable Parquet file"),
        ("empty.parquet", "not a readable Parquet file"),
        ("half.parquet", "not a readable Parquet file"),
    ]:
        line = refused("compare", tmp_path / name)
        assert words in line
        assert str(tmp_path) in line


def test_unknown_estimators_are_answered_with_the_nearest(file):
    line = refused("compare", file, "-e", "grpo,ep_gro")
    assert "'ep_gro'" in line
    assert "did you mean 'ep_grpo'" in line
    assert "names none" in refused("compare", file, "-e", " , ")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("ep_grpo.num_bucket=5", "did you mean 'num_buckets'"),
        ("ep_grpo.num_buckets=five", "ep_grpo.num_buckets is 'five'"),
        ("ep_grpo.num_buckets=0", "expected at least 1"),
        ("dapo.eps=1", "'dapo' is not compared"),
        ("num_buckets=5", "expected NAME.PARAM=VALUE"),
    ],
)
def test_bad_settings_are_refused(file, setting, words):
    line = refused("compare", file, "-e", "grpo,ep_grpo", "--set", setting)
    assert words in line
    assert setting in line


def test_a_report_that_cannot_be_written_is_refused_before_the_work(file, tmp_path, monkeypatch):
    assert "no folder" in refused("compare", file, "--report", tmp_path / "gone" / "out.html")
    assert "is a folder" in refused("compare", file, "--report", tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write anywhere
    line = refused("compare", file, "--report", tmp_path / "out.html")
    assert line == f"Error: --report {tmp_path / 'out.html'} can't be written (Permission denied); name another file."
    assert "--threshold is nan" in refused("compare", file, "--threshold", "nan")


def test_a_report_that_proves_impossible_is_named(file, tmp_path):
    """After the tables, which are there."""
    path = tmp_path / "out.html"
    path.symlink_to(tmp_path / "gone" / "out.html")
    result = run("compare", file, "-e", "grpo", "--report", path)
    assert result.exit_code == 2
    said = f"Error: The report {path} can't be written (No such file or directory); name another file.\n"
    assert result.stderr == said


def test_an_address_of_ray_without_ray_is_refused(file):
    line = refused("compare", file, "--ray-address", "10.0.0.1:6379")
    assert line == "Error: --ray-address 10.0.0.1:6379 is of no use without --engine ray."


def test_a_group_of_one_is_a_note_and_goes_on(tmp_path):
    path = rollout_file(tmp_path / "f.parquet", groups=[1, 2, 2, 3, 3, 3, 4, 4, 4])
    result = run("compare", path, "--json", "-e", "grpo,ep_grpo")
    assert result.exit_code == 0
    assert result.stderr.startswith("Note: 1 of 4 groups have one response")
    assert result.stderr.count("\n") == 1
    json.loads(result.stdout)
    assert re.search(
        "grpo failed on these rollouts.*singleton='raise'",
        refused("compare", path, "-e", "grpo", "--set", "grpo.singleton=raise"),
    )


def test_tool_output_in_a_response_counts_for_nothing(tmp_path):
    mask = [[True] * (len(row) - 1) + [False] for row in made_rollouts().tokens]
    out = json.loads(run("compare", rollout_file(tmp_path / "f.parquet", response_mask=mask), "--json").stdout)
    assert out["estimators"][0]["metrics"]["tokens_without_signal"]["total"] == 50 - 9


def test_the_defects_come_with_the_presets():
    result = run("compare", "defects", "--json")
    assert result.exit_code == 0, result.output
    out = {entry["name"]: entry["metrics"] for entry in json.loads(result.stdout)["estimators"]}
    wide = "grpo@openrlhf(clip_range=[-1000, 1000])"
    assert out["grpo"]["largest_equal"] == out["grpo"]["largest_alone"] == 0
    assert out["grpo@verl"]["largest_alone"] == pytest.approx(0.3)
    assert out[wide]["largest_equal"] == pytest.approx(119.2, abs=0.1)
    few = json.loads(run("compare", "defects", "--json", "-e", "rloo").stdout)
    assert [entry["name"] for entry in few["estimators"]] == ["rloo"]
