"""The Python API of compare, and the tables that it prints."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from made_rollouts import four, made_rollouts
from rich.console import Console

import advantage_zoo as az
from advantage_zoo.compare import ComparisonError, compare
from advantage_zoo.compare.choosing import ChoiceError, choose, configure
from advantage_zoo.compare.selection import groups_by_outcome, telling_failure
from advantage_zoo.compare.tables import cosine as cosine_text
from advantage_zoo.compare.tables import print_comparison
from advantage_zoo.compare.texts import visible
from advantage_zoo.rollouts import read_rollouts, shipped_rollouts


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
    ("token", "shown"),
    [
        (" a", "␣a"),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("", "∅"),
        ("\x1b[31m", "�[31m"),
        ("\u202e", "�"),
        ("a\u2066b\u2069", "a�b�"),
        ("第一\u3000題", "第一\u3000題"),
        ("段\u00a0", "段\u00a0"),
        ("ไทย\u200b", "ไทย\u200b"),
        ("\u200fشكر", "\u200fشكر"),
        ("\u200b", "∅"),
        ("\u064e", "◌\u064e"),  # a vowel sign alone
        ("\u0e31", "◌\u0e31"),
    ],
)
def test_tokens_are_made_visible_and_harmless(token, shown):
    assert visible(token) == shown


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (-0.001, "0.00"), (-0.5, "-0.50"), (1.0, "1.00")])
def test_a_cosine_has_two_decimals(value, text):
    assert cosine_text(value) == text
