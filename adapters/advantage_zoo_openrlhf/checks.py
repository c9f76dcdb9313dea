"""What cannot work with an estimator, said before anything starts, in a sentence that names the flag."""

from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from advantage_zoo.adapting import needs_groups
from advantage_zoo.estimator import Estimator
from advantage_zoo.parameters import parameters_of
from advantage_zoo_openrlhf.flags import Flags
from advantage_zoo_openrlhf.points import BINDING

SCALES_ENTROPIES = Version("0.11.1")
"""The first release whose ``Actor.forward`` divides the logits by the temperature before it takes entropies."""
FOLLOWS = {
    "clip_range": "reward.clip_range",
    "discount": "algo.advantage.gamma",
    "lam": "algo.advantage.lambd",
    "no_std_norm": "algo.advantage.no_std_norm",
}
"""Parameters for which OpenRLHF has flags."""
NEVER = {
    "values": "it has a critic for its own gae alone",
    "reward_components": "a reward is one number there",
    "sum_pi_squared": "its forward pass does not compute it",
}
"""Fields that OpenRLHF cannot hand over."""


def following(estimator: Estimator, flags: Flags) -> Estimator:
    """The estimator with the parameters for which OpenRLHF has flags, as the flags have them."""
    for parameter, flag in FOLLOWS.items():
        asked = flags.changed(flag)
        if asked is None:
            continue
        if parameter not in parameters_of(type(estimator)):
            raise ValueError(
                f"{flags.shown(flag)} has no effect: {estimator.name} has no parameter {parameter}; leave it out."
            )
        own = getattr(estimator, parameter)
        if own not in (asked, getattr(type(estimator), parameter)):
            raise ValueError(f"{flags.shown(flag)} and {estimator}: give one of the two.")
        estimator = replace(estimator, **{parameter: asked})
    return estimator


def check(estimator: Estimator, flags: Flags) -> None:
    """Refuse flags that the estimator cannot work with.

    Raises:
        RuntimeError: OpenRLHF has moved what the adapter binds.
        ValueError: Naming the flag and what to do.
    """
    name, wanted = estimator.name, estimator.needs | estimator.uses
    coefficient, in_loss = flags["algo.kl.init_coef"], flags["algo.kl.use_loss"]
    use_loss, init_coef = flags.name("algo.kl.use_loss"), flags.name("algo.kl.init_coef")
    for point in BINDING.points:
        import_module(point.module)  # OpenRLHF is about to
    BINDING.refuse_if_unbound()
    for field in sorted(NEVER.keys() & estimator.needs):
        raise ValueError(f"{name} needs {field}, which OpenRLHF does not hand over: {NEVER[field]}.")
    if "ref_logprobs" in estimator.needs and not (in_loss and coefficient > 0):
        raise ValueError(
            f"{name} needs the reference's log-probabilities: pass --{use_loss} and --{init_coef} above 0 "
            f"(it is {coefficient:g}; 1e-12 has the reference without its pull)."
        )
    if coefficient > 0 and not in_loss and "token_rewards" not in wanted:
        raise ValueError(
            f"{flags.shown('algo.kl.init_coef')} puts a KL penalty into the reward, which {name} would drop: "
            f"pass --{use_loss}, or --{init_coef} 0."
        )
    if flags["rollout.n_samples_per_prompt"] < 2 and needs_groups(estimator):
        raise ValueError(
            f"{name} compares the responses to a prompt: pass --{flags.name('rollout.n_samples_per_prompt')} of at "
            f"least 2 (it is {flags['rollout.n_samples_per_prompt']})."
        )
    if "entropies" in wanted and flags["rollout.temperature"] != 1 and Version(version("openrlhf")) < SCALES_ENTROPIES:
        raise ValueError(
            f"{flags.shown('rollout.temperature')}: OpenRLHF {version('openrlhf')} takes entropies at temperature 1, "
            f"which are not those of the policy that sampled for {name}; install a later one, or pass 1."
        )
    if flags["algo.dynamic_filtering_enable"]:
        _check_scores(flags)


def _check_scores(flags: Flags) -> None:
    """OpenRLHF filters prompts by ``scores``; where there are none, by the rewards, whatever their range."""
    for flag in ("train.agent_func_path", "reward.remote_url"):
        for path in map(Path, (flags[flag] or "").split(",")):
            if path.suffix == ".py" and path.is_file() and "scores" not in path.read_text(encoding="utf-8"):
                raise ValueError(
                    f"--{flags.name('algo.dynamic_filtering_enable')} keeps prompts by their `scores`, which "
                    f"{path} (--{flags.name(flag)}) does not return, and would go by the rewards: return them, too."
                )
