"""Metrics on cases small enough to do by hand, and the Python API of compare."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from made_rollouts import made_rollouts
from rich.console import Console

import advantage_zoo as az
from advantage_zoo.compare import ComparisonError, compare
from advantage_zoo.compare.choosing import ChoiceError, choose, configure
from advantage_zoo.compare.part import Part
from advantage_zoo.compare.selection import groups_by_outcome, telling_failure
from advantage_zoo.compare.survey import Survey
from advantage_zoo.compare.tables import cosine as cosine_text
from advantage_zoo.compare.tables import print_comparison
from advantage_zoo.compare.tally import Agreement, tally
from advantage_zoo.compare.texts import visible
from advantage_zoo.rollouts import Rollouts, read_rollouts, shipped_rollouts
from advantage_zoo.rollouts.ragged import Ragged


def four(**changes):
    """Two groups of two responses, lengths 2, 3, 3 and 4; rewards 0, 1 and 1, 1."""
    lengths = [2, 3, 3, 4]
    fields = {
        "prompts": ["p", "p", "q", "q"],
        "texts": ["x"] * 4,
        "tokens": [["a"] * n for n in lengths],
        "token_ids": [[0] * n for n in lengths],
        "rewards": [0.0, 1.0, 1.0, 1.0],
        "groups": [7, 7, 3, 3],
    }
    return Rollouts(**{**fields, **changes})


def measured(rollouts, rows, threshold=0.5):
    ragged = Ragged.of(rollouts)
    survey = Survey.of(ragged)
    part = Part(ragged, survey.lines, threshold)
    mask = np.asarray(part.batch.response_mask)
    values = np.zeros(mask.shape)
    for row, entries in enumerate(rows):
        values[row, : len(entries)] = entries
    return tally(values[mask], part, np.arange(len(ragged))).metrics(survey.valid)


def agreement(values, mask):
    return Agreement.of([v[mask] for v in values]).matrices()


def test_signal_counts_only_exact_zeros_on_valid_tokens():
    m = measured(four(), [[0, 0], [0, 0, 1e-300], [0, 0, 0], [0, 0, 0, 0]])
    assert (m.groups_without_signal.count, m.groups_without_signal.total) == (1, 2)
    assert (m.tokens_without_signal.count, m.tokens_without_signal.total) == (11, 12)
    masked = four(response_mask=[[True] * 2, [True, True, False], [True] * 3, [True] * 4])
    m = measured(masked, [[0, 0], [0, 0, 5], [0, 0, 0], [1, 0, 0, 0]])
    assert (m.groups_without_signal.count, m.groups_without_signal.total) == (1, 2)  # what is masked is no signal
    assert (m.tokens_without_signal.count, m.tokens_without_signal.total) == (10, 11)
    assert m.mean_abs == pytest.approx(1 / 11)


def test_high_entropy_share_takes_the_top_fifth_and_ties_with_its_last():
    # 12 valid tokens: the top 20 % are 3 (2.4, rounded up): 9, 8 and 7.
    entropies = [[9, 0], [8, 0.1, 0.2], [7, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]
    rollouts = four(entropies=[np.array(row, np.float32) for row in entropies])
    rows = [[4, 0], [-3, 0, 0], [2, 0, 0], [1, 0, 0, 0]]
    assert measured(rollouts, rows).high_entropy_share == pytest.approx(9 / 10)
    assert measured(rollouts, rows).high_entropy_tokens == pytest.approx(3 / 12)
    assert measured(rollouts, [[1] * n for n in (2, 3, 3, 4)]).high_entropy_share == pytest.approx(3 / 12)
    tied = four(entropies=[np.ones(n, np.float32) for n in (2, 3, 3, 4)])
    assert measured(tied, rows).high_entropy_share == measured(tied, rows).high_entropy_tokens == 1.0
    assert measured(rollouts, [[0]] * 4).high_entropy_share is None  # no signal at all
    assert measured(four(), rows).high_entropy_share is None  # no entropies


def test_high_entropy_of_masked_tokens_does_not_count():
    entropies = [np.array(row, np.float32) for row in ([99, 1], [98, 2, 3], [97, 4, 5], [96, 6, 7, 8])]
    mask = [[False] + [True] * (n - 1) for n in (2, 3, 3, 4)]
    rollouts = four(entropies=entropies, response_mask=mask)
    m = measured(rollouts, [[5, 1], [5, 1, 1], [5, 1, 1], [5, 1, 3, 7]])  # of 8 tokens the top two hold 3 and 7
    assert m.high_entropy_share == pytest.approx(10 / 16)


def test_polarity_sums_each_step_and_leaves_unknown_ones_out():
    rollouts = four(
        step_index=[[0, 1], [0, 0, 1], [0, 1, -1], [0, 0, 1, 2]],
        step_correct=[[True, True, False], [False, True], [None, False], [True, False, False]],
    )
    # Failed response 0: right steps -1 and +1 (its third step has no token). Successful: wrong steps
    # 2 - 1 = 1, then 3, then -4 and 0; the right step of 1 and the unknown one of 2 do not count.
    m = measured(rollouts, [[-1, 1], [2, -1, -9], [-9, 3, -9], [5, 5, -4, 0]])
    assert (m.right_steps_punished.count, m.right_steps_punished.total) == (1, 2)
    assert (m.right_steps_rewarded.count, m.right_steps_rewarded.total) == (1, 2)
    assert (m.wrong_steps_rewarded.count, m.wrong_steps_rewarded.total) == (2, 4)
    assert (m.wrong_steps_punished.count, m.wrong_steps_punished.total) == (1, 4)
    assert m.wrong_steps_rewarded.value == 0.5


def test_polarity_minds_the_mask_and_the_threshold():
    steps = {"step_index": [[0] * n for n in (2, 3, 3, 4)], "step_correct": [[True], [True], [False], [False]]}
    values = [[-2, 5], [-1, -1, -1], [1, 1, 1], [1, 1, 1, 1]]
    mask = [[True, False], [True] * 3, [True] * 3, [True] * 4]
    m = measured(four(**steps, response_mask=mask), values)
    assert (m.right_steps_punished.count, m.right_steps_punished.total) == (1, 1)  # 5 is masked
    assert (m.wrong_steps_rewarded.count, m.wrong_steps_rewarded.total) == (2, 2)
    m = measured(four(**steps), values, threshold=1.0)  # a reward equal to the threshold is a failure
    assert (m.right_steps_punished.count, m.right_steps_punished.total) == (1, 2)
    assert m.wrong_steps_rewarded.total == 0
    assert m.wrong_steps_rewarded.value is None


def test_blame_is_the_share_of_the_negative_advantage_on_wrong_steps():
    rollouts = four(
        step_index=[[0, 1], [0] * 3, [0] * 3, [0] * 4], step_correct=[[True, False], [False], [False], [False]]
    )
    m = measured(rollouts, [[-1, -3], [-9] * 3, [-9] * 3, [-9] * 4])
    assert m.blame_on_wrong_steps == pytest.approx(3 / 4)
    assert m.wrong_step_tokens == pytest.approx(1 / 2)
    assert measured(rollouts, [[1, 3], [0] * 3, [0] * 3, [0] * 4]).blame_on_wrong_steps is None


def test_length_bias_compares_the_longest_quarter_with_the_shortest():
    # Quartiles of 2, 3, 3, 4 are 2.75 and 3.25: the shortest quarter is the first response, the longest the last.
    assert measured(four(), [[1, 3], [9] * 3, [9] * 3, [4] * 4]).length_bias == pytest.approx(2.0)
    assert measured(four(), [[-1, -1], [0] * 3, [0] * 3, [1] * 4]).length_bias == pytest.approx(1.0)
    assert measured(four(), [[0, 0], [1] * 3, [1] * 3, [1] * 4]).length_bias is None
    equal = four(tokens=[["a"] * 2] * 4, token_ids=[[0] * 2] * 4)
    assert measured(equal, [[1, 1], [2, 2], [3, 3], [4, 4]]).length_bias is None


def test_length_correlation_is_spearmans():
    assert measured(four(), [[1] * 2, [2] * 3, [2] * 3, [3] * 4]).length_correlation == pytest.approx(1.0)
    assert measured(four(), [[-3] * 2, [2] * 3, [2] * 3, [1] * 4]).length_correlation == pytest.approx(-1.0)
    assert measured(four(), [[1] * n for n in (2, 3, 3, 4)]).length_correlation is None
    # Ranks of length 1, 2.5, 2.5, 4 and of |A| 1, 2, 3, 4.
    wanted = np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1]
    assert measured(four(), [[1] * 2, [2] * 3, [3] * 3, [4] * 4]).length_correlation == pytest.approx(wanted)


def test_agreement_by_hand():
    mask = np.array([[True, True], [True, False]])
    a, b, zero = np.array([[1.0, 0.0], [2.0, 9.0]]), np.array([[2.0, 1.0], [0.0, -9.0]]), np.zeros((2, 2))
    cosine, sign = agreement([a, b, -a, zero], mask)
    assert cosine[0][1] == pytest.approx(2 / 5)
    assert cosine[0][0] == pytest.approx(1.0)
    assert cosine[0][2] == pytest.approx(-1.0)
    assert cosine[0][3] is None
    assert cosine[3][3] is None
    assert sign[0][1] == pytest.approx(1 / 3)
    assert sign[0][2] == pytest.approx(1 / 3)  # the zero agrees with itself
    assert sign[3] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_agreement_neither_overflows_nor_vanishes(scale):
    a, b = np.array([[3.0, 4.0]]) * scale, np.array([[4.0, 3.0]]) / scale
    assert agreement([a, b], np.ones((1, 2), bool))[0][0][1] == pytest.approx(0.96)


def test_no_valid_token_leaves_nothing_to_tell():
    rollouts = four(response_mask=[[False] * n for n in (2, 3, 3, 4)], entropies=[np.ones(n) for n in (2, 3, 3, 4)])
    m = measured(rollouts, [[1, 1]] * 4)
    assert m.tokens_without_signal.value is None
    assert (m.high_entropy_share, m.length_bias, m.length_correlation, m.mean_abs) == (None, None, None, 0.0)
    cosine, sign = agreement([np.ones((4, 4))], np.zeros((4, 4), bool))
    assert cosine == sign == [[None]]


def test_compare_takes_names_instances_and_pairs():
    tuned = az.estimators.EPGRPO(num_buckets=3)
    done = compare(made_rollouts(), ["grpo", tuned, ("mine", az.estimators.DrGRPO())])
    assert [result.key for result in done.results] == ["grpo", "ep_grpo", "mine"]
    assert done.results[1].parameters["num_buckets"] == 3
    expected = az.compute_advantages(made_rollouts().batch(), tuned)
    np.testing.assert_array_equal(done.results[1].values, expected.values)
    assert done.results[1].diagnostics["sign_flips"] == float(expected.diagnostics["sign_flips"])
    with pytest.raises(ComparisonError, match="ep_grpo is compared twice"):
        compare(made_rollouts(), ["ep_grpo", tuned])
    with pytest.raises(LookupError, match="did you mean 'grpo'"):
        compare(made_rollouts(), ["gpro"])


def test_grpo_and_ep_grpo_on_dead_groups():
    done = compare(made_rollouts(), ["grpo", "ep_grpo"])
    grpo, ep = (result.metrics for result in done.results)
    assert (grpo.groups_without_signal.count, grpo.groups_without_signal.total) == (2, 3)
    assert ep.groups_without_signal.count == 0
    assert grpo.high_entropy_share == pytest.approx(grpo.high_entropy_tokens, abs=0.2)
    assert grpo.right_steps_punished.total == 5  # one in each failed response; the second step is wrong there
    assert grpo.right_steps_punished.count == 2  # those of the mixed group


def test_json_has_a_stable_form_and_no_nan():
    done = compare(made_rollouts(), ["grpo", "ep_grpo"])
    out = done.to_dict()
    assert json.loads(json.dumps(out, allow_nan=False)) == out
    assert set(out) == {"rollouts", "threshold", "estimators", "left_out", "agreement"}
    assert set(out["rollouts"]) == {"responses", "groups", "tokens", "metadata"}
    assert set(out["agreement"]) == {"names", "cosine", "sign"}
    for entry in out["estimators"]:
        assert set(entry) == {"name", "parameters", "metrics", "diagnostics"}
        assert {
            "groups_without_signal",
            "tokens_without_signal",
            "high_entropy_share",
            "high_entropy_tokens",
            "right_steps_punished",
            "wrong_steps_rewarded",
            "right_steps_rewarded",
            "wrong_steps_punished",
            "length_bias",
            "length_correlation",
            "mean_abs",
        } <= set(entry["metrics"])
        assert set(entry["metrics"]["right_steps_punished"]) == {"count", "total", "share"}
    assert out["agreement"]["cosine"][0][1] == out["agreement"]["cosine"][1][0]


@dataclass(frozen=True)
class Odd(az.Estimator):
    name: ClassVar[str] = "odd"
    what: str = az.param("raise", doc="How it fails.")

    def compute(self, batch):
        values = batch.to_tokens(batch.rewards)
        match self.what:
            case "raise":
                raise KeyError("lost")
            case "nan":
                return az.Advantages(batch.xp.where(batch.mask, values * math.nan, 0.0))
            case "huge":
                return az.Advantages(values * 1e308, {"infinite": np.float64("inf"), "a_word": np.array("word")})
            case _:
                return az.Advantages(values, {"one_a_response": batch.rewards, "flag": np.bool_(True)})


def test_what_goes_wrong_inside_an_estimator_is_named():
    with pytest.raises(ComparisonError, match=r"odd failed on these rollouts \(KeyError: 'lost'\)"):
        compare(made_rollouts(), [Odd()])
    with pytest.raises(ComparisonError, match=r"odd failed .* 50 advantages are not finite, the first at row 0, tok"):
        compare(made_rollouts(), [Odd(what="nan")])


def test_overflow_becomes_null_and_is_printed_as_a_dash():
    done = compare(made_rollouts(), [Odd(what="huge"), "grpo"])
    out = json.loads(json.dumps(done.to_dict(), allow_nan=False))
    assert out["estimators"][0]["diagnostics"] == {"infinite": None}
    assert out["estimators"][0]["metrics"]["mean_abs"] is None
    assert out["agreement"]["cosine"][0][0] == pytest.approx(1.0)
    text = printed(done)
    assert " nan" not in text


def test_only_scalar_diagnostics_are_shown():
    assert compare(made_rollouts(), [Odd(what="fine")]).results[0].diagnostics == {"flag": 1.0}


def test_missing_inputs_are_named():
    with pytest.raises(ComparisonError, match="ep_grpo needs entropies, which the rollouts do not have"):
        compare(made_rollouts(entropies=None), ["ep_grpo"])


def test_choose_by_default_takes_what_the_file_can_feed(monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")
    names, left_out = choose(made_rollouts().fields, "f.parquet")
    assert set(names) | set(left_out) == set(az.names())
    assert left_out["gae"] == "needs values, which no rollout file holds"
    bare = made_rollouts(entropies=None, ref_logprobs=None)
    names, left_out = choose(bare.fields, "f")
    assert {"dapo", "dr_grpo", "grpo"} <= set(names)
    assert left_out["ep_grpo"] == "needs entropies and ref_logprobs, which these rollouts do not have"
    with pytest.raises(ChoiceError, match=r"f has no entropies and no ref_logprobs, which ep_grpo needs; .*grpo runs"):
        choose(bare.fields, "f", ["grpo", "ep_grpo"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("grpo", "expected NAME.PARAM=VALUE"),
        ("grpo=1", "expected NAME.PARAM=VALUE"),
        (".eps=1", "expected NAME.PARAM=VALUE"),
        ("grpo.=1", "expected NAME.PARAM=VALUE"),
        ("dapo.eps=1", "'dapo' is not compared; compared are grpo, ep_grpo"),
        ("ep_grp.eps=1", r"'ep_grp' is not compared \(did you mean 'ep_grpo'\?\)"),
        ("grpo.epsilon=1", r"no parameter 'epsilon' \(did you mean 'eps'\?\)"),
        ("grpo.name=x", "no parameter 'name'"),
        ("grpo.compute=x", "no parameter 'compute'"),
        ("grpo.eps=small", "grpo.eps is 'small'; expected a number"),
        ("grpo.eps=nan", "grpo.eps is 'nan'; expected a number"),
        ("grpo.eps=-1", "grpo.eps is -1.0; expected at least 0"),
        ("grpo.eps=", "grpo.eps is ''; expected a number"),
        ("ep_grpo.num_buckets=2.5", "ep_grpo.num_buckets is 2.5; expected a whole number"),
        ("ep_grpo.gate_progress=maybe", "ep_grpo.gate_progress is 'maybe'; expected true or false"),
        ("ep_grpo.gate_scope=grup", r"'grup' \(did you mean 'group'\?\)"),
    ],
)
def test_bad_settings_name_themselves(setting, words):
    with pytest.raises(ChoiceError, match=words) as failed:
        configure(["grpo", "ep_grpo"], [setting])
    assert setting in str(failed.value)


def test_settings_are_typed_by_the_default():
    (_, made), (_, grpo) = configure(
        ["ep_grpo", "grpo"],
        ["ep_grpo.num_buckets=5", "ep_grpo.gate_progress=False", "ep_grpo.beta=1", "ep_grpo.gate_scope=batch"],
    )
    assert (made.num_buckets, made.gate_progress, made.beta, made.gate_scope) == (5, False, 1.0, "batch")
    assert type(made.beta) is float
    assert grpo == az.estimators.GRPO()


def test_groups_by_outcome_and_the_responses_that_are_drawn():
    rollouts = made_rollouts()
    assert groups_by_outcome(rollouts, 0.5) == {
        "mixed": [[0, 1, 2]],
        "all right": [[3, 4, 5]],
        "all wrong": [[6, 7, 8]],
    }
    assert telling_failure(rollouts, 0.5) == 2  # as many right steps as row 1, and longer
    assert telling_failure(made_rollouts(rewards=[1.0] * 9), 0.5) is None


def printed(done, width=80):
    console = Console(width=width, no_color=True, markup=False, highlight=False)
    with console.capture() as capture:
        print_comparison(done, console)
    return capture.get()


def test_tables_fit_80_columns_without_cutting_a_number():
    text = printed(compare(made_rollouts(), ["grpo", "dapo", "dr_grpo", "ep_grpo"]))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "66.7 %" in text  # GRPO's dead groups
    lane = next(
        line for line in text.splitlines() if line.startswith("grpo   ") and "%" not in line and "." not in line
    )
    assert set(lane.removeprefix("grpo").strip()) == {"="}  # without colour, the glyphs still tell


def test_many_long_names_are_wrapped_into_further_tables_not_cut():
    pairs = [(f"a_plugin_with_a_name:estimator_{i}", az.estimators.GRPO()) for i in range(12)]
    text = printed(compare(made_rollouts(), pairs))
    assert "…" not in text
    assert "Agreement with a_plugin_with_a_name:estimator_0" in text  # of many, with the first only
    assert "Agreement, continued" in printed(compare(made_rollouts(), pairs[:6]))
    for key, _ in pairs:
        assert text.count(key) >= 4


def test_the_largest_advantages_where_rewards_say_nothing():
    rollouts = made_rollouts()
    done = compare(rollouts, ["grpo", "reinforce"])
    grpo, reinforce = (result.metrics for result in done.results)
    assert grpo.largest == np.abs(done.results[0].values).max()
    assert (grpo.largest_equal, grpo.largest_alone) == (0.0, None)
    assert reinforce.largest_equal == 1.0
    assert "in groups of" in printed(done)
    alone = replace(rollouts, groups=[*range(100, 109)])
    (only,) = compare(alone, ["reinforce"]).results
    assert (only.metrics.largest_equal, only.metrics.largest_alone) == (None, 1.0)


def test_a_schedule_takes_the_step_that_is_given():
    which = "ep_grpo(progress_weight=linear(0, 0.2, 10))"
    (at_five,) = compare(made_rollouts(), [which], step=5).results
    (plain,) = compare(made_rollouts(), [("ep_grpo", az.estimators.EPGRPO(progress_weight=0.1))]).results
    np.testing.assert_allclose(at_five.values, plain.values, atol=1e-15)
    with pytest.raises(ComparisonError, match="follows a schedule; pass step="):
        compare(made_rollouts(), [which])


def test_the_shipped_defects():
    """0 turned into 119 by an eps of 1e-9, and the raw reward of a group of one: presets beside ours."""
    rollouts = read_rollouts(shipped_rollouts("defects"))
    unclipped = "grpo@openrlhf(clip_range=[-1000, 1000])"
    done = compare(rollouts, ["grpo", "grpo@verl", "grpo@trl", "grpo@openrlhf", unclipped])
    ours, verl, trl, clipped, openrlhf = (result.metrics for result in done.results)
    assert (ours.largest_equal, ours.largest_alone) == (0.0, 0.0)
    assert verl.largest_alone == pytest.approx(0.3, abs=1e-6)
    assert verl.largest_equal == pytest.approx(0.1057, abs=1e-4)
    assert trl.largest_equal == pytest.approx(0.00119, abs=1e-5)
    assert openrlhf.largest_equal == pytest.approx(119.2, abs=0.1)
    assert clipped.largest_equal == 10.0  # what its trainer makes of the 119 by default
    with pytest.raises(ValueError, match="no rollouts called 'defect'; there are arithmetic, defects"):
        shipped_rollouts("defect")


def test_rollouts_without_steps_and_without_a_mixed_group_are_printed():
    plain = made_rollouts(step_index=None, step_correct=None, rewards=[1.0] * 9)
    text = printed(compare(plain, ["grpo"]))
    assert "Polarity" not in text
    assert "Agreement" not in text  # with whom
    assert "100.0 %" in text


def test_a_long_response_is_drawn_in_part():
    n = 5000
    long = four(
        tokens=[["ab"] * n, *[["a"] * 3] * 3], token_ids=[[0] * n, *[[0] * 3] * 3], rewards=[0.0, 1.0, 1.0, 1.0]
    )
    text = printed(compare(long, ["grpo"]))
    assert "more tokens; --show 7 and --report draw them" in text
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize(
    ("token", "shown"), [(" a", "␣a"), ("\n", "⏎"), ("\t", "⇥"), ("", "∅"), ("\x1b[31m", "�[31m"), ("\u202e", "�")]
)
def test_tokens_are_made_visible_and_harmless(token, shown):
    assert visible(token) == shown


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (-0.001, "0.00"), (-0.5, "-0.50"), (1.0, "1.00")])
def test_a_cosine_has_two_decimals(value, text):
    assert cosine_text(value) == text
