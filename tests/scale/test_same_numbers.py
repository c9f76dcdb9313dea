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
from large import BATCHWISE, LITTLE, _written, compared, cut, far_apart, numbers, with_steps, without_diagnostics
from made_rollouts import made_rollouts, rollout_file

import advantage_zoo as az
from advantage_zoo.compare import ComparisonError, compare
from advantage_zoo.compare.report import render
from advantage_zoo.rollouts import RolloutFileError, read_rollouts, shipped_rollouts

SOME = ("grpo,ep_grpo,gtpo,passk",)


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
