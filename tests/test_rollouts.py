"""Rollouts on disk, from outside: files as other people's tools write them, and what comes of a failed write."""

import json

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from made_files import plain, write  # noqa: E402

from advantage_zoo.rollouts import RolloutFileError, Rollouts, read_rollouts, shipped_rollouts, write_rollouts  # noqa: E402
from advantage_zoo.rollouts.parquet import schema  # noqa: E402

SIGNALS = ("logprobs", "ref_logprobs", "entropies")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rollouts.parquet"


def test_a_file_by_pyarrow_alone_is_read(path):
    rollouts = read_rollouts(write(path))
    assert rollouts.prompts == ["1+2=", "1+2=", "4+4="]
    assert rollouts.tokens == [["3", ";"], [], ["7", ";"]]
    assert rollouts.step_correct == [[True], [], [None]]
    assert rollouts.logprobs[0].dtype == np.float32
    np.testing.assert_array_equal(rollouts.logprobs[2], np.float32([-1.5, 0.0]))
    assert rollouts.metadata == {}
    batch = rollouts.batch()
    assert batch.group_ids.tolist() == [1, 1, 0]
    assert batch.num_groups == 2
    assert batch.response_mask.tolist() == [[True, True], [False, False], [True, False]]
    np.testing.assert_array_equal(batch.entropies, np.float32([[0.9, 0.2], [0, 0], [1.1, 0]]))


def test_there_and_back(path):
    rollouts = read_rollouts(write(path))
    again = path.with_name("again.parquet")
    write_rollouts(rollouts, again)
    assert pq.read_table(again).equals(pq.read_table(path))
    write_rollouts(read_rollouts(again), path)
    assert path.read_bytes() == again.read_bytes()


def test_what_repeats_is_stored_once_and_numbers_of_the_model_as_they_are(path):
    """A dictionary of numbers that are all different takes more room than the numbers, and more time."""
    write_rollouts(read_rollouts(write(path)), path)
    stored = pq.read_metadata(path).row_group(0)
    columns = [stored.column(i) for i in range(stored.num_columns)]
    dictionary = {column.path_in_schema.split(".")[0]: column.has_dictionary_page for column in columns}
    as_they_are = {name for name, has in dictionary.items() if not has}
    assert as_they_are == {*SIGNALS, "reward", "response_mask", "step_correct"}


def test_metadata_is_kept_and_can_not_pose_as_another_format(path):
    facts = {"model": "m", "seed": 3, "versions": {"torch": "2"}, "format_version": 99}
    write_rollouts(Rollouts(**plain(), metadata=facts), path)
    assert read_rollouts(path).metadata == {"model": "m", "seed": 3, "versions": {"torch": "2"}}
    assert json.loads(pq.read_schema(path).metadata[b"advantage_zoo"])["format_version"] == 1


@pytest.mark.parametrize("absent", [*SIGNALS, "response_mask"])
def test_optional_columns_may_be_absent(path, absent):
    rollouts = read_rollouts(write(path, **{absent: None}))
    assert getattr(rollouts, absent) is None
    rollouts.batch()


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("reward", [True, False, False], pa.bool_()),
        ("reward", [1, 0, 0], pa.int8()),
        ("reward", [1.0, 0.0, 0.0], pa.float32()),
        ("group", [7, 7, 3], pa.uint8()),
        ("token_ids", [[5, 1], [], [9, 1]], pa.list_(pa.int64())),
        ("logprobs", [[-0.5, -0.25], [], [-1.5, 0.0]], pa.list_(pa.float64())),
        ("logprobs", [[-0.5, -0.25], [], [-1.5, 0.0]], pa.large_list(pa.float16())),
        ("tokens", [["3", ";"], [], ["7", ";"]], pa.large_list(pa.large_string())),
        ("prompt", ["a", "a", "b"], pa.large_string()),
        ("prompt", ["a", "a", "b"], pa.dictionary(pa.int32(), pa.string())),
        ("step_index", [[0, -1], [], [0, -1]], pa.list_(pa.int64())),
    ],
)
def test_casts_that_lose_nothing(path, column, values, kind):
    rollouts = read_rollouts(write(path, types={column: kind}, **{column: values}))
    if column == "reward":
        assert rollouts.rewards == [1.0, 0.0, 0.0]
    write_rollouts(rollouts, path)
    assert pq.read_schema(path).field(column).type == schema().field(column).type


def test_columns_that_nobody_knows_are_passed_over(path):
    assert len(read_rollouts(write(path, comment=["x", "y", "z"]))) == 3


def test_nothing_but_empty_responses(path):
    empty = [[], [], []]
    lists = ("tokens", "token_ids", *SIGNALS, "response_mask", "step_index", "step_correct")
    write(path, types={"logprobs": pa.list_(pa.null())}, **dict.fromkeys(lists, empty))
    assert read_rollouts(path).batch().response_mask.tolist() == [[False]] * 3


def test_several_row_groups(path):
    table = pq.read_table(write(path))
    pq.write_table(pa.concat_tables([table] * 3), path, row_group_size=2)
    rollouts = read_rollouts(path)
    assert len(rollouts) == 9
    np.testing.assert_array_equal(rollouts.logprobs[8], np.float32([-1.5, 0.0]))


def test_a_failed_write_leaves_the_old_file(path):
    write_rollouts(Rollouts(**plain()), path)
    before = path.read_bytes()
    for broken in ({"metadata": {"model": object()}}, {"token_ids": [[2**40], []]}):
        with pytest.raises(RolloutFileError, match="can't be written"):
            write_rollouts(Rollouts(**plain(**broken)), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch):
    write_rollouts(Rollouts(**plain()), path)
    before = path.read_bytes()

    def interrupted(table, where, **options):
        where.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(RolloutFileError, match="No space left on device"):
        write_rollouts(Rollouts(**plain()), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_places_that_can_not_be_written(tmp_path):
    with pytest.raises(RolloutFileError, match="there is no folder"):
        write_rollouts(Rollouts(**plain()), tmp_path / "nowhere" / "x.parquet")
    with pytest.raises(RolloutFileError, match="is a folder; name a file in it"):
        write_rollouts(Rollouts(**plain()), tmp_path)


def test_rewards_of_any_kind_are_written_as_numbers(path):
    write_rollouts(Rollouts(**plain(rewards=np.array([True, False]))), path)
    assert read_rollouts(path).rewards == [1.0, 0.0]


def test_the_shipped_rollouts_hold_what_they_are_for():
    rollouts = read_rollouts(shipped_rollouts())
    assert shipped_rollouts().stat().st_size < 2_000_000
    rewards = np.asarray(rollouts.rewards).reshape(-1, 8)
    assert np.array_equal(rollouts.groups, np.repeat(np.arange(len(rewards)), 8))
    solved = rewards.sum(1)
    assert len(rewards) >= 64
    assert (solved == 0).any()
    assert (solved == 8).any()
    assert ((solved > 0) & (solved < 8)).any()
    judged = [(r, ok) for r, steps in zip(rollouts.rewards, rollouts.step_correct, strict=True) for ok in steps]
    assert {(0.0, True), (0.0, False), (1.0, True), (1.0, False)} == set(judged)
    ratios = np.concatenate(rollouts.logprobs) - np.concatenate(rollouts.ref_logprobs)
    assert np.abs(ratios).mean() > 0.02
    lengths = np.array([len(tokens) for tokens in rollouts.tokens]).reshape(-1, 8)
    assert ((lengths.max(1) - lengths.min(1)) > 0).mean() > 0.9
    for text, tokens, index in zip(rollouts.texts, rollouts.tokens, rollouts.step_index, strict=True):
        assert "".join(tokens) == text + ";"
        assert index[-1] == -1
        assert list(index[:-1]) == sorted(index[:-1])
    facts = rollouts.metadata
    assert 0.3 < facts["reference_accuracy"] < facts["policy_accuracy"] < 0.9
    assert {"python", "torch", "transformers", "tokenizers"} <= set(facts["versions"])
