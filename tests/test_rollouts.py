"""Rollouts on disk, from outside: files as other people's tools write them, and what is said of broken ones."""

import json

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from advantage_zoo.rollouts import RolloutFileError, Rollouts, read_rollouts, shipped_rollouts, write_rollouts  # noqa: E402
from advantage_zoo.rollouts.parquet import schema  # noqa: E402

SIGNALS = ("logprobs", "ref_logprobs", "entropies")


def columns(**changes):
    """Three responses to two prompts, the second one empty."""
    made = {
        "prompt": ["1+2=", "1+2=", "4+4="],
        "text": ["3;", "", "7;"],
        "tokens": [["3", ";"], [], ["7", ";"]],
        "token_ids": [[5, 1], [], [9, 1]],
        "reward": [1.0, 0.0, 0.0],
        "group": [7, 7, 3],
        "logprobs": [[-0.5, -0.1], [], [-1.5, 0.0]],
        "ref_logprobs": [[-0.6, -0.1], [], [-1.0, 0.0]],
        "entropies": [[0.9, 0.2], [], [1.1, 0.0]],
        "response_mask": [[True, True], [], [True, False]],
        "step_index": [[0, -1], [], [0, -1]],
        "step_correct": [[True], [], [None]],
    }
    return {**made, **changes}


def write(path, *, types=None, metadata=None, **changes):
    """A file made by pyarrow alone; ``types`` replaces a column's type, a column that is None is left out."""
    made = {name: column for name, column in columns(**changes).items() if column is not None}
    kinds = {f.name: f.type for f in schema()} | (types or {})
    table = pa.table({name: pa.array(column, type=kinds.get(name)) for name, column in made.items()})
    pq.write_table(table.replace_schema_metadata(metadata or {}), path)
    return path


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


def test_metadata_is_kept_and_can_not_pose_as_another_format(path):
    facts = {"model": "m", "seed": 3, "versions": {"torch": "2"}, "format_version": 99}
    write_rollouts(Rollouts(**plain(), metadata=facts), path)
    assert read_rollouts(path).metadata == {"model": "m", "seed": 3, "versions": {"torch": "2"}}
    assert json.loads(pq.read_schema(path).metadata[b"advantage_zoo"])["format_version"] == 1


def plain(**changes):
    """Keyword arguments of Rollouts."""
    made = {
        "prompts": ["a", "a"],
        "texts": ["x", ""],
        "tokens": [["x"], []],
        "token_ids": [[1], []],
        "rewards": [1.0, 0.0],
        "groups": [0, 0],
    }
    return {**made, **changes}


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


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": None}, "has no column 'reward'; it has prompt, text"),
        ({"tokens": None}, "has no column 'tokens'"),
        ({"step_correct": None}, "step_correct is missing; step_index and step_correct belong together"),
        ({"step_index": None}, "step_index is missing; step_index and step_correct belong together"),
        ({"reward": [1.0, None, 0.0]}, "column 'reward', row 1, is null"),
        ({"prompt": ["a", "a", None]}, "column 'prompt', row 2, is null"),
        ({"logprobs": [[-0.5, -0.1], None, [-1.5, 0.0]]}, "column 'logprobs', row 1, is null"),
        ({"logprobs": [[-0.5, -0.1], [], [None, 0.0]]}, "column 'logprobs', row 2, entry 0, is null"),
        ({"tokens": [["3", None], [], ["7", ";"]]}, "column 'tokens', row 0, entry 1, is null"),
        ({"response_mask": [[True, None], [], [True, True]]}, "column 'response_mask', row 0, entry 1, is null"),
        ({"reward": [1.0, NAN, 0.0]}, "rewards, row 1, is nan; expected a finite number"),
        ({"reward": [1.0, 0.0, float("inf")]}, "rewards, row 2, is inf"),
        ({"entropies": [[0.9, NAN], [], [1.1, 0.0]]}, "entropies, row 0, token 1, is nan; expected a finite number of"),
        ({"ref_logprobs": [[-0.6, -0.1], [], [-float("inf"), 0.0]]}, "ref_logprobs, row 2, token 0, is -inf"),
        ({"logprobs": [[-0.5], [], [-1.5, 0.0]]}, "logprobs, row 0, has 1 entries; expected 2, one a token"),
        ({"entropies": [[0.9, 0.2], [0.1], [1.1, 0.0]]}, "entropies, row 1, has 1 entries; expected 0"),
        ({"token_ids": [[5, 1, 3], [], [9, 1]]}, "token_ids, row 0, has 3 entries; expected 2"),
        ({"step_index": [[0, 1], [], [0, -1]]}, "step_index, row 0, token 1, is 1; expected -1 to 0"),
        ({"step_index": [[0, -2], [], [0, -1]]}, "step_index, row 0, token 1, is -2; expected -1 to 0"),
    ],
)
def test_broken_columns_are_named_in_one_sentence(path, changes, message):
    write(path, **changes)
    with pytest.raises(RolloutFileError) as caught:
        read_rollouts(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "kind", "message"),
    [
        ("reward", ["1", "0", "0"], pa.string(), "column 'reward' has type string; expected double"),
        ("prompt", [1, 2, 3], pa.int64(), "column 'prompt' has type int64; expected string"),
        ("logprobs", [1.0, 2.0, 3.0], pa.float32(), "column 'logprobs' has type float; expected list<"),
        ("logprobs", [["a"], [], ["b"]], pa.list_(pa.string()), "column 'logprobs' has type list<"),
        ("group", [1.5, 2.5, 3.0], pa.float64(), "column 'group' has type double; expected int64"),
        ("group", [2**64 - 1, 0, 1], pa.uint64(), "column 'group', of type uint64, can't be read as int64"),
        ("token_ids", [[2**40, 1], [], [9, 1]], pa.list_(pa.int64()), "can't be read as list<"),
        ("response_mask", [[1, 1], [], [1, 0]], pa.list_(pa.int8()), "column 'response_mask' has type list<"),
    ],
)
def test_wrong_types_are_named(path, column, values, kind, message):
    write(path, types={column: kind}, **{column: values})
    with pytest.raises(RolloutFileError) as caught:
        read_rollouts(path)
    assert message in str(caught.value)


def test_what_the_policy_did_not_emit_may_hold_anything(path):
    rollouts = read_rollouts(write(path, logprobs=[[-0.5, -0.1], [], [-1.5, NAN]]))
    assert np.isnan(rollouts.logprobs[2][1])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[1]", "is [1]; expected a JSON object"),
        (b'{"format_version": 2}', "has format version 2; this release of advantage-zoo reads version 1, so upgrade"),
        (b'{"format_version": "x"}', "has format version 'x'"),
    ],
)
def test_broken_metadata(path, raw, message):
    write(path, metadata={b"advantage_zoo": raw})
    with pytest.raises(RolloutFileError) as caught:
        read_rollouts(path)
    assert message in str(caught.value)


def test_a_newer_format_is_named_before_its_columns_are(path):
    write(path, reward=None, metadata={b"advantage_zoo": b'{"format_version": 2}'})
    with pytest.raises(RolloutFileError, match="has format version 2"):
        read_rollouts(path)


def test_files_that_are_none(tmp_path, path):
    with pytest.raises(RolloutFileError, match="there is no such file"):
        read_rollouts(path)
    with pytest.raises(RolloutFileError, match="is a folder; name a Parquet file"):
        read_rollouts(tmp_path)
    for content in (b"", b"PAR1", b"a,b\n1,2\n", write(path).read_bytes()[:-20], path.read_bytes()[:10]):
        path.write_bytes(content)
        with pytest.raises(RolloutFileError, match="is not a readable Parquet file") as caught:
            read_rollouts(path)
        assert "\n" not in str(caught.value)


def test_damage_in_the_middle_is_an_error_and_not_a_crash(path):
    whole = bytearray(write(path).read_bytes())
    whole[4:60] = bytes(56)
    path.write_bytes(whole)
    with pytest.raises(RolloutFileError):
        read_rollouts(path)


def test_a_file_without_rows(path):
    pq.write_table(pq.read_table(write(path)).slice(0, 0), path)
    with pytest.raises(RolloutFileError, match="holds no rows"):
        read_rollouts(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": ["x"]}, "texts has 1 rows; expected 2, as rewards has"),
        ({"tokens": [["x"]]}, "tokens has 1 rows; expected 2"),
        ({"entropies": [np.zeros(1)]}, "entropies has 1 rows; expected 2"),
        ({"rewards": []}, "rewards is empty"),
        ({"rewards": [1.0, NAN]}, "rewards, row 1, is nan"),
    ],
)
def test_rollouts_that_do_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message):
        Rollouts(**plain(**changes))


def test_a_failed_write_leaves_the_old_file(path):
    write_rollouts(Rollouts(**plain()), path)
    before = path.read_bytes()
    for broken in ({"metadata": {"model": object()}}, {"token_ids": [[2**40], []]}):
        with pytest.raises(RolloutFileError, match="can't be written"):
            write_rollouts(Rollouts(**plain(**broken)), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"token_ids": [["a"], []]}, "token_ids, row 0, token 0, is 'a'; expected an integer"),
        ({"groups": [0.5, 0.7]}, "groups, row 0, is 0.5; expected an integer"),
    ],
)
def test_what_is_no_integer_is_not_cut_to_one(broken, words):
    with pytest.raises(ValueError, match=words):
        Rollouts(**plain(**broken))


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
