"""Rows of JSON lines that no framework wrote: one is left out and named, or taken for what it is."""

import json

import pytest

from advantage_zoo.rollouts import read
from advantage_zoo.rollouts.dumps import WORDS

PLAIN = [
    {"prompt": p, "text": t, "reward": r} for p, t, r in (("p", "a", 1), ("p", "b", 0), ("q", "c", 0), ("q", "d", 1))
]
HUGE = 10**400


def written(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        ({"reward": HUGE}, f"has no finite number in reward: {str(HUGE)[:40]}."),
        ({"reward": "1.0"}, "has no finite number in reward: '1.0'."),
        ({"step": HUGE}, "which is no 64-bit integer."),
        ({"prompt": None}, "has no prompt."),
        ({"text": float("nan")}, "has no text."),  # pandas' null
        ({"logprobs": [0.5]}, "has logprobs with 0.5 at token 0; expected at most 0."),
        ({"entropies": [-0.5]}, "has entropies with -0.5 at token 0; expected at least 0."),
        ({"logprobs": [-HUGE]}, "has logprobs that are no numbers of nats."),
        ({"logprobs": [[-1.0]]}, "has logprobs that are lists; expected one number a token."),
        ({"step_correct": ["yes"]}, "has step_correct ['yes']; expected a list of true, false or null, one a step."),
        ({"step_correct": 1}, "has step_correct 1; expected a list of true, false or null, one a step."),
        ({"step_correct": None}, "has step_index and no step_correct."),
        ({"step_index": [1]}, "has step_index with 1 at token 0; expected -1 to 0."),
    ],
)
def test_a_row_that_does_not_fit_is_left_out_and_named(tmp_path, odd, sentence):
    rows = [row | {"tokens": ["a"], "logprobs": [-1.0], "step_index": [0], "step_correct": [True]} for row in PLAIN]
    rollouts, notes = read(written(tmp_path / "mine.jsonl", [*rows, rows[0] | odd]))
    assert rollouts.step_correct == [[True]] * 4
    assert notes[0].startswith("1 of 5 rows are left out")
    assert "mine.jsonl, line 5, " in notes[0]
    assert notes[0].endswith(sentence)


def test_a_line_that_is_nested_too_deeply_is_left_out(tmp_path):
    rollouts, notes = read(written(tmp_path / "mine.jsonl", [*PLAIN, "[" * 100_000]))
    assert len(rollouts) == 4
    assert "line 5, is not JSON" in notes[0]


@pytest.mark.parametrize("prompt", [[{"role": "user", "content": "what?"}], "what?"])
def test_a_prompt_of_verl_may_be_a_conversation(tmp_path, prompt):
    rows = [{"input": prompt, "output": "o", "score": s, "step": 1} for s in (1, 0)]
    assert read(written(tmp_path / "1.jsonl", rows))[0].groups == [0, 0]


def test_any_step_tells_groups_apart(tmp_path):
    rows = [row | {"step": step} for row, step in zip(PLAIN, ([1], [1], [1], {"a": 2}), strict=True)]
    assert read(written(tmp_path / "mine.jsonl", rows))[0].groups == [0, 0, 1, 2]


@pytest.mark.parametrize("kind", [float, int])
def test_steps_are_whole_numbers_of_any_kind_and_may_have_another_name(tmp_path, kind):
    rows = [row | {"at": kind(i // 2), "prompt": "p"} for i, row in enumerate(PLAIN)]
    rollouts, notes = read(written(tmp_path / "mine.jsonl", rows), {"step": "at"})
    assert (rollouts.steps, rollouts.groups, notes) == ([0, 0, 1, 1], [0, 0, 1, 1], [WORDS])


@pytest.mark.parametrize("steps", [[1, 1, 1, None], ["first"] * 4, [1.5, 1, 1, 1]])
def test_steps_that_are_left_out_are_said(tmp_path, steps):
    rows = [row | {"step": step} for row, step in zip(PLAIN, steps, strict=True)]
    rollouts, notes = read(written(tmp_path / "mine.jsonl", rows))
    lacking = sum(not isinstance(step, int) for step in steps)
    assert rollouts.steps is None
    assert f"step is no batch's: {lacking} of 4 rows have no integer there." in notes


def test_a_group_is_one_whether_its_number_is_whole_or_a_float(tmp_path):
    rows = [row | {"group": group} for row, group in zip(PLAIN, [7, 7.0, 8, 8.0], strict=True)]
    assert read(written(tmp_path / "mine.jsonl", rows))[0].groups == [0, 0, 1, 1]


def test_columns_of_trl_in_another_order(tmp_path):
    rows = [{"completion": "o", "prompt": "p", "right": r, "step": 1, "advantage": a} for r, a in ((1, 1.0), (0, -1.0))]
    assert read(written(tmp_path / "log.jsonl", rows))[0].rewards == [1.0, 0.0]


def test_a_reward_of_trl_that_no_float_holds(tmp_path):
    log = [{"step": 1, "prompt": "p", "completion": "o", "right": r, "advantage": a} for r, a in ((1, 1.0), (0, -1.0))]
    rollouts, notes = read(written(tmp_path / "log.jsonl", [*log, log[0] | {"right": HUGE}]))
    assert rollouts.rewards == [1.0, 0.0]
    assert "line 3, has no finite number in right" in notes[0]
