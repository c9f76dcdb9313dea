"""OpenRLHF's arguments by flag, whatever its version calls them: nested while it trains, flat while it parses."""

from collections.abc import Callable
from typing import Any

ESTIMATOR = "algo.advantage.estimator"
FLAGS = {
    ESTIMATOR: "advantage_estimator",
    "algo.advantage.gamma": "gamma",
    "algo.advantage.lambd": "lambd",
    "algo.advantage.no_std_norm": "no_advantage_std_norm",
    "algo.dynamic_filtering_enable": "dynamic_filtering",
    "algo.kl.init_coef": "init_kl_coef",
    "algo.kl.use_loss": "use_kl_loss",
    "reward.clip_range": "reward_clip_range",
    "reward.remote_url": "remote_rm_url",
    "rollout.n_samples_per_prompt": "n_samples_per_prompt",
    "rollout.temperature": "temperature",
    "train.agent_func_path": "agent_func_path",
}
"""Flags that the adapter reads, and what they were called before OpenRLHF 0.10.2."""


class Flags:
    """Arguments by the flags' names of today.

    Args:
        args: OpenRLHF's namespace, as it was parsed or as it trains with it.
        default_of: A flag's default, by its name in this version; for :meth:`changed`.
    """

    def __init__(self, args: Any, default_of: Callable[[str], Any] = lambda _: None) -> None:
        self.args, self.default_of = args, default_of
        self.old = not hasattr(args, "algo") and ESTIMATOR not in vars(args)

    def name(self, flag: str) -> str:
        """What this version calls a flag."""
        return FLAGS[flag] if self.old else flag

    def __getitem__(self, flag: str) -> Any:
        return getattr(*self._place(flag))

    def __setitem__(self, flag: str, value: Any) -> None:
        setattr(*self._place(flag), value)

    def changed(self, flag: str) -> Any:
        """The flag's value; None if it is the default."""
        value, default = (
            tuple(x) if isinstance(x, list) else x for x in (self[flag], self.default_of(self.name(flag)))
        )
        return None if value == default else value

    def shown(self, flag: str) -> str:
        """The flag and its value, as users type them."""
        value = self[flag]
        words = value if isinstance(value, list | tuple) else () if value is True else (value,)
        return " ".join([f"--{self.name(flag)}", *(f"{x:g}" if isinstance(x, float) else str(x) for x in words)])

    def _place(self, flag: str) -> tuple[Any, str]:
        name, owner = self.name(flag), self.args
        *parts, last = [name] if hasattr(owner, name) else name.split(".")
        for part in parts:
            owner = getattr(owner, part)
        return owner, last
