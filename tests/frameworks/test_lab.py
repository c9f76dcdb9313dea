"""The laboratory: its tasks, its arithmetic, and that it goes on where it was stopped. `--quick` is run by nox."""

import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("trl")
pytest.importorskip("reasoning_gym")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2] / "integrations" / "trl"))

import pandas as pd
import torch
from click.testing import CliRunner
from lab import __main__ as lab
from lab import failures, report
from lab.base import make_tokenizer
from lab.tasks import TASKS
from lab.training import Budget

from advantage_zoo.rollouts import Rollouts, read_rollouts, shipped_rollouts

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning"),
]


@pytest.fixture(params=TASKS.values(), ids=TASKS)
def task(request):
    return request.param


def test_a_clean_answer_is_right_in_every_step(task):
    rng = random.Random(0)
    for prompt in task.prompts(100, seed=1):
        answer = task.answer(prompt, rng, 0.0)
        verdict = task.judge(prompt, answer)
        assert verdict.reward == 1
        assert all(step.correct for step in verdict.steps)
        assert (verdict.steps[0].start, verdict.steps[-1].end) == (0, len(answer))
        assert len(answer) <= task.longest
        assert set(prompt + answer) <= set(task.alphabet)


def test_words_are_free_and_have_no_effect(task):
    (prompt,) = task.prompts(1, seed=1)
    answers = {task.answer(prompt, random.Random(seed), 0.0) for seed in range(20)}
    assert (len(answers) > 1) == bool(task.words)
    assert {task.judge(prompt, answer).reward for answer in answers} == {1.0}
    assert len({task.answer(prompt, random.Random(seed), 0.0, free=False) for seed in range(20)}) == 1


@pytest.mark.parametrize("accuracy", [0.15, 0.45])
def test_slips_give_the_accuracy_asked_for(task, accuracy):
    rng = random.Random(0)
    prompts = task.prompts(2000, seed=2)
    judged = [task.judge(prompt, task.answer(prompt, rng, task.slip(accuracy))) for prompt in prompts]
    assert np.mean([verdict.reward for verdict in judged]) == pytest.approx(accuracy, abs=0.08)
    failed = [step.correct for verdict in judged if not verdict.reward for step in verdict.steps]
    assert 0 < np.mean(failed) < 1  # right steps and wrong ones


def test_prompts_follow_the_seed(task):
    assert task.prompts(20, 5) == task.prompts(20, 5)
    assert task.prompts(20, 5) != task.prompts(20, 6)


@pytest.mark.parametrize(
    ("name", "prompt", "text", "reward", "right"),
    [
        ("sums", "3+8+5=", "1,6", 1, [True, True]),
        ("sums", "3+8+5=", "2,7", 0, [False, True]),  # carried on
        ("sums", "3+8+5=", "2,6", 1, [False, False]),  # two slips that cancel
        ("sums", "3+8+5=", "1", 0, [True]),
        ("sums", "3+8+5=", "1,,6", 0, [True, False, False]),
        ("worded_sums", "3+8+5=", "1c6", 1, [True, True]),
        ("worded_sums", "3+8+5=", "1h6", 1, [True, True]),
        ("worded_sums", "3+8+5=", "1cc6", 0, [True, False, False]),
        ("worded_sums", "3+8+5=", "1+6", 0, [False]),
        ("backwards", "glink=", "knilg", 1, [True] * 5),
        ("backwards", "glink=", "knxlgg", 0, [True, True, False, True, True, False]),
        ("sorting", "5,3,9>", "9,5,3", 1, [True] * 3),
        ("sorting", "5,3,9<", "9,5,3", 0, [False, True, False]),
        ("sorting", "5,3,9<", "3,5", 0, [True, True]),
        ("sorting", "5,3,9<", "", 0, [False]),
    ],
)
def test_verdicts(name, prompt, text, reward, right):
    verdict = TASKS[name].judge(prompt, text)
    assert verdict.reward == reward
    assert [step.correct for step in verdict.steps] == right


def run(seed, accuracies, estimator="grpo", tokens=100):
    steps = np.arange(len(accuracies)) * 10
    return pd.DataFrame(
        {
            "task": "sums",
            "start": "easy",
            "estimator": estimator,
            "seed": seed,
            "step": steps,
            "tokens": steps * tokens,
            "accuracy": accuracies,
            **dict.fromkeys(("entropy", "length", "zero_variance", "dead_steps", "without_signal", "seconds"), 1.0),
        }
    )


def test_the_interval_is_students():
    middle, half = report.interval([1.0, 2.0, 3.0])
    assert middle == 2
    assert half == pytest.approx(4.302653 / np.sqrt(3))
    assert np.isnan(report.interval([1.0])[1])


def test_between_evaluations():
    one = run(0, [0.2, 0.4, 0.8])
    assert report.at_tokens(one, 1500) == pytest.approx(0.6)
    assert report.reaches(one, 0.3) == pytest.approx(5)
    assert report.reaches(one, 0.2) == 0
    assert np.isnan(report.reaches(one, 0.9))


def test_results_compare_at_equal_tokens_seed_by_seed():
    points = pd.concat(
        [
            run(0, [0.2, 0.4, 0.6]),
            run(1, [0.2, 0.5, 0.7]),
            run(0, [0.2, 0.6, 0.8], "ep_grpo", tokens=50),
            run(1, [0.2, 0.6, 0.8], "ep_grpo", tokens=50),
        ]
    )
    table = report.results(points).set_index("estimator")
    ahead = [0.8 - 0.4, 0.8 - 0.5]  # after 1,000 tokens each
    assert table.loc["ep_grpo", "ahead of grpo, equal tokens"] == pytest.approx(np.mean(ahead))
    assert table.loc["ep_grpo", "ahead ±"] == pytest.approx(report.interval(ahead)[1])
    assert table.loc["ep_grpo", "steps to grpo's end"] == pytest.approx(np.mean([10, 15]))
    assert table.loc["grpo", "accuracy"] == pytest.approx(0.65)


def test_the_overview_is_bold_where_zero_is_outside(tmp_path):
    level, ahead = [0.2, 0.4, 0.6], [0.2, 0.6, 0.8]
    points = pd.concat(
        [run(seed, level) for seed in (0, 1)]
        + [run(0, level, "rloo"), run(1, ahead, "rloo")]
        + [run(seed, [0.2, 0.5, 0.7 + seed / 500], "ep_grpo") for seed in (0, 1)]
    )
    results = report.results(points)
    overview = report.overview(results).set_index("estimator")["sums, easy"]
    assert overview["ep_grpo"] == "**+0.101 ± 0.013**"
    assert overview["rloo"].startswith("+0.100 ± 1.")
    assert "grpo" not in overview
    report.differences(results, tmp_path / "ahead.svg")
    assert "ep_grpo" in (tmp_path / "ahead.svg").read_text()


class Speller:
    """A model that is certain how a word goes on backwards."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def next(self, row):
        prompt, _, said = self.tokenizer.decode(row).strip("_").partition("=")
        due = prompt[::-1] + ";"
        return self.tokenizer.convert_tokens_to_ids(due[len(said)] if len(said) < len(due) else "_")

    def __call__(self, input_ids, **_):
        logits = torch.zeros(*input_ids.shape, len(self.tokenizer))
        for i, row in enumerate(input_ids):
            logits[i, -1, self.next(row)] = 1000.0
        return SimpleNamespace(logits=logits)

    def generate(self, ids, max_new_tokens, **_):
        for _ in range(max_new_tokens):
            ids = torch.cat([ids, torch.tensor([[self.next(row)] for row in ids])], dim=1)
        return ids


def test_a_changed_token_is_judged_with_what_follows():
    task = TASKS["backwards"]
    tokenizer = make_tokenizer(task)
    words = ["glink", "cat", "house"]
    ids = [tokenizer(word[::-1] + ";")["input_ids"] for word in words]
    rollouts = Rollouts(
        prompts=[word + "=" for word in words],
        texts=[word[::-1] for word in words],
        tokens=[[*word[::-1], ";"] for word in words],
        token_ids=ids,
        rewards=[1.0] * 3,
        groups=[0, 1, 2],
    )
    for places, hot, accuracy in [
        ([0, 2, 5], False, 0.0),  # another letter, or none of an end: wrong
        ([0, 2, 5], True, 1.0),  # certain: drawn again it stays, and the model goes on rightly
        ([None, 1, None], False, 2 / 3),  # no place: unchanged
    ]:
        found = failures._accuracy_after(Speller(tokenizer), tokenizer, task, rollouts, places, hot)
        assert found == pytest.approx(accuracy)


def test_what_a_kind_of_token_costs():
    assert failures.Granularity(before=0.5, high=0.1, low=0.3).ratio == pytest.approx(2)
    assert failures.Granularity(before=0.5, high=0.1, low=0.5).ratio is None


def test_what_the_log_ratio_knows():
    rollouts = Rollouts(
        prompts=["a", "a"],
        texts=["xyz", "xyz"],
        tokens=[[*"xyz"], [*"xyz"]],
        token_ids=[[2, 3, 4], [2, 3, 4]],
        groups=[0, 0],
        rewards=[0.0, 0.0],
        logprobs=[[-0.1, -0.1, -2.0], [-1.0, -9.0, -0.5]],
        ref_logprobs=[[-0.5, -0.2, -1.0], [-1.2, -1.0, -0.9]],
        step_index=[[0, 0, 1], [0, -1, 1]],
        step_correct=[[True, False], [True, False]],
    )  # right steps: 0.5 and 0.2; wrong ones: -1.0 and 0.4
    assert failures.knowledge(rollouts, right=False) == pytest.approx(3 / 4)
    assert failures.knowledge(rollouts, right=True) is None


def test_polarity_counts_what_compare_counts():
    """The figures that the README has of the rollouts in the package."""
    found = failures.polarity(read_rollouts(shipped_rollouts()), ["grpo", "ep_grpo"])
    assert found["grpo"].punished.total == 1723
    assert found["grpo"].punished.value == pytest.approx(0.943, abs=5e-4)
    assert (found["ep_grpo"].rewarded.count, found["ep_grpo"].rewarded.total) == (15, 15)
    assert found["grpo"].dead.value == pytest.approx(0.117, abs=5e-4)
    assert found["ep_grpo"].dead.count == 0


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    small = Budget(steps=2, prompts=2, eval_every=1, eval_prompts=8, eval_samples=1, learning=2, slipping=2)
    monkeypatch.setattr(lab, "QUICK", small)
    words = ["--quick", "--out", str(tmp_path / "out")]

    def call(*more):
        result = CliRunner().invoke(lab.main, [*words, *more], catch_exceptions=False)
        return result.exit_code, result.output

    status, told = call("--estimator", "grpo")
    assert status == 0
    assert "figures and tables of 2 runs, 2 of them new." in told
    first = (tmp_path / "out/runs/sums/easy/grpo/0.csv").read_bytes()
    status, told = call()
    assert status == 0
    assert "figures and tables of 4 runs, 2 of them new." in told
    assert (tmp_path / "out/runs/sums/easy/grpo/0.csv").read_bytes() == first
    page = (tmp_path / "out" / "index.md").read_text()
    assert "| sums | easy | ep_grpo | 2 |" in page
    assert (tmp_path / "out" / "accuracy.svg").read_text().count("<path") > 10
    status, told = call("--set", "steps=3")
    assert status == 2
    assert "holds runs with steps = 2, and now it is 3; choose another --out" in told


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("stpes=3", "stpes is not of the budget; choose of steps, prompts, eval_every"),
        ("steps=many", "--set steps=many: invalid literal"),
        ("rate", "--set rate: could not convert"),
    ],
)
def test_a_number_that_is_none_is_refused(number, told):
    result = CliRunner().invoke(lab.main, ["--quick", "--set", number])
    assert result.exit_code == 2
    assert told in result.output.replace("\n", " ")


def test_a_run_is_determined_by_its_seed(tmp_path, monkeypatch):
    small = Budget(steps=2, prompts=2, eval_every=2, eval_prompts=8, eval_samples=1, learning=2, slipping=2)
    monkeypatch.setattr(lab, "QUICK", small)
    for name in ("one", "two"):
        CliRunner().invoke(
            lab.main, ["--quick", "--estimator", "ep_grpo", "--out", str(tmp_path / name)], catch_exceptions=False
        )
    one, two = (report.read(tmp_path / name / "runs").drop(columns="seconds") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)
    assert not one[one.seed == 0].accuracy.equals(one[one.seed == 1].entropy)
