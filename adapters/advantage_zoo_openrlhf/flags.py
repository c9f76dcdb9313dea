"""OpenRLHF's flags as its command line has parsed them, whatever its release calls them."""

import argparse
from typing import Any

ESTIMATOR, FILTERING = "algo.advantage.estimator", "algo.dynamic_filtering_enable"
KL, KL_IN_LOSS, SAMPLES = "algo.kl.init_coef", "algo.kl.use_loss", "rollout.n_samples_per_prompt"
FLAGS = {
    ESTIMATOR: "advantage_estimator",
    "algo.advantage.gamma": "gamma",
    "algo.advantage.lambd": "lambd",
    "algo.advantage.no_std_norm": "no_advantage_std_norm",
    FILTERING: "dynamic_filtering",
    KL: "init_kl_coef",
    KL_IN_LOSS: "use_kl_loss",
    "reward.clip_range": "reward_clip_range",
    "reward.remote_url": "remote_rm_url",
    SAMPLES: "n_samples_per_prompt",
    "rollout.temperature": "temperature",
    "train.agent_func_path": "agent_func_path",
}
"""Flags that the adapter reads, and what they were called before OpenRLHF 0.10.2."""


FOLLOWED = {
    "clip_range": "reward.clip_range",
    "discount": "algo.advantage.gamma",
    "lam": "algo.advantage.lambd",
    "no_std_norm": "algo.advantage.no_std_norm",
}
"""Parameters of the zoo's for which OpenRLHF has flags."""


class Flags(dict[str, Any]):
    """Values by the flags' names of today, lists as tuples.

    Args:
        parser: OpenRLHF's.
        parsed: What it has parsed.
    """

    def __init__(self, parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
        old = ESTIMATOR not in vars(parsed)
        self.names = {flag: before if old else flag for flag, before in FLAGS.items()}
        values = {flag: getattr(parsed, name) for flag, name in self.names.items()}
        super().__init__({flag: tuple(x) if isinstance(x, list) else x for flag, x in values.items()})
        self.changed = {flag for flag, name in self.names.items() if self[flag] != parser.get_default(name)}

    def name(self, flag: str) -> str:
        """A flag as users of this release type it."""
        return f"--{self.names[flag]}"

    def shown(self, flag: str) -> str:
        """A flag and its value, as they type them."""
        value = self[flag]
        words = value if isinstance(value, tuple) else () if value is True else (value,)
        return " ".join([self.name(flag), *(f"{x:g}" if isinstance(x, float) else str(x) for x in words)])
