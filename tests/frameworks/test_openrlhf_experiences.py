"""OpenRLHF's own experience maker and policy under the adapter, on experiences made by hand."""

import argparse
import copy
import sys
import warnings
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

import advantage_zoo as az
from advantage_zoo.rollouts import read_rollouts

with warnings.catch_warnings():  # of OpenRLHF's own imports
    warnings.simplefilter("ignore")
    import advantage_zoo_openrlhf
    import openrlhf.trainer.ray.ppo_actor as ppo_actor
    from advantage_zoo_openrlhf.training import TRAINING, count_and_log
    from frameworks.openrlhf_run.made import REFERENCE, make_files, parse
    from openrlhf.models import Actor
    from openrlhf.trainer.ppo_utils.experience import Experience
    from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
    from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController
    from transformers import AutoTokenizer

    advantage_zoo_openrlhf.install()

# OpenRLHF's: the deviation of one number, the mean over no token, a gamma that it resets.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:openrlhf")
ESTIMATOR = "--algo.advantage.estimator"
NO_KL = ("--algo.kl.init_coef", "0")
MASKS = [  # in the order of prompts, four responses each: prompt, holes, an empty one, one token
    [0, 0, 1, 1, 1, 1, 1],
    [0, 0, 1, 1, 0, 0, 1, 1],
    [0, 0, 1],
    [0, 0, 1, 1, 1],
    [0, 1, 1, 1],
    [0, 1, 1, 0, 1, 0, 1],
    [0, 1, 0, 1, 1, 1],
    [0, 1, 1, 1, 1, 1, 1],
]
REWARDS = [1.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]
ORDER = [[5, 0, 3], [1, 7], [4, 2, 6]]
"""As dynamic batching has it: micro-batches across prompts."""


@pytest.fixture(autouse=True, scope="module")
def _files(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("files")
        make_files(folder)
        patch.chdir(folder)
        yield


class Rollout:
    """Eight responses, one row each, in the order of prompts; ``experiences`` cuts them into micro-batches."""

    def __init__(self, seed=0):
        generator = np.random.default_rng(seed)
        self.width = max(map(len, MASKS))
        self.mask = np.zeros((len(MASKS), self.width), dtype=bool)
        for row, mask in enumerate(MASKS):
            self.mask[row, : len(mask)] = mask
        shape = self.mask.shape
        self.rewards = np.array(REWARDS, dtype=np.float32)
        self.logprobs = np.where(self.mask, -generator.exponential(1, shape), 0).astype(np.float32)
        self.ref_logprobs = np.where(self.mask, -generator.exponential(1, shape), 0).astype(np.float32)
        self.entropies = generator.exponential(1, shape).astype(np.float32)
        self.entropies[~self.mask] = np.nan
        self.kl = np.where(self.mask, self.logprobs - self.ref_logprobs, 0).astype(np.float32)

    def parts(self):
        for rows in ORDER:
            yield rows, max(len(MASKS[row]) for row in rows)

    def experiences(self):
        def cut(x, rows, width):
            return torch.from_numpy(np.ascontiguousarray(x[rows][:, :width]))

        made = []
        for rows, width in self.parts():
            mask = cut(self.mask, rows, width)
            rewards = torch.from_numpy(self.rewards[rows])
            made.append(
                Experience(
                    sequences=torch.ones(len(rows), width + 1, dtype=torch.long),
                    attention_mask=torch.ones(len(rows), width + 1),
                    action_mask=mask.long(),
                    action_log_probs=cut(self.logprobs, rows, width),
                    base_action_log_probs=cut(self.ref_logprobs, rows, width),
                    kl=cut(self.kl, rows, width),
                    rewards=rewards.clone(),
                    scores=rewards.clone(),
                    response_length=mask.sum(1),
                    truncated=torch.tensor([row % 3 == 0 for row in rows]),
                    total_length=mask.sum(1) + 1,
                    index=list(rows),
                    info={"reward": rewards.clone(), "baseline_rewards": torch.full((len(rows),), 0.25)},
                )
            )
        return made

    def batch(self, rewards=None, **given):
        """What the estimator should have been given, in the order of prompts."""
        arrays = {
            "rewards": self.rewards if rewards is None else rewards,
            "response_mask": self.mask,
            "group_ids": np.arange(8) // 4,
            "logprobs": self.logprobs,
            "ref_logprobs": self.ref_logprobs,
            "entropies": self.entropies,
            **given,
        }
        return az.RolloutBatch(num_groups=2, **{name: torch.from_numpy(x) for name, x in arrays.items()})

    def gathered(self, experiences):
        """Advantages in the order of prompts, and whether the padding of each micro-batch is as it was."""
        values = np.zeros(self.mask.shape, dtype=np.float32)
        for (rows, width), experience in zip(self.parts(), experiences, strict=True):
            assert experience.advantages.shape == experience.action_mask.shape == (len(rows), width)
            assert experience.advantages.dtype == torch.float32
            assert torch.equal(experience.advantages, experience.returns)
            assert experience.advantages.is_contiguous()
            values[rows, :width] = experience.advantages.numpy()
        return values


@pytest.fixture
def rollout():
    return Rollout()


@pytest.fixture
def maker(monkeypatch):
    """OpenRLHF's experience maker for flags of its command line."""

    def made(*flags):
        args = parse(monkeypatch, *flags)
        controller = FixedKLController(args.algo.kl.init_coef)
        return RemoteExperienceMaker(None, None, None, None, controller, SimpleNamespace(args=args), None)

    return made


def with_entropies(maker, rollout):
    """The maker, having got the policy's results, which carry the entropies."""
    scored = [
        torch.from_numpy(np.stack([x[rows][:, :width] for x in (rollout.logprobs, rollout.entropies)]))
        for rows, width in rollout.parts()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray.get", lambda refs: refs)
        logprobs = maker._flatten_results([scored[:2], scored[2:]], 1)
    assert all(torch.equal(found, one[0]) for found, one in zip(logprobs, scored, strict=True))
    return maker


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
        assert 0 < status.pop("timing/advantage_zoo") < 60
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
    TRAINING.metrics()  # waits for the file, as a step's end does
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


@pytest.fixture
def policy(monkeypatch):
    """OpenRLHF's policy with its own Actor, on the CPU; its calls of the model are counted."""
    monkeypatch.setitem(sys.modules, "flash_attn.ops.triton.cross_entropy", None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: torch.device("cpu"))

    def made(*flags):
        one = object.__new__(ppo_actor.PolicyModelActor.__ray_metadata__.modified_class)
        args = parse(monkeypatch, *flags)
        one.strategy = SimpleNamespace(args=args, ring_attn_group=None)
        one.actor = Actor("tiny", attn_implementation="eager", temperature=args.rollout.temperature)
        one.calls = []
        one.actor.model.register_forward_hook(lambda *_: one.calls.append(1))
        return one

    return made


SEQUENCES = torch.tensor([[3, 4, 5, 9, 8, 7, 1], [3, 4, 5, 6, 1, 0, 0]])
ATTENTION = (SEQUENCES != 0).long()
ACTIONS = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0]])


@pytest.mark.parametrize("temperature", ["1", "0.6"])
def test_the_old_log_probabilities_pass_gives_the_entropies(policy, temperature):
    one = policy(ESTIMATOR, "ep_grpo", *REFERENCE, "--rollout.temperature", temperature)
    scored_logprobs, scored_entropies = one.forward(SEQUENCES, ACTIONS, ATTENTION)
    assert len(one.calls) == 1
    positions = (ATTENTION.cumsum(1) - 1).masked_fill(ATTENTION == 0, 1)
    with torch.no_grad():
        logits = one.actor.model(SEQUENCES, attention_mask=ATTENTION, position_ids=positions).logits.float()
    whole = (logits / float(temperature)).log_softmax(-1)[:, :-1]
    entropies = -(whole.exp() * whole).sum(-1)
    assert scored_entropies.shape == ACTIONS.shape
    torch.testing.assert_close(scored_entropies[ACTIONS == 1], entropies[ACTIONS == 1], atol=1e-5, rtol=1e-5)
    logprobs = whole.gather(-1, SEQUENCES[:, 1:, None])[..., 0] * ACTIONS
    torch.testing.assert_close(scored_logprobs, logprobs, atol=1e-5, rtol=1e-5)
    assert one.actor(SEQUENCES, ACTIONS, ATTENTION).shape == ACTIONS.shape  # the training step's call is as it was


@pytest.mark.parametrize("flags", [(ESTIMATOR, "grpo", *NO_KL), (ESTIMATOR, "group_norm")])
def test_no_entropies_are_made_for_who_wants_none(policy, flags):
    assert policy(*flags).forward(SEQUENCES, ACTIONS, ATTENTION).shape == ACTIONS.shape


def test_argparse_is_python_s_for_other_parsers():
    parser = argparse.ArgumentParser()
    parser.add_argument("--zoo.ep_grpo.beta")
    parser.add_argument("--other", choices=["a"])
    assert vars(parser.parse_args(["--zoo.ep_grpo.beta", "1", "--other", "a"])) == {
        "zoo.ep_grpo.beta": "1",
        "other": "a",
    }
