"""The command as a user has it: what it prints, and what it says when something is wrong."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_rollouts import made_rollouts, rollout_file

import advantage_zoo as az
from advantage_zoo import registry
from advantage_zoo.cli import main

COMMAND = Path(sys.executable).parent / "advantage-zoo"


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def file(tmp_path):
    return rollout_file(tmp_path / "made.parquet")


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


UNFED = {"gae", "gdpo", "otb", "remax"}
"""Estimators that need what no rollout file holds."""


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


# --- help and list


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


# --- compare


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


def test_a_report_that_cannot_be_written_is_refused_before_the_work(file, tmp_path):
    assert "no folder" in refused("compare", file, "--report", tmp_path / "gone" / "out.html")
    assert "is a folder" in refused("compare", file, "--report", tmp_path)
    assert "--threshold is nan" in refused("compare", file, "--threshold", "nan")


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


# --- plugins


@dataclass(frozen=True)
class Faulty(az.Estimator):
    name: ClassVar[str] = "faulty"

    def compute(self, batch):
        raise RuntimeError("out of order\nin two lines")


@dataclass(frozen=True)
class Critic(az.Estimator):
    name: ClassVar[str] = "critic"
    needs: ClassVar[frozenset[str]] = frozenset({"values"})

    def compute(self, batch):
        return az.Advantages(batch.values)


@dataclass(frozen=True)
class Loud(az.Estimator):
    """Its name is a built-in's, and NumPy warns while it computes."""

    name: ClassVar[str] = "grpo"
    weight: float = az.param(2.0, doc="Of the reward.")

    def compute(self, batch):
        np.log(np.zeros(1))
        return az.Advantages(batch.to_tokens(batch.rewards) * self.weight)


@pytest.fixture
def plugin(monkeypatch):
    """Registers classes as the plugin `acme`."""

    def install(*classes):
        @az.hookimpl
        def advantage_zoo_register_estimators(register):
            for cls in classes:
                register(cls)

        module = ModuleType("acme")
        module.advantage_zoo_register_estimators = advantage_zoo_register_estimators
        monkeypatch.setattr(EntryPoint, "load", lambda _: module)
        points = [EntryPoint("acme", "acme", registry.PROJECT)]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: points)
        monkeypatch.setattr(registry, "_loaded", {})
        monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "acme")

    return install


def test_an_estimator_that_raises_is_named(plugin, file):
    plugin(Faulty)
    line = refused("compare", file)
    assert "faulty failed on these rollouts (RuntimeError: out of order in two lines)" in line
    assert run("compare", file, "-e", "grpo").exit_code == 0


def test_an_estimator_that_no_file_can_feed_is_left_out_or_refused_by_name(plugin, file):
    plugin(Critic)
    result = run("compare", file)
    assert result.exit_code == 0
    assert left_out(result) == {"critic", *UNFED}
    assert "critic" not in result.stdout
    assert "has no values, which critic needs" in refused("compare", file, "-e", "grpo,critic")


def test_qualified_names_work_everywhere(plugin, file, tmp_path):
    plugin(Loud)
    assert "acme:grpo" in run("list").output
    report = tmp_path / "out.html"
    result = run(
        *("compare", file, "-e", "grpo,acme:grpo", "--set", "acme:grpo.weight=3", "--set", "grpo.eps=1"),
        *("--json", "--report", report),
    )
    assert result.exit_code == 0, result.output
    out = json.loads(result.stdout)
    assert out["estimators"][1]["parameters"] == {"weight": 3.0}
    assert out["estimators"][0]["parameters"]["eps"] == 1.0
    assert "acme:grpo" in report.read_text(encoding="utf-8")
    assert "Note: divide by zero encountered in log\n" in result.stderr  # without the place in the code
    assert f"Wrote {report}" in result.stderr


def test_plugin_problems_are_shown_by_list(plugin, file):
    plugin(Loud)
    result = run("list")
    assert result.exit_code == 0
    assert "acme:grpo" in result.stderr
    assert "cannot be shadowed" in result.stderr


# --- check


MINE = """
from dataclasses import dataclass
from typing import ClassVar
from advantage_zoo import Advantages, Estimator

@dataclass(frozen=True)
class Mine(Estimator):
    name: ClassVar[str] = "mine"
    claims: ClassVar[frozenset[str]] = frozenset({"SHIFT", "SCALE_EQUIVARIANT"})

    def compute(self, batch):
        return Advantages(batch.to_tokens(batch.rewards))

NOT_ONE = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_of_the_test.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "mine_of_the_test:Mine"


def test_check_names_the_law_the_batch_and_the_source(mine):
    result = run("check", mine, "--backends", "numpy", "--law", "SHIFT", "--law", "SCALE_EQUIVARIANT")
    assert result.exit_code == 1
    assert re.search(r"SHIFT +broken", result.stdout)
    assert re.search(r"SCALE_EQUIVARIANT +holds", result.stdout)
    for words in ("Smallest batch: rewards=", "(seed ", "Source: ", "1 of 2 checks are broken."):
        assert words in result.stdout
    out = json.loads(run("check", "mine_of_the_test.py:Mine", "-b", "numpy", "--law", "SHIFT", "--json").stdout)
    assert out["holds"] is False
    assert [row["law"] for row in out["laws"]] == ["SHIFT"]


def test_check_of_what_holds(mine):
    result = run("check", "grpo | clip(-1, 1)", "-b", "numpy,readonly", "--law", "MASKED_ZERO", "--law", "PURE")
    assert result.exit_code == 0, result.output
    assert "All 4 checks hold." in result.stdout
    assert run("check", mine, "-b", "numpy", "--law", "KIND").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.to_be:Found"], "No module is called 'nowhere'"),
        (["gone.py:Mine"], "There is no file gone.py"),
        (["mine_of_the_test:Mein"], "a subclass of advantage_zoo.Estimator; mine_of_the_test has no such name"),
        (["mine_of_the_test:NOT_ONE"], "mine_of_the_test has something else there"),
        (["gpro"], "No estimator is called 'gpro' (did you mean 'grpo'?)"),
        (["grpo", "-b", "nunpy"], "No backend is called 'nunpy'"),
        (["grpo", "--law", "SHFIT"], "No invariant is called SHFIT"),
        (["reinforce", "--law", "SHIFT"], "reinforce does not claim SHIFT"),
    ],
)
def test_check_says_what_is_wrong(mine, words, message):
    assert message in refused("check", *words)


# --- from outside


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


# --- collect


@pytest.fixture
def adapter(monkeypatch):
    """Stands for advantage_zoo_transformers; its `result` is what collecting gives, or raises."""
    asked = SimpleNamespace(result=made_rollouts(), options=None)

    def collect_from_disk(**options):
        asked.options = options
        if isinstance(asked.result, Exception):
            raise asked.result
        return asked.result

    monkeypatch.setitem(sys.modules, "advantage_zoo_transformers", SimpleNamespace(collect_from_disk=collect_from_disk))
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
    monkeypatch.setitem(sys.modules, "advantage_zoo_transformers", None)
    assert "[cli,transformers]" in refused(*WORDS)


# --- compare --show


def test_show_prints_every_response_of_the_group_and_no_table(file):
    result = run("compare", file, "--show", "5", "-e", "grpo,ep_grpo")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "Group 5: 3 responses to 'prompt 0'"
    heads = [line for line in lines if line.startswith("row ")]
    assert heads[0] == "row 0, successful, reward 1, 4 tokens"
    assert [line.split(",")[0] for line in heads] == ["row 0", "row 1", "row 2"]
    assert "tokens   ⏎t1t2t3" in lines
    assert "steps    rr" in result.stdout
    signs = [line.split()[1] for line in lines if line.startswith("grpo ")]
    assert signs == ["#" * 7, "=" * 9, "=" * 11]
    assert "Signal" not in result.stdout
    assert "\x1b" not in result.stdout


def test_show_colours_the_tokens_where_there_are_colours(file):
    _, out, _ = installed("compare", file, "--show", "5", "-e", "grpo", FORCE_COLOR="1", COLORTERM="truecolor")
    lanes = [line for line in out.splitlines() if line.startswith("grpo ")]
    assert len(lanes) == 3
    for lane, colour in zip(lanes, ("48;2;33;102;172", "48;2;179;88;6", "48;2;179;88;6"), strict=True):
        assert colour in lane
        assert re.sub(r"\x1b\[[\d;]*m", "", lane).split()[1].startswith("⏎t1t2")


def test_show_marks_tool_output(tmp_path):
    mask = [[True] * (len(row) - 1) + [False] for row in made_rollouts().tokens]
    path = rollout_file(tmp_path / "tool.parquet", response_mask=mask)
    out = run("compare", path, "--show", "5", "-e", "grpo").stdout
    assert "#####~~" in out


def test_show_of_a_group_that_is_not_there_names_some_that_are(file):
    assert "has no such group; it has 3, such as 5, 2, 9" in refused("compare", file, "--show", "0")
    assert "choose one" in refused("compare", file, "--show", "5", "--json")
