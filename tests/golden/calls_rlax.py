"""rlax's generalised advantages, row by row; to be imported where rlax is installed."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rlax

from golden.common import Batch, Call, complete

VERSION = rlax.__version__
PATH = "rlax/_src/multistep.py"


def call(batch: Batch, discount: float, lam: float) -> np.ndarray:
    """(B, T); rlax knows no mask, and the value after the last token is 0."""
    rows = []
    with jax.enable_x64(True), jax.disable_jit():  # compiling a shape takes longer than to compute it
        for rewards, values in zip(dense(batch), batch["values"], strict=True):
            rows.append(
                rlax.truncated_generalized_advantage_estimation(
                    jnp.asarray(rewards), jnp.full(len(rewards), discount), lam, jnp.asarray([*values, 0.0])
                )
            )
        return np.asarray(rows)


def dense(batch: Batch) -> np.ndarray:
    """The batch's token rewards, or the outcome on the last token."""
    if "token_rewards" in batch:
        return batch["token_rewards"]
    rewards = np.zeros(batch["response_mask"].shape)
    rewards[:, -1] = batch["rewards"]
    return rewards


def unmasked(batch: Batch) -> bool:
    """Every response fills its row."""
    return bool(batch["response_mask"].all())


def theirs(**options: Any) -> Call:
    """A call of rlax's estimator."""
    function = rlax.truncated_generalized_advantage_estimation
    line = inspect.getsourcelines(inspect.unwrap(function))[1]
    return Call(call, f"{PATH}:{line}", function.__name__, accepts=unmasked, **options)


CALLS = {
    "gae": theirs(params={"discount": 1.0, "lam": 0.95}, fields=("values",)),
    "gae of token rewards": theirs(params={"discount": 0.9, "lam": 0.8}, fields=("values", "token_rewards")),
    "gae of one step": theirs(params={"discount": 0.99, "lam": 0.0}, fields=("values", "token_rewards")),
}

rng = np.random.default_rng(3)
BATCHES = {
    "long rows": complete([1, 0, 0.5], np.ones((3, 12)), [0, 0, 1], rng),
    "one token each": complete([2, -1], np.ones((2, 1)), [0, 1], rng),
}
"""Further batches of the golden vectors."""
