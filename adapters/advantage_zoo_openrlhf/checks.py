"""What cannot work with an estimator, said before anything starts, in sentences that name the flags."""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from advantage_zoo.adapting import lacking, lonely
from advantage_zoo.estimator import Estimator
from advantage_zoo_openrlhf.flags import FILTERING, KL, KL_IN_LOSS, SAMPLES, Flags
from advantage_zoo_openrlhf.points import BINDING

SCALES_ENTROPIES = Version("0.11.1")
"""The first release whose ``Actor.forward`` divides the logits by the temperature before it takes entropies."""
ABSENT = {
    "values": "OpenRLHF has a critic for its own gae alone",
    "reward_components": "a reward is one number in OpenRLHF",
    "sum_pi_squared": "OpenRLHF's forward pass does not compute it",
}
"""Fields that OpenRLHF cannot hand over, and why."""


def check(estimator: Estimator, flags: Flags) -> None:
    """Refuse flags that the estimator cannot work with.

    Raises:
        RuntimeError: OpenRLHF has moved what the adapter binds.
        ValueError: Naming the flags and what to do.
    """
    for point in BINDING.points:
        import_module(point.module)  # OpenRLHF is about to
    BINDING.refuse_if_unbound()
    found = list(_problems(estimator, flags))
    if found:
        raise ValueError(" ".join(found))


def _problems(estimator: Estimator, flags: Flags) -> Iterator[str]:
    name, wanted, installed = estimator.name, estimator.needs | estimator.uses, version("openrlhf")
    penalised, in_loss = flags[KL] > 0, flags[KL_IN_LOSS]
    advice = (
        f"pass {flags.name(KL_IN_LOSS)} and {flags.name(KL)} above 0 (it is {flags[KL]:g}; 1e-12 has the reference "
        "without its pull)"
    )
    absent = ABSENT if penalised and in_loss else ABSENT | {"ref_logprobs": advice}
    yield from lacking(estimator, absent, absent)
    if penalised and not in_loss and not ("token_rewards" in wanted or "ref_logprobs" in estimator.needs):
        yield (
            f"{flags.shown(KL)} puts a KL penalty into the reward, which {name} would drop: pass "
            f"{flags.name(KL_IN_LOSS)}, or {flags.name(KL)} 0."
        )
    yield from lonely(estimator, flags.name(SAMPLES), flags[SAMPLES])
    if "entropies" in wanted and flags["rollout.temperature"] != 1 and Version(installed) < SCALES_ENTROPIES:
        yield (
            f"{flags.shown('rollout.temperature')}: OpenRLHF {installed} takes entropies at temperature 1, which are "
            f"not those of the policy that sampled for {name}; install a later one, or pass 1."
        )
    for flag in ("train.agent_func_path", "reward.remote_url") if flags[FILTERING] else ():
        for path in map(Path, (flags[flag] or "").split(",")):
            if path.suffix == ".py" and path.is_file() and "scores" not in path.read_text(encoding="utf-8"):
                yield (
                    f"{flags.name(FILTERING)} keeps prompts by their `scores`, which {path} ({flags.name(flag)}) does "
                    "not return, and would go by the rewards: return them, too."
                )
