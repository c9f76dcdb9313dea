"""Rollout files that are broken, and what is said of them."""

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from made_files import plain, write  # noqa: E402

from advantage_zoo.rollouts import RolloutFileError, Rollouts, read_rollouts  # noqa: E402


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rollouts.parquet"


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
