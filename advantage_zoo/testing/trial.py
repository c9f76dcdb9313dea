"""One trial of an estimator: what every check is given."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.compute import compute_advantages
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.testing.backends import Backend
from advantage_zoo.testing.tolerances import LAWS, SMALLEST

Compute = Callable[[RolloutBatch, Estimator], Advantages]


@dataclass(frozen=True)
class Trial:
    """An estimator on one batch in one library.

    Args:
        estimator: What is tried.
        batch: Padded rollouts, NumPy, float64.
        backend: The library that computes.
        seed: Of what the check itself draws.
        compute: ``compute_advantages``, unless a test of the checks puts a broken one here.
    """

    estimator: Estimator
    batch: RolloutBatch
    backend: Backend
    seed: int = 0
    compute: Compute = compute_advantages

    @property
    def rng(self) -> np.random.Generator:
        """A generator that starts afresh at each call."""
        return np.random.default_rng(self.seed)

    def run(self, batch: RolloutBatch | None = None, dtype: str = "float64") -> Advantages:
        """Advantages of ``batch`` (the trial's own if not given), in the library's arrays."""
        return self.compute(self.backend.batch(batch or self.batch, dtype), self.estimator)

    def values(self, batch: RolloutBatch | None = None, dtype: str = "float64") -> NDArray[Any]:
        """Their values, as NumPy."""
        return self.backend.asnumpy(self.run(batch, dtype).values)

    def sequences(self, batch: RolloutBatch | None = None) -> NDArray[Any]:
        """(B,) mean over each response's valid tokens; 0 for a response without."""
        mask = (batch or self.batch).response_mask
        return np.where(mask, self.values(batch), 0.0).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)

    def with_rewards(self, rewards: NDArray[Any]) -> RolloutBatch:
        """The trial's batch with other rewards."""
        return replace(self.batch, rewards=rewards)

    def groups(self) -> list[NDArray[Any]]:
        """The rows that count, (n,) indices, of each group that has any."""
        counts = self.batch.response_mask.any(axis=1)
        rows = [np.flatnonzero(counts & (self.batch.group_ids == g)) for g in range(int(self.batch.num_groups or 0))]
        return [members for members in rows if len(members)]


def require(law: str, holds: bool, what: str) -> None:
    """Raise an AssertionError that names the law, unless it holds."""
    if not holds:
        raise AssertionError(f"{law}: {what}")


def require_close(
    law: str, got: NDArray[Any], expected: NDArray[Any], what: str, tolerance: float | None = None
) -> None:
    """Raise unless two arrays agree to ``tolerance``, the law's own if not given, of the largest expected value."""
    require(law, got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}.")
    if got.size == 0:
        return
    error = np.abs(got.astype(float) - expected)
    tolerance = LAWS[law] if tolerance is None else tolerance
    scale = max(SMALLEST, float(np.max(np.abs(expected))))
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), error.shape)
    require(
        law,
        bool(error[worst] <= tolerance * scale),
        f"{what}: at {tuple(map(int, worst))} {got[worst]}, expected {expected[worst]}.",
    )


def require_same(
    law: str, got: Advantages, expected: Advantages, backend: Backend, what: str, mask: Any = None
) -> None:
    """Raise unless values (on ``mask``) and diagnostics agree bit for bit."""
    pairs = {"values": (got.values, expected.values)}
    pairs |= {f"diagnostic {k}": (got.diagnostics[k], expected.diagnostics[k]) for k in expected.diagnostics}
    for name, (one, other) in pairs.items():
        a, b = backend.asnumpy(one), backend.asnumpy(other)
        if name == "values" and mask is not None:
            a, b = a[mask], b[mask]
        require(law, np.array_equal(a, b, equal_nan=True), f"{what}: {name} {a}, expected {b}.")
