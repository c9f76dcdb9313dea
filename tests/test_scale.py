"""Rollout files that memory does not hold: the same numbers, however the files are cut and whoever does the work."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from large import BATCHWISE, Deadly, compared, cut, far_apart, numbers, with_steps
from made_rollouts import made_rollouts, rollout_file

import advantage_zoo as az
from advantage_zoo.compare import ComparisonError, compare
from advantage_zoo.compare.engines import workers
from advantage_zoo.compare.landmarks import ranks_of
from advantage_zoo.compare.plan import reads, slots_of, spans
from advantage_zoo.compare.report import render
from advantage_zoo.compare.stream import Bounds, Files, compare_files, survey
from advantage_zoo.compare.work import Request
from advantage_zoo.rollouts import RolloutFileError, read_rollouts, shipped_rollouts
from advantage_zoo.rollouts.shards import common_columns, open_shards, read

SOME = ("grpo,ep_grpo,gtpo,passk",)
LITTLE = 0.002
"""GB that hold a few groups of the shipped rollouts, not all."""


@pytest.fixture(scope="module")
def shipped():
    return pq.read_table(shipped_rollouts())


def without_diagnostics(out):
    """An estimator's own numbers are of a batch."""
    return {**out, "estimators": [{**entry, "diagnostics": {}} for entry in out["estimators"]]}


@settings(max_examples=10, deadline=None, phases=(Phase.explicit, Phase.generate))  # an example takes a second
@given(
    cuts=st.sets(st.integers(1, 1023), max_size=4),
    row_group=st.integers(20, 1024),
    seed=st.none() | st.integers(0, 9),
    memory=st.sampled_from([LITTLE, 0.004, 0.02]),
)
def test_however_the_files_are_cut_the_numbers_are_the_same(shipped, cuts, row_group, seed, memory):
    table = shipped if seed is None else shipped.take(np.random.default_rng(seed).permutation(len(shipped)))
    with tempfile.TemporaryDirectory() as folder:
        whole, _ = compared([_written(table, Path(folder) / "whole.parquet")], estimators=SOME)
        parts, _ = compared(cut(table, Path(folder) / "parts", cuts, row_group), estimators=SOME, memory=memory)
    assert len(whole.rollouts) == len(table)
    expected, found = numbers(whole), numbers(parts)
    if not any(entry["diagnostics"] for entry in found["estimators"]):  # they are of a batch that memory did not hold
        expected = without_diagnostics(expected)
    assert far_apart(expected, found) == []


def test_several_processes_give_what_one_gives(shipped, tmp_path):
    paths = cut(shipped, tmp_path, [100, 517], 64)
    one, _ = compared(paths, memory=LITTLE)
    two, _ = compared(paths, memory=2 * LITTLE, jobs=2)
    assert {result.key for result in one.results} >= {"grpo", "ep_grpo", "erpo", "rloo"}
    assert far_apart(numbers(one), numbers(two)) == []


def test_a_step_is_a_batch_whatever_the_chunks(shipped, tmp_path):
    """What takes statistics over a batch, and diagnostics, are of a step: in memory, in one file, in several."""
    rows = np.arange(len(shipped))
    stepped = with_steps(shipped, rows // 256)
    one = tmp_path / "one.parquet"
    pq.write_table(stepped, one)
    names = ",".join(("grpo", "ep_grpo", *sorted(BATCHWISE)))
    in_memory, _ = compared([one], estimators=[names])
    shuffled = stepped.take(np.random.default_rng(0).permutation(len(rows)))
    streamed, notes = compared(cut(shuffled, tmp_path / "parts", [300, 700], 50), estimators=[names], memory=0.006)
    assert far_apart(numbers(in_memory), numbers(streamed)) == []
    assert in_memory.totals.batches == 4
    assert not [note for note in notes if "left out" in note]

    first = compare(read_rollouts(_written(shipped.slice(0, 256), tmp_path / "first.parquet")), ["lite_ppo"])
    lite = next(result for result in in_memory.results if result.key == "lite_ppo")
    np.testing.assert_array_equal(lite.values[:256, : first.results[0].values.shape[1]], first.results[0].values)


def _written(table, path):
    pq.write_table(table, path)
    return path


def test_one_group_id_at_two_steps_is_two_groups(shipped, tmp_path):
    """As in the files of a trainer, which number groups anew in each step; the step is in the file's metadata."""
    paths, folder = [], tmp_path / "run"
    folder.mkdir()
    for step in range(2):
        part = shipped.slice(step * 64, 64)
        part = part.set_column(part.schema.get_field_index("group"), "group", pa.array(np.arange(64) // 8))
        part = part.replace_schema_metadata({"advantage_zoo": json.dumps({"step": step, "format_version": 1})})
        paths.append(_written(part, folder / f"step_{step:06d}.parquet"))
    done, _ = compared([folder], estimators=["grpo"])
    assert (done.totals.groups, done.totals.batches) == (16, 2)
    streamed, _ = compared([folder], estimators=["grpo"], memory=0.001)
    assert far_apart(without_diagnostics(numbers(done)), without_diagnostics(numbers(streamed))) == []
    expected = compare(read_rollouts(_written(shipped.slice(0, 128), tmp_path / "expected.parquet")), ["grpo"])
    assert done.results[0].metrics == expected.results[0].metrics
    paths[0].unlink()
    pq.write_table(shipped.slice(0, 8), paths[0])
    with pytest.raises(RolloutFileError, match=r"step_000000\.parquet has no training step"):
        compared([folder])


def test_a_batch_that_memory_does_not_hold_leaves_out_what_needs_it(tmp_path):
    done, notes = compared([shipped_rollouts()], memory=LITTLE)
    assert set(done.left_out) >= BATCHWISE
    assert not {result.key for result in done.results} & BATCHWISE
    assert all(result.diagnostics == {} for result in done.results)
    words = "takes statistics over a batch, which has 25,706 tokens, more than --memory 0.002 holds"
    assert any(words in note for note in notes)
    with pytest.raises(ValueError, match=f"lite_ppo: {words}; give more, or the files a column step"):
        compared([shipped_rollouts()], memory=LITTLE, estimators=["grpo,lite_ppo"])
    with pytest.raises(ComparisonError, match=r"Group \d+ has \d+ token slots, more than fit; give --memory at least"):
        compared([shipped_rollouts()], memory=1e-5, estimators=["grpo"])


def test_the_report_says_that_its_responses_are_a_sample(shipped, tmp_path):
    many = pa.concat_tables([shipped] * 3)
    groups = np.repeat(np.arange(3), len(shipped)) * 1000 + np.tile(shipped["group"].to_numpy(), 3)
    many = many.set_column(many.schema.get_field_index("group"), "group", pa.array(groups))
    path = _written(many, tmp_path / "many.parquet")
    done, _ = compared([path], estimators=["grpo,ep_grpo"], memory=0.01)
    page = render(done, sources=[path], command="advantage-zoo compare")
    assert len(set(done.rollouts.groups)) < done.totals.groups == 384
    assert f"Drawn are {len(set(done.rollouts.groups))} of 384 groups" in page
    assert "77,118" in page  # tokens of all
    # What is drawn is what the estimators gave.
    shown = compare(done.rollouts, ["grpo", "ep_grpo"])
    for ours, theirs in zip(done.results, shown.results, strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-12)


def test_show_takes_any_group_of_a_large_file(shipped):
    command = [Path(sys.executable).parent / "advantage-zoo", "compare", shipped_rollouts(), "--memory", "0.002"]
    done = subprocess.run([*command, "-e", "grpo", "--show", "38"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Group 38: 8 responses to")
    row = int(np.flatnonzero(shipped["group"].to_numpy() == 38)[0])
    reward = shipped["reward"][row].as_py()
    assert f"reward {reward:g}, {len(shipped['tokens'][row])} tokens" in done.stdout
    with pytest.raises(ValueError, match="has no such group; it has 128, such as"):
        compared([shipped_rollouts()], memory=LITTLE, show=999_999, estimators=["grpo"])


# --- what is wrong with files


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


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("entropies", np.nan, "entropies, row 203, token 1, is nan; expected a finite number of nats"),
        ("entropies", -0.5, "entropies, row 203, token 1, is -0.5; expected at least 0 nats"),
        ("logprobs", 0.5, "logprobs, row 203, token 1, is 0.5; expected at most 0 nats"),
    ],
)
def test_a_value_that_cannot_be_is_found_wherever_it_is(shipped, tmp_path, column, value, words):
    rows = shipped[column].to_pylist()
    rows[503][1] = value
    spoiled = shipped.set_column(shipped.schema.get_field_index(column), column, pa.array(rows, pa.list_(pa.float32())))
    cut(spoiled, tmp_path, [300, 700], 90)
    with pytest.raises(RolloutFileError, match=words) as failed:
        compared([tmp_path], estimators=["grpo"], memory=LITTLE)
    assert "part_01.parquet" in str(failed.value)


def test_rewards_lengths_steps_and_nulls_are_looked_at(shipped, tmp_path):
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
        path = _written(spoiled(column, row, value), tmp_path / "spoiled.parquet")
        with pytest.raises(RolloutFileError, match=words):
            compared([path], estimators=["grpo,ep_grpo"], memory=LITTLE)


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
    with pytest.raises(ValueError, match=r"has 4.2e-05 GB and would take about 0.00063; give --memory"):
        compared([path], memory=0.0005)
    assert compared([path], memory=0.001, estimators=["grpo"])[0].totals.responses == 1000


# --- bounds


def test_a_row_group_is_read_a_few_rows_at_a_time(tmp_path, shipped):
    """However large it is: a million-row row group must not be in memory whole."""
    path = _written(shipped, tmp_path / "one.parquet")
    (shard,), _ = open_shards([path])
    assert len(shard.row_groups) == 1
    parts = [batch.num_rows for _, batch in read(shard, ["entropies"], range(1), tokens=1000)]
    assert max(parts) < 60
    assert sum(parts) == len(shipped)


@settings(max_examples=50, deadline=None)
@given(
    units=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    seed=st.integers(0, 99),
    most=st.integers(300, 1000),
    rows=st.integers(1, 60),
)
def test_a_plan_holds_every_row_once_every_unit_whole_and_no_more_than_fits(units, seed, most, rows):
    _, first, codes = np.unique(units, return_index=True, return_inverse=True)
    units = np.argsort(np.argsort(first))[codes]
    lengths = np.random.default_rng(seed).integers(0, 20, len(units))
    planned = spans(units, lengths, most, rows)
    chunk_of = {}
    for i, span in enumerate(planned):
        assert (np.diff(span.rows) > 0).all()
        for row, chunk in zip(span.rows.tolist(), span.chunks.tolist(), strict=True):
            assert chunk_of.setdefault(int(units[row]), (i, chunk)) == (i, chunk)
        for chunk in np.unique(span.chunks):
            mine = span.rows[span.chunks == chunk]
            held = np.unique(units[mine])
            assert len(mine) * max(1, lengths[mine].max()) <= most or len(held) == 1
        # What is begun and not complete, as the rows come.
        sizes = np.bincount(span.chunks)
        waiting = np.zeros(len(sizes), dtype=int)
        for row, chunk in zip(span.rows, span.chunks, strict=True):
            waiting[chunk] += 1
            begun = (waiting > 0) & (waiting < sizes)
            tokens = sum(lengths[span.rows[span.chunks == c]].sum() for c in np.flatnonzero(begun))
            assert tokens <= max(most, slots_of(units, lengths).max()), row
    assert sorted(row for span in planned for row in span.rows.tolist()) == list(range(len(units)))
    assert reads(planned, np.array([len(units)])) == len(planned)


def test_responses_of_a_group_far_apart_are_said_to_cost_time(shipped, tmp_path):
    shuffled = shipped.take(np.random.default_rng(0).permutation(len(shipped)))
    _, notes = compared(cut(shuffled, tmp_path, [], 64), estimators=["grpo"], memory=LITTLE)
    assert any("lie far apart, so that rows were read" in note for note in notes)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0]), min_size=1)
)
def test_ranks_are_those_of_the_sorted_numbers(values):
    x = np.array(values, dtype=np.float32)
    found = ranks_of(x, range(len(x)))
    assert [found[i] for i in range(len(x))] == np.sort(x).tolist()


# --- workers


def test_a_killed_process_is_told_of(shipped, tmp_path):
    shards, _ = open_shards(cut(shipped, tmp_path, [], 100))
    files, bounds = Files(shards, common_columns(shards)[0]), Bounds(0.002e9, 2)
    with workers("processes", 2) as mapped:
        found = survey(files, mapped, lambda _: None)
        request = Request([("deadly", Deadly(marker=str(tmp_path / "marker")))], 0.5, keep=frozenset())
        with pytest.raises(ComparisonError, match="A worker process was killed, perhaps for want of memory"):
            compare_files(files, found, request, mapped, bounds, left_out={})


def test_what_an_estimator_warns_of_in_a_worker_is_said_once(shipped, tmp_path):
    _, notes = compared(
        cut(shipped, tmp_path, [], 100), estimators=["grpo"], memory=LITTLE, settings=["grpo.singleton=zero"], jobs=2
    )
    assert len(notes) == len(set(notes))


def test_an_error_in_a_worker_names_the_estimator_and_the_row(tmp_path):
    path = rollout_file(tmp_path / "f.parquet", groups=[1, 2, 2, 3, 3, 3, 4, 4, 4])
    with pytest.raises(ComparisonError, match=r"grpo failed on these rollouts.*singleton='raise'"):
        compared([path], estimators=["grpo"], settings=["grpo.singleton=raise"], memory=2.5e-5, jobs=2)


def test_ray_is_asked_for_in_words_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ComparisonError, match=r'--engine ray needs Ray .*: pip install "advantage-zoo\[cli,ray\]"'):
        compared([rollout_file(tmp_path / "f.parquet")], engine="ray")


def test_in_memory_and_streamed_hold_for_masks_and_empty_responses(tmp_path):
    rollouts = made_rollouts()
    mask = [[i % 3 != 1 for i in range(len(row))] for row in rollouts.tokens]
    mask[4] = [False] * len(mask[4])
    path = rollout_file(tmp_path / "f.parquet", response_mask=mask)
    names = [name for name in az.names() if name in ("grpo", "ep_grpo", "gtpo", "grpo_s", "opo", "rl_zvp")]
    held, _ = compared([path], estimators=[",".join(names)])
    streamed, notes = compared([path], estimators=[",".join(names)], memory=2.5e-5)
    assert far_apart(without_diagnostics(numbers(held)), without_diagnostics(numbers(streamed))) == []
    assert any("1 of 9 responses have no valid token (row 4 is the first)" in note for note in notes)
