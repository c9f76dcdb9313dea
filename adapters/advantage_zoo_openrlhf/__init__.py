"""OpenRLHF with every estimator of advantage-zoo, no fork: its own flag takes their names.

    python -m advantage_zoo_openrlhf train_ppo_ray --algo.advantage.estimator ep_grpo ...

What is changed, is changed in memory; :mod:`advantage_zoo_openrlhf.points` lists it. Importing this package imports
nothing heavy, as every Python process of an environment does after ``advantage-zoo openrlhf enable``.
"""

import sys
from typing import Any


def install() -> None:
    """Bind what OpenRLHF has imported, and the rest as soon as it has been."""
    from advantage_zoo_openrlhf.points import BINDING

    BINDING.bind()


def wait() -> None:
    """Install as soon as OpenRLHF is imported."""
    if not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting:
    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == "openrlhf":
            sys.meta_path.remove(self)
            install()
