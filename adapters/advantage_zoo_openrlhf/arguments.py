"""OpenRLHF's command line: its flag for the estimator takes every spelling, and ``--zoo.*`` the parameters.

What cannot work is said before anything starts, in sentences that name the flags.
"""

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import Version

from advantage_zoo import names
from advantage_zoo.adapting import describe, from_config, lacking, lonely, refuse, replaced
from advantage_zoo.estimator import Estimator
from advantage_zoo.rollouts.dumping import make_folder
from advantage_zoo_openrlhf.flags import ESTIMATOR, ESTIMATOR_FLAGS, FILTERING, FOLLOWED, KL, KL_IN_LOSS, SAMPLES, Flags
from advantage_zoo_openrlhf.points import BINDING, Run

PREFIX = "--zoo."
CONFIG, DUMP = f"{PREFIX}config", f"{PREFIX}dump_rollouts"
HELP = (
    f" With advantage-zoo also any spelling of its estimators, ep_grpo or 'grpo | whiten'; {PREFIX}NAME.PARAM VALUE or "
    f"{CONFIG} FILE, a YAML file, gives their parameters, {DUMP} FOLDER writes each step's rollouts."
)
SCALES_ENTROPIES = Version("0.11.1")
"""The first release whose ``Actor.forward`` divides the logits by the temperature before it takes entropies."""
ABSENT = {
    "values": "OpenRLHF has a critic for its own gae alone",
    "reward_components": "a reward is one number in OpenRLHF",
    "sum_pi_squared": "OpenRLHF's forward pass does not compute it",
}
"""Fields that OpenRLHF cannot hand over, and why."""


def parse(parse_known_args: Any, parser: Any, args: Any = None, namespace: Any = None) -> Any:
    """``ArgumentParser.parse_known_args``: OpenRLHF's flag for the estimator takes any word; ours go into ``zoo``."""
    action = next((action for action in parser._actions if action.choices and action.dest in ESTIMATOR_FLAGS), None)
    if action is None:
        return parse_known_args(parser, args, namespace)
    theirs = action.choices
    shown = ",".join(dict.fromkeys([*theirs, *names()]))
    with replaced(action, choices=None, metavar=f"{{{shown}}}", help=(action.help or "") + HELP):
        try:
            given, rest = take(sys.argv[1:] if args is None else list(args))
            parsed, unknown = parse_known_args(parser, rest, namespace)
            flags = Flags(parser, parsed)
            which = flags[ESTIMATOR]
            if which in theirs:
                for flag in given:
                    raise ValueError(f"{flag} has no effect: {which} is OpenRLHF's own; '{which}()' is the zoo's.")
                what = f"{which}, OpenRLHF's own"
            else:
                parsed.zoo = resolve(flags, given)
                what = describe(parsed.zoo.estimator, "openrlhf")
        except (argparse.ArgumentError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            parser.error(str(error.args[0] if isinstance(error, LookupError) else error))
    print(f"advantage-zoo: {flags.name(ESTIMATOR)} is {what}", file=sys.stderr)
    return parsed, unknown


def take(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The values of our flags, and over the file's the command line's; and OpenRLHF's words."""
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in dict.fromkeys(word.partition("=")[0] for word in words if word.startswith(PREFIX)):
        ours.add_argument(flag, dest=flag, action="append")
    found, rest = ours.parse_known_args(words)
    for flag, values in vars(found).items():
        if len(values) > 1:
            raise ValueError(f"{flag} is given twice, as {' and '.join(values)}.")
    given = {flag: value for flag, (value,) in vars(found).items()}
    return (read(given.pop(CONFIG)) if CONFIG in given else {}) | given, rest


def read(path: str) -> dict[str, Any]:
    """A YAML file's blocks of parameters, as flags."""
    import yaml

    try:
        blocks = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{CONFIG} {path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(blocks, dict) or not all(isinstance(block, dict) for block in blocks.values()):
        raise ValueError(f"{CONFIG} {path}: expected a block of parameters for each estimator, ep_grpo: {{beta: 0.1}}.")
    return {f"{PREFIX}{name}.{param}": value for name, block in blocks.items() for param, value in block.items()}


def resolve(flags: Flags, given: dict[str, Any]) -> Run:
    """What is asked of the zoo, checked against OpenRLHF's flags.

    Raises:
        LookupError: A name is no estimator's.
        RuntimeError: OpenRLHF has moved what the adapter binds.
        TypeError: A parameter is unknown or of the wrong type.
        ValueError: A parameter is out of its range, or the flags do not go together.
    """
    which, dump = flags[ESTIMATOR], given.pop(DUMP, "")
    prefix = f"{PREFIX}{which}."
    for flag in given:
        if not flag.startswith(prefix):
            raise ValueError(f"{flag}: the estimator is {which}; leave it out, or give {prefix}PARAM VALUE.")
    params = {flag.removeprefix(prefix): value for flag, value in given.items()}
    defaults = {param: flags[flag] for param, flag in FOLLOWED.items() if flags.changed(flag)}
    estimator = from_config(which, params, where=PREFIX + which, defaults=defaults)
    for point in BINDING.points:
        import_module(point.module)  # OpenRLHF is about to
    BINDING.refuse_if_unbound()
    refuse(problems(estimator, flags))
    if dump:
        make_folder(Path(dump))
    filtering = flags.name(FILTERING) if flags[FILTERING] else ""
    return Run(estimator, flags[SAMPLES], filtering, dump and str(Path(dump).absolute()))


def problems(estimator: Estimator, flags: Flags) -> Iterator[str]:
    """Sentences that name flags that the estimator cannot work with, and what to do."""
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
    for param, flag in FOLLOWED.items():
        if flags.changed(flag) and vars(estimator).get(param) != flags[flag]:
            yield f"{flags.shown(flag)} has no effect on {estimator}; leave it out."
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
