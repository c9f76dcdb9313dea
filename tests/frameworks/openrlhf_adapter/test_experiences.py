"""OpenRLHF's own experience maker under the adapter, on experiences made by hand."""

import argparse
import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from advantage_zoo_openrlhf.training import TRAINING, count_and_log
from frameworks.openrlhf_adapter.made import ESTIMATOR, MASKS, NO_KL, ORDER, QUIET, with_entropies
from frameworks.openrlhf_run.made import REFERENCE
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from transformers import AutoTokenizer

import advantage_zoo as az
from advantage_zoo.rollouts import read_rollouts

pytestmark = QUIET


@pytest.mark.parametrize("spelling", ["ep_grpo", "ep_grpo | whiten", "mix(grpo, ep_grpo, 0.3)", "ep_grpo@literal"])
def test_advantages_are_those_of_the_same_batch(maker, rollout, spelling):
    made = with_entropies(maker(ESTIMATOR, spelling, *REFERENCE), rollout)
    experiences = made.compute_advantages_and_returns(rollout.experiences())
    values = rollout.gathered(experiences)
    expected = az.compute_advantages(rollout.batch(), spelling).values.numpy()
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert np.abs(values[1:4]).max() > 0.01
    assert np.isfinite(values).all()
    assert (values[~rollout.mask] == 0).all()
    assert (expected[4:] != 0).any()  # the dead group learns


def test_nothing_of_ours_is_left_on_what_is_shipped(maker, rollout):
    made = with_entropies(maker(ESTIMATOR, "ep_grpo", *REFERENCE), rollout)
    for experience in made.compute_advantages_and_returns(rollout.experiences()):
        assert set(vars(experience)) == set(Experience.__dataclass_fields__)
        assert experience.kl is None
        assert set(experience.info) == {"reward", "baseline_rewards", "group_reward_std", "return"}
    assert "zoo_entropies" not in vars(made)
    assert made.advantage_estimator == made.args.algo.advantage.estimator == "ep_grpo"


OPENRLHF_S = {
    "group_norm": "grpo@openrlhf",
    "dr_grpo": "dr_grpo@openrlhf",
    "rloo": "rloo@openrlhf",
    "reinforce": "reinforce_pp@openrlhf",
    "reinforce_baseline": "reinforce_pp_baseline@openrlhf",
}
SETTINGS = {
    "no KL": NO_KL,
    "KL in the reward": ("--algo.kl.init_coef", "0.5"),
    "KL in the loss": REFERENCE,
    "a clip": (*NO_KL, "--reward.clip_range", "-0.5", "0.6"),
    "overlong penalty": (*NO_KL, "--reward.overlong_buffer_len", "10", "--reward.overlong_penalty_factor", "2"),
    "stop penalty": (*NO_KL, "--reward.stop_properly_penalty_coef", "0.5"),
    "both penalties and KL": (
        *("--algo.kl.init_coef", "0.1", "--reward.overlong_buffer_len", "9"),
        *("--reward.stop_properly_penalty_coef", "-0.5"),
    ),
}


@pytest.mark.parametrize("flags", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("own", OPENRLHF_S)
def test_the_presets_give_what_openrlhf_gives(maker, rollout, own, flags):
    theirs = maker(ESTIMATOR, own, *flags).compute_advantages_and_returns(rollout.experiences())
    ours = maker(ESTIMATOR, OPENRLHF_S[own], *flags).compute_advantages_and_returns(rollout.experiences())
    there = np.where(rollout.mask, rollout_values(rollout, theirs), 0)
    np.testing.assert_allclose(rollout.gathered(ours), there, rtol=1e-5, atol=1e-5)
    assert np.abs(there).max() > 0.1
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.rewards, other.rewards)
        assert torch.equal(one.info["reward"], other.info["reward"])
        assert torch.equal(one.info["group_reward_std"], other.info["group_reward_std"])


def rollout_values(rollout, experiences):
    values = np.zeros(rollout.mask.shape)
    for (rows, width), experience in zip(rollout.parts(), experiences, strict=True):
        values[rows, :width] = experience.advantages.numpy()
    return values


@pytest.mark.parametrize("own", [*OPENRLHF_S, "flash_reinforce"])
def test_openrlhf_s_own_estimators_are_untouched(maker, rollout, own):
    made = maker(ESTIMATOR, own)
    ours = made.compute_advantages_and_returns(rollout.experiences())
    untouched = RemoteExperienceMaker.compute_advantages_and_returns.__wrapped__
    for one, other in zip(ours, untouched(made, rollout.experiences()), strict=True):
        assert all(torch.equal(getattr(one, x), getattr(other, x)) for x in ("advantages", "returns", "rewards"))
        assert one.info.keys() == other.info.keys()


def test_penalties_reach_our_estimators(maker, rollout):
    flags = (*NO_KL, "--reward.overlong_buffer_len", "10", "--reward.stop_properly_penalty_coef", "-0.5")
    made = maker(ESTIMATOR, "grpo", *flags)
    shaped = rollout.rewards - np.maximum(rollout.mask.sum(1) - 2, 0) / 10
    shaped[[0, 3, 6]] = -0.5
    values = rollout.gathered(made.compute_advantages_and_returns(rollout.experiences()))
    expected = az.compute_advantages(rollout.batch(shaped.astype(np.float32)), "grpo").values.numpy()
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_openrlhf_s_clip_is_not_applied_to_our_advantages(maker, rollout):
    rollout.rewards = rollout.rewards * 100
    values = rollout.gathered(
        maker(ESTIMATOR, "dr_grpo()", *NO_KL).compute_advantages_and_returns(rollout.experiences())
    )
    assert values.max() == 200


def test_the_reward_function_s_logs_are_looked_at_for_what_openrlhf_has_not(maker, rollout):
    values = rollout.gathered(maker(ESTIMATOR, "remax", *NO_KL).compute_advantages_and_returns(rollout.experiences()))
    np.testing.assert_allclose(values[1], np.where(rollout.mask[1], -0.25, 0))
    experiences = rollout.experiences()
    for experience in experiences:
        del experience.info["baseline_rewards"]
    with pytest.raises(ValueError, match="remax needs baseline_rewards"):
        maker(ESTIMATOR, "remax", *NO_KL).compute_advantages_and_returns(experiences)


def test_the_step_is_openrlhf_s(maker, rollout):
    made = maker(ESTIMATOR, "ep_grpo", *REFERENCE, "--zoo.ep_grpo.progress_warmup_steps", "4")
    seen = []

    def train_step(self, samples, global_step):
        experiences = with_entropies(made, samples).compute_advantages_and_returns(samples.experiences())
        seen.append(samples.gathered(experiences))
        return {"reward": 1.0}, global_step + 1

    TRAINING.metrics()  # what is left of other tests
    trainer = SimpleNamespace(experience_maker=made)
    for number in (0, 2, 9):
        status, following = count_and_log(train_step, trainer, rollout, number)
        assert following == number + 1
        expected = az.compute_advantages(rollout.batch(), f"ep_grpo(progress_weight={min(number / 4, 1) * 0.2})")
        np.testing.assert_allclose(seen[-1], expected.values.numpy(), atol=1e-6)
        prefix = "advantage/ep_grpo"
        logged = {f"{prefix}/{key}": pytest.approx(x.item(), abs=1e-6) for key, x in expected.diagnostics.items()}
        assert 0 < status.pop("advantage/seconds") < 60
        assert status == {"reward": 1.0} | logged
    assert not np.allclose(seen[0], seen[1])


def test_rollouts_are_written_as_the_estimator_saw_them(maker, rollout, tmp_path):
    """Tool output, which is in the holes of a mask, included; prompts and padding left out."""
    flags = (*REFERENCE, "--zoo.dump_rollouts", str(tmp_path))
    made = with_entropies(maker(ESTIMATOR, "ep_grpo", *flags), rollout)
    made.tokenizer, made.zoo_step = AutoTokenizer.from_pretrained("tiny"), 7
    experiences = rollout.experiences()
    for (rows, width), experience in zip(rollout.parts(), experiences, strict=True):
        slots = range(width + 1)
        experience.prompts = [f"prompt {row // 4}" for row in rows]
        experience.sequences = torch.tensor([[(3 + 7 * row + k) % 64 for k in slots] for row in rows])
        experience.attention_mask = torch.tensor([[int(k <= len(MASKS[row])) for k in slots] for row in rows])
    values = rollout.gathered(made.compute_advantages_and_returns(experiences))
    TRAINING.flush()  # as a step's end does
    found = read_rollouts(tmp_path / "step_000007.parquet")
    advantages = az.compute_advantages(found.batch(), "ep_grpo").values
    order = [row for rows in ORDER for row in rows]
    assert list(found.prompts) == [f"prompt {row // 4}" for row in order]
    assert len({found.groups[i] for i, row in enumerate(order) if row < 4}) == 1
    assert len(set(found.groups)) == 2
    for i, row in enumerate(order):
        first, end = MASKS[row].index(1), len(MASKS[row])
        assert list(found.response_mask[i]) == [bool(x) for x in MASKS[row][first:]]
        assert list(found.token_ids[i]) == [(3 + 7 * row + k + 1) % 64 for k in range(first, end)]
        assert found.rewards[i] == rollout.rewards[row]
        np.testing.assert_allclose(advantages[i][: end - first], values[row, first:end], atol=1e-6)


def test_a_process_that_was_not_reached_says_so_and_trains_nothing(maker, rollout):
    made = maker(ESTIMATOR, "ep_grpo", *REFERENCE)
    unreached = RemoteExperienceMaker.compute_advantages_and_returns.__wrapped__
    with pytest.raises(Exception, match="advantage_estimator ep_grpo"):
        unreached(made, rollout.experiences())


def test_missing_entropies_are_named(maker, rollout):
    made = maker(ESTIMATOR, "ep_grpo", *REFERENCE)
    with pytest.raises(ValueError, match="ep_grpo needs entropies"):
        made.compute_advantages_and_returns(rollout.experiences())
    assert made.advantage_estimator == made.args.algo.advantage.estimator == "ep_grpo"


@pytest.mark.parametrize("first", [True, False])
def test_what_is_not_finite_is_named_and_reaches_no_loss(maker, rollout, first):
    made = maker(ESTIMATOR, "ep_grpo", *REFERENCE)
    if not first:
        with_entropies(made, rollout).compute_advantages_and_returns(rollout.experiences())
    broken = copy.deepcopy(rollout)
    broken.entropies[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"entropies\[3, 2\].* is nan: not finite"):
        with_entropies(made, broken).compute_advantages_and_returns(broken.experiences())


@dataclass(frozen=True)
class Broken(az.Estimator):
    name: ClassVar[str] = "broken"

    def compute(self, batch):
        return az.Advantages(batch.to_tokens(batch.rewards / 0))


def test_an_estimator_s_own_nan_reaches_no_loss(maker, rollout):
    made = maker(ESTIMATOR, "grpo", *NO_KL)
    made.args.zoo = replace(made.args.zoo, estimator=Broken())
    with pytest.raises(ValueError, match="broken gave row 0, column 1 an advantage that is not finite"):
        made.compute_advantages_and_returns(rollout.experiences())


def test_dynamic_filtering_that_got_no_scores_is_named(maker, rollout):
    made = maker(ESTIMATOR, "grpo", *NO_KL, "--algo.dynamic_filtering_enable")
    made.compute_advantages_and_returns(rollout.experiences())
    experiences = rollout.experiences()
    experiences[1].scores = None
    with pytest.raises(ValueError, match="dynamic_filtering_enable kept every prompt"):
        made.compute_advantages_and_returns(experiences)


@pytest.mark.filterwarnings("ignore:.*no valid token:advantage_zoo.RolloutWarning")
def test_a_response_without_a_token_gets_zeros(maker, rollout):
    rollout.mask[2] = False
    made = with_entropies(maker(ESTIMATOR, "ep_grpo", *REFERENCE), rollout)
    values = rollout.gathered(made.compute_advantages_and_returns(rollout.experiences()))
    assert np.isfinite(values).all()
    assert (values[2] == 0).all()
    assert np.abs(values[1]).max() > 0.01


def test_argparse_is_python_s_for_other_parsers():
    parser = argparse.ArgumentParser()
    parser.add_argument("--zoo.ep_grpo.beta")
    parser.add_argument("--other", choices=["a"])
    assert vars(parser.parse_args(["--zoo.ep_grpo.beta", "1", "--other", "a"])) == {
        "zoo.ep_grpo.beta": "1",
        "other": "a",
    }
