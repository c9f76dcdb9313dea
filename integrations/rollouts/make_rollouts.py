"""Make the rollouts that come with the package: train a small model, move it by reinforcement, sample it.

    python integrations/rollouts/make_rollouts.py --out advantage_zoo/rollouts/arithmetic.parquet

1. Supervised: a two-layer Llama learns the task (task.py), first from clean answers, then from answers with slips. It
   can do every step, and when sampled it slips. This is the reference.
2. Reinforcement: a few dozen on-policy steps with advantage-zoo's own ``grpo``. This is the policy.
3. Sampling: groups of responses from the policy, scored under both, with every step judged.

Everything is seeded; the file's metadata holds seeds, versions and accuracies.
"""

import argparse
import copy
import dataclasses
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from advantage_zoo_transformers import collect
from rich.console import Console
from rich.progress import track
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import advantage_zoo as az
from advantage_zoo.rollouts import Rollouts, write_rollouts

sys.path.insert(0, str(Path(__file__).parent))
import task

CONSOLE = Console(stderr=True)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token a character; the end of a response is a token of its own."""
    vocabulary = {character: i for i, character in enumerate(("_", task.END, *task.ALPHABET))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="_", eos_token=task.END)


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A quarter of a million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def pad(rows: list[list[int]], value: int) -> torch.Tensor:
    """Rows of ids, padded on the right, (B, T)."""
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def supervise(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, slip: float, seed: int) -> None:
    """Learn the task: the first 60 % of the steps from clean answers, the rest from answers with slips."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for step in track(range(steps), "supervised", console=CONSOLE):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (0.1 if step > 0.85 * steps else 1)
        prompts = [task.make_prompt(rng) for _ in range(128)]
        answers = [task.make_response(prompt, rng, slip if step > 0.6 * steps else 0.0) for prompt in prompts]
        pairs = list(zip(tokenizer(prompts)["input_ids"], tokenizer(answers)["input_ids"], strict=True))
        labels = pad([[-100] * len(p) + a for p, a in pairs], -100)
        loss = model(input_ids=pad([p + a for p, a in pairs], tokenizer.pad_token_id), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def reinforce(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int, learning_rate: float
) -> None:
    """On-policy steps with the advantages of ``grpo``, without a KL term."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    for step in track(range(steps), "reinforcement", console=CONSOLE):
        prompts = [task.make_prompt(rng) for _ in range(32)]
        rollouts = sample(model, None, tokenizer, prompts, seed * 1000 + step)
        padded = rollouts.batch()
        batch = az.RolloutBatch(
            rewards=torch.from_numpy(padded.rewards).float(),
            response_mask=torch.from_numpy(padded.response_mask),
            group_ids=torch.from_numpy(padded.group_ids),
            num_groups=padded.num_groups,
        )
        advantages = az.compute_advantages(batch, "grpo").values  # (B, T)
        prompt_ids = tokenizer(list(rollouts.prompts))["input_ids"]
        pairs = [(p, list(r)) for p, r in zip(prompt_ids, rollouts.token_ids, strict=True)]
        ids = pad([p + r for p, r in pairs], tokenizer.pad_token_id)
        weights = pad([[0.0] * len(p) + a[: len(r)].tolist() for (p, r), a in zip(pairs, advantages, strict=True)], 0.0)
        logprobs = model(input_ids=ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        loss = -(logprobs * weights[:, 1:]).sum() / batch.response_mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def sample(
    model: LlamaForCausalLM,
    reference: LlamaForCausalLM | None,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    seed: int,
    group_size: int = 8,
) -> Rollouts:
    """Groups of responses, judged."""
    return collect(
        model,
        reference,
        prompts,
        task.judge,
        group_size,
        tokenizer=tokenizer,
        max_new_tokens=task.MAX_RESPONSE,
        seed=seed,
        batch_size=512,
        progress=False,
    )


def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> float:
    """Share of prompts (always the same) that one sampled response solves."""
    rng = random.Random(4096)
    rollouts = sample(model, None, tokenizer, [task.make_prompt(rng) for _ in range(count)], seed=5, group_size=1)
    return sum(rollouts.rewards) / count


def facts(rollouts: Rollouts) -> dict[str, Any]:
    """What there is to see in the rollouts, in numbers."""
    solved: dict[int, list[float]] = {}
    for group, reward in zip(rollouts.groups, rollouts.rewards, strict=True):
        solved.setdefault(group, []).append(reward)
    shares = [sum(rewards) / len(rewards) for rewards in solved.values()]
    judged = [
        (reward == 1, right)
        for reward, steps in zip(rollouts.rewards, rollouts.step_correct or (), strict=True)
        for right in steps
    ]
    ratios = np.concatenate(rollouts.logprobs or ()) - np.concatenate(rollouts.ref_logprobs or ())
    return {
        "groups": {
            "all_right": shares.count(1.0),
            "all_wrong": shares.count(0.0),
            "mixed": len(shares) - shares.count(1.0) - shares.count(0.0),
        },
        "right_steps_in_failed_answers": judged.count((False, True)),
        "wrong_steps_in_failed_answers": judged.count((False, False)),
        "right_steps_in_solved_answers": judged.count((True, True)),
        "wrong_steps_in_solved_answers": judged.count((True, False)),
        "mean_abs_log_ratio": round(float(np.abs(ratios).mean()), 4),
        "mean_entropy": round(float(np.concatenate(rollouts.entropies or ()).mean()), 4),
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    parser.add_argument("--prompts", type=int, default=128, help="groups in the file (default: %(default)s)")
    parser.add_argument("--group-size", type=int, default=8, help="responses a prompt (default: %(default)s)")
    parser.add_argument("--supervised-steps", type=int, default=3000, help="(default: %(default)s)")
    parser.add_argument("--rl-steps", type=int, default=24, help="(default: %(default)s)")
    parser.add_argument("--rl-learning-rate", type=float, default=1e-4, help="(default: %(default)s)")
    parser.add_argument(
        "--slip", type=float, default=0.32, help="probability of a slip where a total passes 10 (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that everything runs")
    arguments = parser.parse_args()
    if not arguments.out.parent.is_dir():
        parser.error(f"--out {arguments.out}: there is no folder {arguments.out.parent}")
    if arguments.quick:
        arguments.supervised_steps, arguments.rl_steps, arguments.prompts = 20, 2, 8
    return arguments


def main() -> None:
    """Train, reinforce, sample, write."""
    arguments = parse_arguments()
    torch.set_num_threads(2)  # the number of threads is part of how sums round
    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(True)
    started = time.perf_counter()

    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    supervise(model, tokenizer, arguments.supervised_steps, arguments.slip, arguments.seed)
    reference = copy.deepcopy(model)
    evaluated = 64 if arguments.quick else 1024
    before = accuracy(reference, tokenizer, evaluated)
    reinforce(model, tokenizer, arguments.rl_steps, arguments.seed + 1, arguments.rl_learning_rate)
    after = accuracy(model, tokenizer, evaluated)

    rng = random.Random(arguments.seed + 2)
    prompts = [task.make_prompt(rng) for _ in range(arguments.prompts)]
    rollouts = sample(model, reference, tokenizer, prompts, arguments.seed + 3, arguments.group_size)
    metadata = {
        **rollouts.metadata,
        "task": "running totals modulo 10",
        "model": f"Llama, 2 layers of width 96, {model.num_parameters():,} parameters, after {arguments.rl_steps} "
        "steps of grpo",
        "ref_model": f"the same after {arguments.supervised_steps} supervised steps",
        "script": "integrations/rollouts/make_rollouts.py",
        "arguments": {key: value for key, value in vars(arguments).items() if key != "out"},
        "reference_accuracy": before,
        "policy_accuracy": after,
        **facts(rollouts),
    }
    write_rollouts(dataclasses.replace(rollouts, metadata=metadata), arguments.out)
    print(json.dumps(metadata, indent=2))
    print(
        f"{arguments.out}: {len(rollouts)} responses, {arguments.out.stat().st_size / 1024:.0f} KiB, "
        f"{time.perf_counter() - started:.0f} s in all"
    )


if __name__ == "__main__":
    main()
