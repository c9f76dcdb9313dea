"""OpenRLHF's own policy under the adapter: entropies from the pass that gives the old log-probabilities."""

import sys
from types import SimpleNamespace

import pytest
import torch
from frameworks.openrlhf_adapter.made import ESTIMATOR, NO_KL, QUIET
from frameworks.openrlhf_run.made import REFERENCE, parse
from openrlhf.models import Actor
from openrlhf.trainer.ray import ppo_actor

pytestmark = QUIET


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
