"""One of two processes of test_training.py: a group of four whose responses are on both, and what came of it."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from tiny_trl import PROMPTS, Watched, config, few_digits, prompts, strayed
from transformers import AutoTokenizer

model, folder = sys.argv[1], Path(sys.argv[2])
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(model)
ANSWERS = {0: [[4, 5, 6, 2], [7, 20, 2]], 1: [[20, 21, 22, 23, 24, 2], [9, 20, 2]]}


def answers(given, trainer):
    chosen = ANSWERS[trainer.accelerator.process_index]
    return {
        "prompt_ids": [tokenizer(text)["input_ids"] for text in given],
        "completion_ids": chosen,
        "logprobs": [[0.0] * len(c) for c in chosen],
    }


args = config(folder, per_device_train_batch_size=2, max_steps=1, ddp_backend="gloo")
trainer = Watched(
    strayed(model), few_digits, args, prompts(), processing_class=tokenizer, rollout_func=answers,
    advantage_estimator="ep_grpo", dump_rollouts=folder / "rollouts",
)  # fmt: skip
trainer.train()
(output,) = trainer.outputs
torch.save(
    {
        "output": output,
        "rewards": list(trainer._logs["rewards"]["few_digits"]),
        "table": list(trainer._logs["advantages"]),
        "weights": trainer.accelerator.unwrap_model(trainer.model).state_dict(),
    },
    folder / f"{trainer.accelerator.process_index}.pt",
)
assert len(PROMPTS) == 4
dist.destroy_process_group()
