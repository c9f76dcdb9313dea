"""Rollouts made by hand, as OpenRLHF's experiences and as the batch that an estimator should be given."""

import warnings

import numpy as np
import pytest
import torch

import advantage_zoo as az

with warnings.catch_warnings():  # of OpenRLHF's own imports
    warnings.simplefilter("ignore")
    import advantage_zoo_openrlhf
    import openrlhf.trainer.ray.ppo_actor  # noqa: F401 - so that nobody imports it later, with warnings
    from openrlhf.trainer.ppo_utils.experience import Experience

    advantage_zoo_openrlhf.install()


# OpenRLHF's: the deviation of one number, the mean over no token, a gamma that it resets.
QUIET = pytest.mark.filterwarnings("ignore::UserWarning:openrlhf")
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
