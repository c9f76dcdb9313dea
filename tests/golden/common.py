"""What golden vectors and the frameworks' tests share: calls, batches, the comparison with a preset, the JSON format.

A batch is a dict of NumPy arrays: ``rewards`` (B,), ``response_mask`` (B, T) bool, ``group_ids`` (B,), and the optional
fields that a call names. Every response has a valid token: what an empty one does to its group is ours to say, not the
framework's. All numbers are float32's, so that a framework's cast changes none.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import advantage_zoo as az
from advantage_zoo.batch import OPTIONAL_FIELDS

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-6
"""Of the largest advantage, and of 1 where all are smaller."""

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Call:
    """A framework's own function, and what it is compared with.

    Args:
        function: ``function(batch, **params)`` gives the framework's advantages, (B, T), anything at masked tokens.
        source: Where it stands: file and line of the released source.
        name: What the framework calls it.
        preset: The preset, or estimator, that gives the same; the label's first word if not given.
        params: Parameters of both.
        their: Arguments of the function alone.
        ours: Parameters of the preset or estimator alone.
        fields: Optional fields of the batch that both read; names that a batch does not know are its extras.
        accepts: Whether the function takes a batch.
        tolerance: Of the largest advantage; that of a batch, if it is a function.
    """

    function: Callable[..., np.ndarray]
    source: str
    name: str
    preset: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    their: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    accepts: Callable[[Batch], bool] = lambda batch: True
    tolerance: float | Callable[[Batch], float] = TOLERANCE

    def prepared(self, batch: Batch) -> Batch:
        """The batch with the fields that the call reads, and no others."""
        names = ("rewards", "response_mask", "group_ids", *self.fields)
        return {name: batch[name] for name in names}

    def theirs(self, batch: Batch) -> np.ndarray:
        """The framework's advantages, 0 at masked tokens."""
        values = np.asarray(self.function(self.prepared(batch), **self.params, **self.their), dtype=float)
        return np.where(batch["response_mask"], values, 0.0)


def preset_of(label: str, call: Call) -> str:
    """Name of what the call is compared with."""
    return call.preset or label.split()[0]


# Comparison


def values_of(name: str, batch: Batch, array: Callable[[np.ndarray], Any] = np.asarray, **params: Any) -> np.ndarray:
    """The preset's advantages of a batch, (B, T), whose arrays ``array`` makes."""
    num_groups = int(batch["group_ids"].max()) + 1
    arrays = {name: array(x) for name, x in batch.items()}
    known = {k: v for k, v in arrays.items() if k in ("rewards", "response_mask", "group_ids", *OPTIONAL_FIELDS)}
    extras = {k: v for k, v in arrays.items() if k not in known}
    values = az.compute_advantages(
        az.RolloutBatch(**known, num_groups=num_groups, extras=extras), name, **params
    ).values
    return np.asarray(values, dtype=float)


def torch_float32(x: np.ndarray) -> Any:
    """As frameworks hold it."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(x))
    return tensor.float() if tensor.is_floating_point() else tensor


def assert_close(got: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    """Equal to ``tolerance`` of the largest expected value, or of 1; where the framework has NaN, the preset has 0."""
    expected = np.where(np.isnan(expected), 0.0, expected)
    largest = max(1.0, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * largest, err_msg=what)


def compare_on_random_batches(label: str, call: Call, count: int = 200) -> None:
    """The preset gives what the framework's function gives, on ``count`` batches that the function takes."""
    for number, batch in enumerate(random_batches(call.accepts, count)):
        batch = call.prepared(batch)
        expected = call.theirs(batch)
        for array in (np.asarray, torch_float32):
            got = values_of(preset_of(label, call), batch, array, **call.params, **call.ours)
            tolerance = call.tolerance if isinstance(call.tolerance, (float, int)) else call.tolerance(batch)
            assert_close(got, expected, tolerance, f"{label}, {array.__name__}, batch {number}: {batch}")


# What calls accept


def equal_groups(batch: Batch) -> bool:
    """Groups of one size, side by side: what ``view(-1, num_generations)`` takes."""
    ids = batch["group_ids"]
    sizes = np.bincount(ids)
    return bool((np.diff(ids) >= 0).all()) and len(set(sizes[sizes > 0].tolist())) == 1


def exact_where_equal(batch: Batch) -> bool:
    """Sums of a group's rewards are exact in float32 where they are all equal: only rounding is left otherwise."""
    groups = [batch["rewards"][batch["group_ids"] == group] for group in np.unique(batch["group_ids"])]
    return all(np.ptp(rewards) > 0 or rewards[0] * 64 % 1 == 0 for rewards in groups)


def no_group_of_one(batch: Batch) -> bool:
    """At least two responses a prompt."""
    return 1 not in np.bincount(batch["group_ids"])


# Batches


def random_batches(accepts: Callable[[Batch], bool] = lambda batch: True, count: int = 200) -> Iterator[Batch]:
    """Seeded batches that ``accepts`` takes; every second one drawn has groups of one size, side by side."""
    rng = np.random.default_rng(0)
    found = 0
    for number in range(50 * count):
        if found == count:
            return
        batch = random_batch(rng, equal=number % 2 == 0)
        if accepts(batch):
            found += 1
            yield batch
    raise AssertionError(f"Of {50 * count} random batches only {found} were accepted.")


def random_batch(rng: np.random.Generator, equal: bool = False) -> Batch:
    """Ragged responses with holes; groups of one and dead groups among others; rows in any order unless ``equal``."""
    large = rng.integers(4) == 0
    groups, tokens = int(rng.integers(1, 5)), int(rng.integers(1, 64 if large else 7))
    largest = 40 if large else 8
    sizes = np.full(groups, rng.integers(1, largest)) if equal else rng.integers(1, largest, groups)
    ids = np.repeat(np.arange(groups), sizes)
    ids = ids if equal else rng.permutation(ids)
    rewards = np.zeros(len(ids))
    for group in range(groups):
        rewards[ids == group] = _rewards(rng, int(sizes[group]))
    return complete(rewards, _mask(rng, len(ids), tokens), ids, rng)


def complete(rewards: Any, mask: Any, ids: Any, rng: np.random.Generator) -> Batch:
    """A batch with every optional field; 0 at masked tokens, where frameworks differ in what they read."""
    rewards, mask = np.asarray(rewards, dtype=float), np.asarray(mask, dtype=bool)
    shape, b = mask.shape, len(rewards)
    logprobs = -rng.integers(16, 512, shape) / 64  # none so near 0 that an eps of 1e-8 counts for anything
    token_fields = {
        "logprobs": logprobs,
        "ref_logprobs": np.minimum(logprobs + rng.integers(-64, 64, shape) / 64, 0.0),
        "entropies": rng.integers(0, 192, shape) / 64,
        "token_rewards": rng.integers(-64, 64, shape) / 64,
        "values": rng.integers(-64, 64, shape) / 64,
        "sum_pi_squared": np.exp(2 * logprobs) + (1 - np.exp(logprobs)) ** 2 * rng.random(shape),
    }
    batch = {
        "rewards": rewards,
        "response_mask": mask,
        "group_ids": np.asarray(ids),
        **{name: np.where(mask, x, 0.0) for name, x in token_fields.items()},
        "reward_components": np.stack([rewards, rng.integers(0, 3, b) / 2], axis=1),
        "baseline_rewards": rng.integers(0, 2, b).astype(float),
    }
    return {k: x.astype(np.float32).astype(float) if x.dtype.kind == "f" else x for k, x in batch.items()}


def cancelling_batches(count: int = 50) -> Iterator[Batch]:
    """Seeded batches of groups of one size whose two components all but cancel: the batch's deviation magnifies what
    rounding leaves of their sum."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        groups, size = int(rng.integers(1, 9)), int(rng.integers(2, 41))
        first = rng.random(groups * size)
        second = 1 - first + rng.choice([0.0, 1e-6, 1e-4, 1e-2]) * rng.random(len(first))
        batch = complete(first, np.ones((len(first), 2)), np.repeat(np.arange(groups), size), rng)
        yield batch | {"reward_components": np.stack([first, second], axis=1).astype(np.float32).astype(float)}


def _rewards(rng: np.random.Generator, size: int) -> np.ndarray:
    match rng.integers(6):
        case 0:
            return rng.integers(0, 2, size).astype(float)
        case 1:
            return rng.integers(-3000, 3000, size) / 1000
        case 2:
            return np.full(size, rng.choice([0.0, 1.0, 0.5, -3.25]))
        case 3:
            return np.full(size, rng.uniform(-12, 12))  # whose mean is off by a rounding
        case 4:
            return rng.choice([3.0, 10.0]) + rng.random(size)
        case _:
            return 8 + rng.integers(0, 8, size) / 8


def _mask(rng: np.random.Generator, rows: int, tokens: int) -> np.ndarray:
    mask = np.arange(tokens) < rng.integers(1, tokens + 1, rows)[:, None]
    if rng.integers(2):
        mask &= rng.random(mask.shape) < 0.7
    mask[np.arange(rows), np.where(mask.any(1), mask.argmax(1), 0)] = True
    return mask


def small_batches() -> dict[str, Batch]:
    """The batches of the golden vectors, by what they are there for."""
    rng = np.random.default_rng(1)

    def full(rewards: Any, ids: Any, tokens: int = 2) -> Batch:
        return complete(rewards, np.ones((len(rewards), tokens)), ids, rng)

    return {
        "one right of four": full([1, 0, 0, 0], [0, 0, 0, 0], 3),
        "two groups": full([1, 0, 0.5, 0.25, -1, 3, 0, 2], [0, 0, 0, 0, 1, 1, 1, 1]),
        "ragged": complete(
            [0.5, 1, 0, 1, 1, 0],
            [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]],
            [0, 0, 0, 1, 1, 1],
            rng,
        ),
        "unequal groups, rows in any order": full([1, 0, 0.5, 1, 0, 2, 0], [0, 1, 0, 1, 1, 0, 2]),
        "groups of one": full([1, 0.3], [0, 1]),
        "dead group": full([0.81593] * 6, [0] * 6),
        "large dead group": full([0.81593] * 20, [0] * 20, 1),
        "holes": complete(
            [1, 0, 0.25, 1],
            [[1, 0, 0, 1, 1], [0, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 0, 1, 0, 1]],
            [0, 0, 1, 1],
            rng,
        ),
    }


# JSON


def path_of(framework: str) -> Path:
    """Where a framework's golden vectors lie."""
    return HERE / f"{framework}.json"


def derive_case(label: str, call: Call, about: str, batch: Batch) -> dict[str, Any]:
    """One case: what went in, and what the framework's function made of it; ``null`` is a NaN."""
    batch = call.prepared(batch)
    advantages = call.theirs(batch)
    return {
        "preset": preset_of(label, call),
        "params": {**call.params, **call.ours},
        "function": call.name,
        "arguments": {**call.params, **call.their},
        "source": call.source,
        "about": about,
        "batch": {k: (x.astype(int) if x.dtype == bool else x).tolist() for k, x in batch.items()},
        "advantages": [[None if np.isnan(x) else float(f"{x:.9g}") for x in row] for row in advantages],
    }


def batch_of(case: Mapping[str, Any]) -> Batch:
    """The arrays of a case."""
    batch = {k: np.asarray(x, dtype=None if k == "group_ids" else float) for k, x in case["batch"].items()}
    return batch | {"response_mask": batch["response_mask"] > 0}


def advantages_of(case: Mapping[str, Any]) -> np.ndarray:
    """The framework's advantages of a case, NaN where they are."""
    return np.array(case["advantages"], dtype=float)


def write(golden: Mapping[str, Any], path: Path) -> None:
    """JSON with a case a line, so that a diff shows which changed."""
    head = {k: v for k, v in golden.items() if k != "cases"}
    lines = ",\n".join(f"  {json.dumps(case)}" for case in golden["cases"])
    path.write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """What :func:`write` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
