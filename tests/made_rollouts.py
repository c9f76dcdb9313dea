"""Rollouts small enough to check by hand, and files of them."""

import dataclasses

import numpy as np

from advantage_zoo.rollouts import Rollouts, write_rollouts


def made_rollouts(**changes):
    """Nine responses to three prompts: a mixed group, an all-right and an all-wrong one; lengths 4 to 9."""
    rng = np.random.default_rng(0)
    lengths = [4, 5, 6, 4, 7, 6, 5, 9, 4]
    rewards = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    tokens = [[f"t{i}" if i else "\n" for i in range(n)] for n in lengths]
    fields = {
        "prompts": [f"prompt {row // 3}" for row in range(9)],
        "texts": ["".join(row) for row in tokens],
        "tokens": tokens,
        "token_ids": [list(range(n)) for n in lengths],
        "rewards": rewards,
        "groups": [5, 5, 5, 2, 2, 2, 9, 9, 9],
        "logprobs": [-rng.uniform(0.1, 2.0, n).astype(np.float32) for n in lengths],
        "ref_logprobs": [-rng.uniform(0.1, 2.0, n).astype(np.float32) for n in lengths],
        "entropies": [rng.uniform(0.0, 2.0, n).astype(np.float32) for n in lengths],
        "step_index": [[0, 0] + [1] * (n - 3) + [-1] for n in lengths],
        "step_correct": [[True, reward == 1.0] for reward in rewards],
        "metadata": {"model": "made by hand"},
    }
    return Rollouts(**{**fields, **changes})


def rollout_file(path, **changes):
    """A file of :func:`made_rollouts`."""
    write_rollouts(made_rollouts(**changes), path)
    return path


def changed(rollouts, **changes):
    """The same rollouts with other columns."""
    return dataclasses.replace(rollouts, **changes)


def four(**changes):
    """Two groups of two responses, lengths 2, 3, 3 and 4; rewards 0, 1 and 1, 1."""
    lengths = [2, 3, 3, 4]
    fields = {
        "prompts": ["p", "p", "q", "q"],
        "texts": ["x"] * 4,
        "tokens": [["a"] * n for n in lengths],
        "token_ids": [[0] * n for n in lengths],
        "rewards": [0.0, 1.0, 1.0, 1.0],
        "groups": [7, 7, 3, 3],
    }
    return Rollouts(**{**fields, **changes})


def only_tokens(rows):
    """Columns of rollouts of which nothing but the tokens is known."""
    unknown = ("logprobs", "ref_logprobs", "entropies", "step_index", "step_correct")
    return {"tokens": rows, "token_ids": [[0] * len(row) for row in rows], **dict.fromkeys(unknown)}
