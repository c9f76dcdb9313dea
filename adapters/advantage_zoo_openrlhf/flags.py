"""OpenRLHF's flags as its command line has parsed them, whatever its release calls them."""

import argparse
from typing import Any

ESTIMATOR, FILTERING = "algo.advantage.estimator", "algo.dynamic_filtering_enable"
KL, KL_IN_LOSS, SAMPLES = "algo.kl.init_coef", "algo.kl.use_loss", "rollout.n_samples_per_prompt"
BEFORE = {
    ESTIMATOR: "advantage_estimator",
    "algo.advantage.no_std_norm": "no_advantage_std_norm",
    FILTERING: "dynamic_filtering",
    KL: "init_kl_coef",
    KL_IN_LOSS: "use_kl_loss",
    "reward.clip_range": "reward_clip_range",
    "reward.remote_url": "remote_rm_url",
}
"""What flags were called before OpenRLHF 0.10.2, where that was not the last part of their name."""
ESTIMATOR_FLAGS = (ESTIMATOR, BEFORE[ESTIMATOR])

FOLLOWED = {
    "clip_range": "reward.clip_range",
    "discount": "algo.advantage.gamma",
    "lam": "algo.advantage.lambd",
    "no_std_norm": "algo.advantage.no_std_norm",
}
"""Parameters of the zoo's for which OpenRLHF has flags."""


class Flags:
    """Values by the flags' names of today, lists as tuples.

    Args:
        parser: OpenRLHF's.
        parsed: What it has parsed.
    """

    def __init__(self, parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
        self.parser, self.parsed = parser, vars(parsed)

    def __getitem__(self, flag: str) -> Any:
        value = self.parsed[self._typed(flag)]
        return tuple(value) if isinstance(value, list) else value

    def changed(self, flag: str) -> bool:
        """Whether it has not its default."""
        return self[flag] != self.parser.get_default(self._typed(flag))

    def name(self, flag: str) -> str:
        """A flag as users of this release type it."""
        return f"--{self._typed(flag)}"

    def shown(self, flag: str) -> str:
        """A flag and its numbers, if it takes any, as they type them."""
        value = self[flag]
        numbers = value if isinstance(value, tuple) else () if value is True else (value,)
        return " ".join([self.name(flag), *(f"{x:g}" for x in numbers)])

    def _typed(self, flag: str) -> str:
        return flag if ESTIMATOR in self.parsed else BEFORE.get(flag, flag.rpartition(".")[2])
