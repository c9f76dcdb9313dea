"""`compare --show`: the responses of one group."""

import re

import numpy as np
import pyarrow.parquet as pq
from command_line.calls import installed, refused, run
from made_rollouts import made_rollouts, rollout_file
from report_page import Page

from advantage_zoo.rollouts import shipped_rollouts


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


def test_signs_stand_for_colours_where_there_are_sixteen(file):
    """As in screen or on a console of Linux, where tints of blue and of orange are the same black."""
    plain = run("compare", file, "--show", "5", "-e", "grpo").stdout
    _, out, _ = installed("compare", file, "--show", "5", "-e", "grpo", FORCE_COLOR="1", TERM="xterm", COLORTERM="")
    assert "\x1b" in out
    assert re.sub(r"\x1b\[[\d;]*m", "", out) == plain


def test_show_marks_tool_output(tmp_path):
    mask = [[True] * (len(row) - 1) + [False] for row in made_rollouts().tokens]
    path = rollout_file(tmp_path / "tool.parquet", response_mask=mask)
    out = run("compare", path, "--show", "5", "-e", "grpo").stdout
    assert "#####~~" in out


def test_show_of_a_group_that_is_not_there_names_some_that_are(file):
    assert "has no such group; it has 3, such as 5, 2, 9" in refused("compare", file, "--show", "0")
    assert "choose one" in refused("compare", file, "--show", "5", "--json")


def test_rows_have_one_number_however_the_files_are_read(tmp_path):
    """In memory, a part at a time; on the terminal, and in the report, which has other groups besides."""
    table = pq.read_table(shipped_rollouts())
    order = np.random.default_rng(0).permutation(len(table))
    pq.write_table(table.take(order), tmp_path / "shuffled.parquet", row_group_size=100)
    group = np.asarray(table["group"])[order]
    expected = [f"row {row}" for row in np.flatnonzero(group == 7)]
    for memory in ("4", "0.002"):
        report = tmp_path / f"{memory}.html"
        words = ("--show", "7", "-e", "grpo", "--memory", memory, "--report", report)
        result = run("compare", tmp_path / "shuffled.parquet", *words)
        assert result.exit_code == 0, result.output
        assert [line.split(",")[0] for line in result.stdout.splitlines() if line.startswith("row ")] == expected
        header = Page(report.read_text()).responses.header
        ids = [g["id"] for g in header["groups"] for _ in range(g["size"])]
        assert len(set(ids)) > 1
        assert all(group[row] == one for row, one in zip(header["rows"], ids, strict=True))


def test_a_response_with_another_prompt_than_its_group_says_so(tmp_path):
    prompts = ["one"] * 2 + ["another"] + ["p"] * 6
    out = run("compare", rollout_file(tmp_path / "f.parquet", prompts=prompts), "--show", "5", "-e", "grpo").stdout
    assert "Group 5: 3 responses to 'one'" in out
    assert re.findall(r"to 'another'\nrow (\d)", out) == ["2"]
