"""What is wrong with one of many files, or one of many rows, is found and named."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from large import LITTLE, _written, compared, cut, far_apart, numbers, with_steps
from made_rollouts import rollout_file

from advantage_zoo.rollouts import RolloutFileError


def test_a_truncated_shard_among_many_is_named_and_the_rest_counted(shipped, tmp_path):
    paths = cut(shipped, tmp_path, [200, 400, 600], 100)
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    done, notes = compared([tmp_path], estimators=["grpo"])
    assert done.totals.responses == 824
    assert any(
        "part_02.parquet is not a readable Parquet file" in note and "the other 3 files hold 824 rows" in note
        for note in notes
    )
    for path in paths[:2]:
        path.write_bytes(b"PAR1")
    with pytest.raises(RolloutFileError, match=r"part_00.parquet is not a readable .*; so are 3 of 4 files"):
        compared([tmp_path])


@pytest.mark.parametrize("memory", [4.0, LITTLE])
@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("entropies", np.nan, "entropies, row 203, token 1, is nan; expected a finite number of nats"),
        ("entropies", -0.5, "entropies, row 203, token 1, is -0.5; expected at least 0 nats"),
        ("logprobs", 0.5, "logprobs, row 203, token 1, is 0.5; expected at most 0 nats"),
    ],
)
def test_a_value_that_cannot_be_is_found_wherever_it_is(shipped, tmp_path, column, value, words, memory):
    rows = shipped[column].to_pylist()
    rows[503][1] = value
    spoiled = shipped.set_column(shipped.schema.get_field_index(column), column, pa.array(rows, pa.list_(pa.float32())))
    cut(spoiled, tmp_path, [300, 700], 90)
    with pytest.raises(RolloutFileError, match=words) as failed:
        compared([tmp_path], estimators=["grpo"], memory=memory)
    assert "part_01.parquet" in str(failed.value)


@pytest.mark.parametrize("memory", [4.0, LITTLE])
def test_rewards_lengths_steps_and_nulls_are_looked_at(shipped, tmp_path, memory):
    def spoiled(column, row, value):
        rows = shipped[column].to_pylist()
        rows[row] = value
        f = shipped.schema.field(column)
        return shipped.set_column(shipped.schema.get_field_index(column), column, pa.array(rows, f.type))

    for column, row, value, words in [
        ("reward", 7, float("inf"), "rewards, row 7, is inf"),
        ("reward", 7, None, "column 'reward', row 7, is null"),
        ("entropies", 9, [1.0], r"entropies, row 9, has 1 entries; expected \d+, one a token"),
        ("entropies", 9, [None, 1.0], "column 'entropies', row 9, entry 0, is null"),
        ("step_correct", 11, [], r"step_index, row 11, token 0, is 0; expected -1 to -1"),
    ]:
        whole = _written(shipped, tmp_path / "whole.parquet")
        path = _written(spoiled(column, row, value), tmp_path / "spoiled.parquet")
        with pytest.raises(RolloutFileError, match=words) as failed:
            compared([whole, path], estimators=["grpo,ep_grpo"], memory=memory)
        assert "spoiled.parquet" in str(failed.value)


@pytest.mark.parametrize("memory", [4.0, LITTLE])
def test_a_file_without_rows_is_left_out_and_said(shipped, tmp_path, memory):
    """A trainer writes one for a step in which every response is padding. Its groups are named anew at each step."""
    stepped = with_steps(shipped, np.arange(len(shipped)) // 512)
    shift = pa.array(2**60 + np.asarray(shipped["group"]) % 16)
    ours = stepped.set_column(stepped.schema.get_field_index("group"), "group", shift)
    paths = cut(ours, tmp_path, [300], 100)
    expected, _ = compared(paths, estimators=["grpo"])
    assert expected.totals.groups == 32
    empty = _written(ours.slice(0, 0).drop_columns(["entropies"]), tmp_path / "part_00_b.parquet")
    with pq.ParquetWriter(paths[1], ours.schema) as writer:  # a row group without rows, too
        for rows in (ours.slice(0, 0), ours.slice(300)):
            writer.write_table(rows)
    found, notes = compared([tmp_path], estimators=["grpo"], memory=memory)
    assert far_apart(numbers(expected), numbers(found)) == []
    assert f"{empty} holds no rows; it is left out, the other 2 files hold {len(shipped)} rows." in notes


@pytest.mark.parametrize("memory", [4.0, 0.006])
@pytest.mark.parametrize("order", [1, -1])
def test_the_step_may_be_a_column_of_some_files_and_in_the_metadata_of_others(shipped, tmp_path, memory, order):
    stepped = with_steps(shipped, np.arange(len(shipped)) // 256)
    group = pa.array(np.asarray(shipped["group"]) % 32)  # numbered from 0 at each step
    stepped = stepped.set_column(stepped.schema.get_field_index("group"), "group", group)
    whole, _ = compared([_written(stepped, tmp_path / "whole.parquet")], estimators=["lite_ppo"])
    last = stepped.slice(768).drop_columns(["step"]).replace_schema_metadata({b"advantage_zoo": b'{"step": 3}'})
    paths = [_written(table, tmp_path / f"{len(table)}.parquet") for table in (stepped.slice(0, 768), last)][::order]
    found, _ = compared(paths, estimators=["lite_ppo"], memory=memory)
    assert found.totals.groups == 128
    assert far_apart(numbers(whole), numbers(found)) == []


def test_a_signal_that_some_files_lack_is_left_out_and_said(shipped, tmp_path):
    first, second = cut(shipped, tmp_path, [512], 100)
    pq.write_table(pq.read_table(second).drop_columns(["entropies"]), second)
    for memory in (4.0, LITTLE):
        done, notes = compared([tmp_path], memory=memory)
        assert "ep_grpo" in done.left_out
        assert f"entropies is left out: 1 of 2 files have none, the first {second}." in notes
    assert first.exists()


def test_what_teaches_nothing_is_said(tmp_path):
    groups = [1, 2, 2, 3, 3, 3, 4, 4, 4]
    path = rollout_file(tmp_path / "f.parquet", groups=groups)
    _, notes = compared([path], estimators=["rloo"], memory=2.5e-5)
    assert any(note.startswith("1 of 4 groups have one response (group 1 is the first)") for note in notes)


def test_other_tables_come_one_at_a_time(tmp_path):
    path = rollout_file(tmp_path / "f.parquet")
    other = tmp_path / "f.jsonl"
    other.write_text('{"prompt": "p", "text": "t", "reward": 1}\n')
    with pytest.raises(ValueError, match="are not both rollout files"):
        compared([path, other])


def test_json_lines_that_do_not_fit_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"prompt": "p", "text": "t", "reward": 1}\n' * 1000)
    with pytest.raises(ValueError, match=r"has 4.2e-05 GB of text and would take about 0.0017; give --memory"):
        compared([path], memory=0.0005)
    assert compared([path], memory=0.002, estimators=["grpo"])[0].totals.responses == 1000


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_tables_that_hold_a_repeated_text_once_are_refused_by_what_they_hold(tmp_path, kind):
    rows = 1000
    texts = pa.array([" ".join(["word"] * 100)] * rows).cast(kind)
    table = {"prompt": ["p"] * rows, "text": texts, "reward": [1.0] * rows}
    path = _written(pa.table(table), tmp_path / "f.parquet")
    assert path.stat().st_size * 60 < texts.cast(pa.string()).nbytes
    for memory in (0.001, 0.0204):  # of the first rows; and of all
        with pytest.raises(ValueError, match=r"has 0.00052 GB of text and would take about 0.021; give --memory"):
            compared([path], memory=memory)
    assert compared([path], memory=0.021, estimators=["grpo"])[0].totals.responses == rows


def test_the_size_of_a_table_is_not_what_fails_on_a_broken_one(tmp_path):
    path = tmp_path / "f.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(RolloutFileError, match="is not a readable Parquet file"):
        compared([path], columns=["text=answer"])


def test_ray_is_said_to_have_no_work_with_other_tables(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"prompt": "p", "text": "t", "reward": 1}\n' * 2)
    _, notes = compared([path], estimators=["grpo"], engine="ray")
    assert any(
        note.startswith("--engine ray is not used, this process does the work: these are no rollout files")
        for note in notes
    )
    _, notes = compared([path], estimators=["grpo"])
    assert not any("ray" in note for note in notes)


def test_a_file_that_is_named_twice_counts_once_or_not_at_all(tmp_path):
    path = rollout_file(tmp_path / "f.parquet")
    with pytest.raises(
        ValueError, match=r"f.parquet is named twice, and its responses would count twice; name it once"
    ):
        compared([path, tmp_path])
