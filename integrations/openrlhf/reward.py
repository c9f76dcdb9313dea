"""A reward function as OpenRLHF calls it: 1 if the last number of a response is the answer, else 0."""

import re

import torch


def reward_func(queries: list[str], prompts: list[str], labels: list[str]) -> dict:
    """Rewards of responses, and ``scores``, by which OpenRLHF's dynamic filtering drops prompts.

    Args:
        queries: Prompts with their responses.
        prompts: The prompts.
        labels: The answers.
    """
    rewards = torch.zeros(len(queries))
    for i, (query, prompt, label) in enumerate(zip(queries, prompts, labels, strict=True)):
        numbers = re.findall(r"-?\d+(?:\.\d+)?", query[len(prompt) :].replace(",", ""))
        rewards[i] = float(bool(numbers) and float(numbers[-1]) == float(label))
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"correct": rewards}}
