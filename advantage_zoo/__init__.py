"""advantage-zoo: advantage estimators for reinforcement learning of language models.

    >>> import numpy as np
    >>> import advantage_zoo as az
    >>> batch = az.RolloutBatch(
    ...     rewards=np.array([1.0, 0.0, 0.0, 0.0]),
    ...     response_mask=np.ones((4, 2), dtype=bool),
    ...     group_ids=np.zeros(4, dtype=int),
    ...     num_groups=1,
    ... )
    >>> az.compute_advantages(batch, "grpo").values[:, 0].round(6)
    array([ 1.499997, -0.499999, -0.499999, -0.499999])

Importing this package imports no array library.
"""

from advantage_zoo import estimators, transforms
from advantage_zoo.batch import RolloutBatch, register_with_jax
from advantage_zoo.compute import compute_advantages, make
from advantage_zoo.estimator import Advantages, Estimator, Paper, param
from advantage_zoo.flat import FlatBatch
from advantage_zoo.hookspecs import hookimpl
from advantage_zoo.registry import estimator, names, presets
from advantage_zoo.validation import RolloutWarning, validate

register_with_jax()  # if somebody has imported it; else the first batch will

__version__ = "0.1.0"

__all__ = [
    "Advantages",
    "Estimator",
    "FlatBatch",
    "Paper",
    "RolloutBatch",
    "RolloutWarning",
    "compute_advantages",
    "estimator",
    "estimators",
    "hookimpl",
    "make",
    "names",
    "param",
    "presets",
    "transforms",
    "validate",
]
