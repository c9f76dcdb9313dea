"""Dumps and tables that are damaged, or none at all: what is left out and said, what is refused."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_dumps import lines, parquet, trl, verl
from made_rollouts import rollout_file

from advantage_zoo.cli import main
from advantage_zoo.rollouts import RolloutFileError, read

DAMAGED = [
    ('{"input": "q", "output": "cut sho', "is not JSON (Unterminated string"),
    ("[1, 2]", "is a list; expected an object"),
    ('{"input": "q", "output": "o", "step": 1}', "has no finite number in score"),  # of another version
    ('{"input": "q", "output": "o", "score": NaN, "step": 1}', "has no finite number in score"),
    ('{"input": "q", "output": "o", "score": "high", "step": 1}', "has no finite number in score"),
    ('{"input": "q", "score": 1.0, "step": 1}', "has no output"),
    ("\x00\x00\x00", "is not JSON"),
]


@pytest.mark.parametrize(("line", "sentence"), DAMAGED)
def test_good_lines_are_kept_and_bad_ones_counted(tmp_path, line, sentence):
    path = lines(tmp_path / "1.jsonl", [*verl(), line])
    rollouts, notes = read(path)
    assert len(rollouts) == 4
    assert re.match(r"1 of 5 rows are left out.*; the first: 1.jsonl, line 5, ", notes[0])
    assert sentence in notes[0]


def test_a_first_line_of_another_version_does_not_spoil_the_rest(tmp_path):
    path = lines(tmp_path / "1.jsonl", [{"prompt": "p", "response": "r"}, *verl()])
    rollouts, notes = read(path)
    assert len(rollouts) == 4
    assert "1.jsonl, line 1, has no output" in notes[0]


def test_half_a_character_is_no_trouble(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")
    path = tmp_path / "1.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in verl(outputs=["\ud83d", "\udc00 x", "y", "z"])))
    report = tmp_path / "out.html"
    for more in ((), ("--show", "0")):
        result = CliRunner().invoke(main, ["compare", str(path), "--report", str(report), *more])
        assert result.exit_code == 0, result.output


def test_a_file_that_was_cut_short_says_so(tmp_path):
    path = lines(tmp_path / "1.jsonl", verl())
    path.write_bytes(path.read_bytes()[:-20])
    assert "as if writing had been cut short" in read(path)[1][0]


def test_mostly_bad_is_refused(tmp_path):
    path = lines(tmp_path / "1.jsonl", [*verl()[:1], *(line for line, _ in DAMAGED[:3])])
    with pytest.raises(RolloutFileError, match=r"3 of 4 rows can't be used, too many .*; the first: 1.jsonl, line 2"):
        read(path)


def test_bytes_that_are_no_text(tmp_path):
    path = lines(tmp_path / "1.jsonl", verl())
    path.write_bytes(path.read_bytes() + b'{"input": "\xff\xfe"}\n')
    assert "line 5, is not JSON" in read(path)[1][0]


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"entropies": [0.5, 0.5]}, "has entropies that are not 1 numbers, one a token"),
        ({"entropies": [None]}, "has entropies with nan at token 0"),
        ({"entropies": ["x"]}, "has entropies that are no numbers"),
        ({"token_ids": [1.5]}, "has token_ids that are no integers"),
        ({"response_mask": [7]}, "has response_mask that are no booleans"),
        ({"tokens": "a"}, "has tokens that are no list of texts"),
    ],
)
def test_a_row_whose_lists_do_not_fit_is_left_out(tmp_path, extra, sentence):
    rows = [row | {"tokens": ["a"]} for row in verl()]
    rows[1] |= extra
    rollouts, notes = read(lines(tmp_path / "1.jsonl", rows))
    assert len(rollouts) == 3
    assert f"1.jsonl, line 2, {sentence}" in notes[0]


def test_damage_in_the_middle_of_a_parquet_file_costs_its_row_group(tmp_path):
    columns = trl(
        {"right": [1.0, 0.0, 1.0, 1.0]}, [0.7, -0.7, 0.0, 0.0], completions=[f"word{i}" * 50 for i in range(4)]
    )
    path = tmp_path / "c.parquet"
    table = pa.concat_tables([pa.table(columns)] * 3)
    pq.write_table(table, path, row_group_size=4, compression="zstd", use_dictionary=False)
    place = pq.ParquetFile(path).metadata.row_group(1).column(2).data_page_offset
    spoiled = bytearray(path.read_bytes())
    spoiled[place : place + 40] = b"\xff" * 40
    path.write_bytes(spoiled)
    rollouts, notes = read(path)
    assert len(rollouts) == 8
    assert notes[0].startswith("4 of 12 rows are left out")
    assert "c.parquet, rows 4 to 7, can't be read" in notes[0]


def test_of_several_files_those_that_cannot_be_read_are_left_out_and_said(tmp_path):
    for step in (1, 2, 3, 4, 5):
        rewards, said = {"right": [1.0, 0.0, 1.0, 1.0]}, [f"{step} {i}" for i in range(4)]
        path = parquet(tmp_path / f"c_{step}.parquet", trl(rewards, [0.7, -0.7, 0.0, 0.0], step, said))
        if step == 2:
            path.write_bytes(path.read_bytes()[:-10])
        if step == 4:
            path.write_bytes(b"")
    (tmp_path / "c_6.jsonl").write_text("")
    rollouts, notes = read(tmp_path)
    assert rollouts.steps == [step for step in (1, 3, 5) for _ in range(4)]
    for name, why in (
        ("c_2.parquet", "is not a readable"),
        ("c_4.parquet", "is not a"),
        ("c_6.jsonl", "holds no rows"),
    ):
        (note,) = [note for note in notes if name in note]
        assert why in note
        assert note.endswith("; it is left out.")
    (tmp_path / "c_1.parquet").write_bytes(b"PAR1")
    with pytest.raises(RolloutFileError, match=r"c_4.parquet is not a readable Parquet file"):
        read(tmp_path)


def refused(*words):
    result = CliRunner().invoke(main, ["compare", *map(str, words)])
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("Note: ")]
    return line


def test_files_that_are_none_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "blank.jsonl").write_text("\n \n")
    (tmp_path / "half.parquet").write_bytes(rollout_file(tmp_path / "whole.parquet").read_bytes()[:500])
    (tmp_path / "rows.csv").write_text("a,b")
    (tmp_path / "folder").mkdir()
    (tmp_path / "garbage.jsonl").write_bytes(bytes(range(256)))
    for name, sentence in [
        ("empty.jsonl", "holds no rows"),
        ("blank.jsonl", "holds no rows"),
        ("half.parquet", "not a readable Parquet file"),
        ("rows.csv", "neither .jsonl nor .json nor .parquet"),
        ("folder", "a folder without"),
        ("garbage.jsonl", "holds no rows that can be read"),
        ("none.jsonl", "no such file"),
    ]:
        line = refused(tmp_path / name)
        assert sentence in line, line
        assert name in line


def test_what_is_missing_is_named_with_the_way_out(tmp_path):
    path = lines(tmp_path / "f.jsonl", [{"question": "p", "answer": "t", "score": 1}])
    line = refused(path)
    assert "f.jsonl has no column 'prompt'" in line
    assert "it has question, answer, score" in line
    assert "--columns prompt=COLUMN" in line
    result = CliRunner().invoke(
        main, ["compare", str(path), "--columns", "prompt=question,text=answer", "--columns", "reward=score", "--json"]
    )
    assert json.loads(result.stdout)["rollouts"]["responses"] == 1
    assert "expected NAME=COLUMN" in refused(path, "--columns", "prompt")
    assert "'promt' is no column of a rollout file (did you mean 'prompt'?)" in refused(
        path, "--columns", "promt=question"
    )
