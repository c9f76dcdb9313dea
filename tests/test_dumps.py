"""Dumps of verl and TRL, and plain tables: what is read, and what is said."""

import os
import tracemalloc
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_dumps import lines, parquet, trl, verl
from made_rollouts import made_rollouts, rollout_file

from advantage_zoo.cli import main
from advantage_zoo.rollouts import RolloutFileError, read, read_rollouts
from advantage_zoo.rollouts.dumps import COLUMNS, WORDS
from advantage_zoo.rollouts.messages import words
from advantage_zoo.rollouts.rows import Rows, each_row


def test_a_dump_of_verl(tmp_path):
    rollouts, notes = read(lines(tmp_path / "1.jsonl", verl()))
    assert rollouts.prompts == ["p", "p", "q", "q"]
    assert rollouts.tokens == [["a", " b"], ["c"], ["d"], ["e", " f", " g"]]
    assert rollouts.rewards == [1.0, 0.0, 0.5, 1.0]
    assert rollouts.groups == [0, 0, 1, 1]
    assert (rollouts.logprobs, rollouts.entropies, rollouts.response_mask) == (None, None, None)
    assert notes == [WORDS]
    assert rollouts.metadata["format"] == "verl"


def test_a_folder_of_verl_is_read_in_the_order_of_its_steps(tmp_path):
    for step in (10, 2):
        lines(tmp_path / f"{step}.jsonl", verl(step, outputs=[f"s{step}"] * 4))
    (tmp_path / "notes.txt").write_text("not a dump")
    rollouts, _ = read(tmp_path)
    assert rollouts.texts == ["s2"] * 4 + ["s10"] * 4
    assert rollouts.groups == [0, 0, 1, 1, 2, 2, 3, 3]  # the same prompt at another step is another group


def test_the_keys_of_verl_v1_tell_the_groups(tmp_path):
    uids = ["u-1_0_0", "u-1_1_0", "u-2_0_0", "u-2_1_0"]
    rows = [row | {"input": "the same"} for row in verl(uid=uids)]
    assert read(lines(tmp_path / "1.jsonl", rows))[0].groups == [0, 0, 1, 1]
    others = verl(uid=["of another form"] * 4)
    assert read(lines(tmp_path / "2.jsonl", others))[0].groups == [0, 0, 1, 1]


def test_any_other_column_can_be_the_reward(tmp_path):
    path = lines(tmp_path / "1.jsonl", verl(acc=[1, 0, 0, 1], form=[True, False, True, True]))
    assert read(path, {"reward": "acc"})[0].rewards == [1, 0, 0, 1]
    assert read(path, {"reward": "acc + 0.5*form"})[0].rewards == [1.5, 0, 0.5, 1.5]
    with pytest.raises(RolloutFileError, match=r"no column 'ac' \(did you mean 'acc'\?\), of which reward would be"):
        read(path, {"reward": "ac"})
    with pytest.raises(RolloutFileError, match="'much' is no number"):
        read(path, {"reward": "much*acc"})


def test_a_log_of_trl(tmp_path):
    path = parquet(tmp_path / "c.parquet", trl({"right": [1.0, 0.0, 1.0, 1.0]}, [0.7, -0.7, 0.0, 0.0]))
    rollouts, notes = read(path)
    assert rollouts.rewards == [1, 0, 1, 1]
    assert rollouts.groups == [0, 0, 1, 1]
    assert rollouts.tokens[3] == ["e", " f", " g"]
    assert (notes, rollouts.metadata["format"]) == ([WORDS], "TRL")


def test_advantages_tell_which_columns_of_trl_are_rewards(tmp_path):
    rewards = {"right": [1.0, 0.0, 1.0, 1.0], "form": [0.0, 0.5, 1.0, 0.0]}
    total = np.add(*rewards.values()).reshape(2, 2)
    advantages = ((total - total.mean(1, keepdims=True)) / (total.std(1, ddof=1, keepdims=True) + 1e-4)).ravel()
    path = parquet(tmp_path / "c.parquet", trl(rewards, advantages, length=[2.0, 1.0, 1.0, 3.0]))
    rollouts, notes = read(path)
    assert rollouts.rewards == total.ravel().tolist()
    assert notes[0] == "The reward is right + form; --columns reward=... takes another."
    other = parquet(tmp_path / "d.parquet", trl(rewards, [0.7, -0.7, -0.7, 0.7]))
    with pytest.raises(RolloutFileError, match=r"No sum of right, form gives the log's advantages.*--columns 'reward="):
        read(other)
    assert read(other, {"reward": "right"})[0].rewards == [1, 0, 1, 1]


def test_what_trl_could_not_score_is_left_out_and_counted(tmp_path):
    path = parquet(tmp_path / "c.parquet", trl({"right": [1.0, float("nan"), 0.0, 1.0]}, [0.0, 0.0, -0.7, 0.7]))
    rollouts, notes = read(path)
    assert rollouts.rewards == [1, 0, 1]
    assert notes[0] == (
        "1 of 4 rows are left out, and their groups are compared without them; the first: c.parquet, row 1, has no "
        "finite number in right: nan."
    )


def test_conversations_of_trl(tmp_path):
    said = [
        [
            {"role": "assistant", "content": "let me see"},
            {"role": "tool", "content": "42 !"},
            {"role": "assistant", "content": " so 42"},
        ]
    ] * 4
    asked = [[{"role": "system", "content": "be kind"}, {"role": "user", "content": f"q{i // 2}"}] for i in range(4)]
    columns = trl({"right": [1.0, 0.0, 0.0, 1.0]}, [0.7, -0.7, -0.7, 0.7], completions=said) | {"prompt": asked}
    rollouts, _ = read(parquet(tmp_path / "c.parquet", columns))
    assert rollouts.prompts[0] == "system: be kind\nuser: q0"
    assert rollouts.groups == [0, 0, 1, 1]
    assert rollouts.texts[0] == "let me see42 ! so 42"
    assert rollouts.response_mask[0] == [True] * 3 + [False] * 2 + [True] * 2


def test_the_same_responses_logged_again_count_once(tmp_path):
    for step in (1, 2, 3):
        columns = trl({"right": [1.0, 0.0, 1.0, 1.0]}, [0.7, -0.7, 0.0, 0.0], step=step)
        if step == 3:
            columns["completion"] = ["other"] * 4
        parquet(tmp_path / f"completions_{step:05d}.parquet", columns)
    rollouts, notes = read(tmp_path)
    assert len(rollouts) == 8
    assert notes[0] == "completions_00002.parquet holds the same responses as the file before it and is left out."


def test_of_a_large_row_group_a_few_rows_are_held(tmp_path):
    path = tmp_path / "one.parquet"
    pq.write_table(pa.table({"prompt": [f"p{i}" * 50 for i in range(20_000)]}), path)
    assert pq.ParquetFile(path).num_row_groups == 1
    tracemalloc.start()
    try:
        count = sum(1 for _ in each_row(path, Rows()))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert most < 1_000_000  # of more than 10 MB


def test_trls_distillation_has_no_rewards(tmp_path):
    path = parquet(tmp_path / "c.parquet", {"step": [1], "prompt": ["p"], "completion": ["c"]})
    with pytest.raises(RolloutFileError, match="no rewards and no advantages"):
        read(path)


def rows_of(rollouts):
    """Rows of a table that holds all that rollouts do, under other names."""
    singular = {"prompt": "prompts", "text": "texts", "reward": "rewards", "group": "groups", "step": "steps"}
    found = []
    for row in range(len(rollouts)):
        values = {name: getattr(rollouts, singular.get(name, name)) for name in COLUMNS}
        one = {f"my_{k}": v[row] for k, v in values.items() if v is not None}
        found.append({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in one.items()})
    return found


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_map_reads_everything_that_our_own_files_hold(tmp_path, kind):
    plain = made_rollouts()
    made = made_rollouts(response_mask=[[True] * len(row) for row in plain.tokens], steps=[7] * len(plain))
    rows = rows_of(made)
    path = tmp_path / f"mine.{kind}"
    if kind == "jsonl":
        lines(path, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    rollouts, notes = read(path, {name: f"my_{name}" for name in COLUMNS})
    assert notes == []
    for name in ("prompts", "texts", "tokens", "rewards", "steps", "response_mask", "step_index", "step_correct"):
        assert getattr(rollouts, name) == getattr(made, name), name
    for name in ("logprobs", "ref_logprobs", "entropies"):
        for mine, theirs in zip(getattr(rollouts, name), getattr(made, name), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert rollouts.groups == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_groups_may_be_named_by_anything_and_are_the_prompts_otherwise(tmp_path):
    rows = [{"prompt": p, "text": "t", "reward": 1, "uid": u} for p, u in (("p", "x"), ("p", "y"), ("q", "x"))]
    path = lines(tmp_path / "f.jsonl", rows)
    assert read(path)[0].groups == [0, 0, 1]
    assert read(path, {"group": "uid"})[0].groups == [0, 1, 0]
    stepped = lines(tmp_path / "g.jsonl", [row | {"step": i} for i, row in enumerate(rows)])
    assert read(stepped, {"group": "uid"})[0].groups == [0, 1, 2]


@pytest.mark.parametrize("text", ["a  b\n c ", "答案是 42。好", "", "  ", "שלום עולם"])
def test_words_are_the_whole_text(text):
    assert "".join(words(text)) == text


def test_scripts_without_spaces_are_cut_into_characters():
    assert words("答案是 42x") == ["答", "案", "是", " 42x"]


def test_a_signal_that_only_some_rows_have_is_left_out_and_said(tmp_path):
    rows = [row | {"tokens": ["a"], "entropies": [0.5]} for row in verl()]
    del rows[2]["entropies"]
    rollouts, notes = read(lines(tmp_path / "1.jsonl", rows))
    assert rollouts.entropies is None
    assert "entropies is left out: 1 of 4 rows have none." in notes


def test_a_mask_without_signals(tmp_path):
    rows = [row | {"tokens": ["a", "b"], "response_mask": [True, False]} for row in verl()]
    assert read(lines(tmp_path / "1.jsonl", rows))[0].response_mask == [[True, False]] * 4


def test_our_own_files_are_read_as_before(tmp_path):
    path = rollout_file(tmp_path / "made.parquet")
    rollouts, notes = read(path)
    assert notes == []
    assert rollouts.groups == read_rollouts(path).groups


def test_a_dump_makes_a_report_that_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")
    folder = tmp_path / "rollout_data"
    folder.mkdir()
    for step in (1, 2):
        lines(folder / f"{step}.jsonl", verl(step, outputs=[f"s{step}"] * 4))
    report = tmp_path / "out.html"
    result = CliRunner().invoke(main, ["compare", str(folder), "--report", str(report)])
    assert result.exit_code == 0, result.output
    assert f"Note: {WORDS}" in result.stderr
    text = report.read_text()
    assert "needs entropies, logprobs and ref_logprobs, which these rollouts do not have" in text
    assert WORDS in text
    assert "SHA-256 of 1.jsonl" in text
    assert "SHA-256 of 2.jsonl" in text


# --- files that the frameworks wrote; tests/dumps/README.md tells how

DUMPS = Path(__file__).parent / "dumps"


def test_what_verl_wrote():
    rollouts, notes = read(DUMPS / "verl-0.9.1")
    assert len(rollouts) == 16
    assert rollouts.groups == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert rollouts.texts[1] == "4, no 3"
    assert rollouts.rewards[:4] == [1.0, 1.0, 0.0, 0.0]
    assert notes == [WORDS]


def test_what_trl_wrote():
    rollouts, notes = read(DUMPS / "trl-1.16.0")
    assert len(rollouts) == 16
    assert all(rollouts.groups.count(group) == 4 for group in rollouts.groups)
    assert len({reward % 1 for reward in rollouts.rewards}) > 3  # shares of digits, and 1 for a long response
    assert notes == ["The reward is digits + long; --columns reward=... takes another.", WORDS]


def test_the_step_of_a_rollout_file_s_metadata_is_that_of_its_rows_under_a_column_map(tmp_path):
    for step in (3, 4):
        rollout_file(tmp_path / f"{step}.parquet", metadata={"step": step})
    rollouts, _ = read(tmp_path, {"reward": "reward"})
    groups = len(set(read_rollouts(tmp_path / "3.parquet").groups))
    assert rollouts.steps == [3] * (len(rollouts) // 2) + [4] * (len(rollouts) // 2)
    assert len(set(rollouts.groups)) == 2 * groups


def test_a_reward_may_be_a_decimal(tmp_path):
    table = pa.table({"prompt": ["p", "p"], "text": ["a", "b"], "reward": pa.array([Decimal("0.25"), Decimal("1.50")])})
    pq.write_table(table, tmp_path / "mine.parquet")
    assert read(tmp_path / "mine.parquet", {"text": "text"})[0].rewards == [0.25, 1.5]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(RolloutFileError, match=r"rows.jsonl is neither a file nor a folder.*; save it first"):
        read(tmp_path / "rows.jsonl")
