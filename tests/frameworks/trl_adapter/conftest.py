"""A tiny model, and trainers of it that have made their steps on one thread of the CPU."""

import os

import pytest

pytest.importorskip("trl")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # TRL's warning of rollout_func

import tiny_trl
import torch
from tiny_trl import Watched, config, few_digits, prompts
from transformers import AutoTokenizer
from trl import GRPOTrainer


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread):
    """In every test here."""


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """One for all: PEFT writes its place into the settings of an adapter that the tests share."""
    return tiny_trl.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def watched(model, tmp_path):
    """A trainer that has made its steps."""

    def train(estimator, rewards=few_digits, policy=model, args=None, data=None, steps=True, **named):
        settings = config(tmp_path, **(args or {}))
        tokenizer = AutoTokenizer.from_pretrained(model)
        data = prompts() if data is None else data
        trainer = Watched(
            policy, rewards, settings, data, processing_class=tokenizer, advantage_estimator=estimator, **named
        )
        if steps:
            trainer.train()
        return trainer

    return train


@pytest.fixture
def own(monkeypatch):
    """What TRL itself computes in the same run, (B,) a generation."""
    kept = []
    original = GRPOTrainer._generate_and_score_completions

    def keep(self, inputs):
        output = original(self, inputs)
        kept.append(output["advantages"].clone())
        return output

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", keep)
    return kept


@pytest.fixture
def passes(monkeypatch):
    """Forward passes without gradient: which model each was of."""
    made = []
    original = GRPOTrainer._get_per_token_logps_and_entropies

    def count(self, model, *given, **named):
        if not torch.is_grad_enabled():
            made.append("policy" if model is self.model else "reference")
        return original(self, model, *given, **named)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", count)
    return made
