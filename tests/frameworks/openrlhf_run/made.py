"""What a run needs, and OpenRLHF's own command line up to where it would start Ray."""

import argparse
import importlib.util
import json
import runpy
import sys
import warnings

import torch

with warnings.catch_warnings():  # of their own imports
    warnings.simplefilter("ignore")
    import openrlhf.trainer.ppo_trainer_async  # noqa: F401 - so that nobody imports it later, with warnings
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SMALL_RUN = """
--actor.num_gpus_per_node 1 --ref.num_gpus_per_node 1 --vllm.num_engines 1 --rollout.n_samples_per_prompt 4
--rollout.batch_size 4 --rollout.micro_batch_size 4 --train.batch_size 16 --train.micro_batch_size 4
--data.max_len 32 --rollout.max_new_tokens 12 --ds.attn_implementation eager --data.input_key input
--data.label_key label --actor.adam.lr 1e-2 --actor.lr_scheduler constant --ckpt.output_dir ckpt
--actor.model_name_or_path tiny --data.prompt_dataset prompts.jsonl --reward.remote_url reward.py
"""
FLAGS = SMALL_RUN.split()
"""Of a small run, but for the estimator and the reference."""
REFERENCE = ("--algo.kl.use_loss", "--algo.kl.estimator", "k3", "--algo.kl.init_coef", "1e-3")
REWARD = """
import torch

def reward_func(queries, prompts, labels):
    rewards = torch.tensor([float(len(query) % 2) for query in queries])
    return {"rewards": rewards, SCORES"extra_logs": {"baseline_rewards": rewards * 0 + 0.25}}
"""


class ParsedError(BaseException):
    """Raised in place of a start, with what was parsed."""


def make_files(folder):
    """A model of a few thousand weights with its tokenizer, prompts, and a reward function."""
    words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(61))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder / "tiny")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, pad_token_id=0, eos_token_id=1, **sizes))
    with torch.no_grad():
        model.lm_head.weight.mul_(60)  # so that entropies differ
    with warnings.catch_warnings():  # it imports DeepSpeed
        warnings.simplefilter("ignore")
        model.save_pretrained(folder / "tiny")
    lines = (json.dumps({"input": f"w{i} w{i + 1} w{i + 2}", "label": str(i)}) for i in range(8))
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    (folder / "reward.py").write_text(REWARD.replace("SCORES", '"scores": rewards, '))
    (folder / "unscored.py").write_text(REWARD.replace("SCORES", ""))


def parse(monkeypatch, *flags, others=FLAGS):
    """The arguments with which OpenRLHF would train; SystemExit, as its command line has it."""
    import openrlhf.utils
    import ray

    def stop(args):
        raised = ParsedError()
        raised.args_of_run = args
        raise raised

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(openrlhf.utils, "get_strategy", stop)
    monkeypatch.setattr(sys, "argv", ["train_ppo_ray.py", *others, *flags])
    try:
        runpy.run_path(importlib.util.find_spec("openrlhf.cli.train_ppo_ray").origin, run_name="__main__")
    except ParsedError as raised:
        return raised.args_of_run
    raise AssertionError("it trained")


def unwidened(monkeypatch):
    """argparse as Python has it."""
    wrapped = argparse.ArgumentParser.parse_known_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", wrapped.__wrapped__)
