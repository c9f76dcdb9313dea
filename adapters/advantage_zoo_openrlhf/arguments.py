"""OpenRLHF's command line: its flag for the estimator takes every spelling, and ``--zoo.*`` the parameters."""

import argparse
import sys
from pathlib import Path
from typing import Any

from advantage_zoo import names
from advantage_zoo.adapting import describe, from_config
from advantage_zoo.rollouts.dumping import make_folder
from advantage_zoo_openrlhf.checks import check
from advantage_zoo_openrlhf.flags import ESTIMATOR, FILTERING, FLAGS, FOLLOWED, SAMPLES, Flags
from advantage_zoo_openrlhf.points import Run

PREFIX = "--zoo."
CONFIG, DUMP = f"{PREFIX}config", f"{PREFIX}dump_rollouts"
HELP = (
    f" With advantage-zoo also any spelling of its estimators, for instance ep_grpo or 'grpo | whiten'; their "
    f"parameters as {PREFIX}NAME.PARAM VALUE or, from a YAML file, {CONFIG} FILE; each step's rollouts are written "
    f"with {DUMP} FOLDER."
)


def widen(add_argument: Any, parser: Any, *args: Any, **kwargs: Any) -> argparse.Action:
    """``ArgumentParser.add_argument``: OpenRLHF's flag for the estimator takes any word; `resolve` looks it up."""
    theirs = kwargs.get("choices")
    if not theirs or not {f"--{ESTIMATOR}", f"--{FLAGS[ESTIMATOR]}"} & set(args):
        return add_argument(parser, *args, **kwargs)
    parser.advantage_zoo = tuple(theirs)
    shown = ",".join(dict.fromkeys([*theirs, *names()]))
    changed = {"choices": None, "metavar": f"{{{shown}}}", "help": kwargs.get("help", "") + HELP}
    return add_argument(parser, *args, **kwargs | changed)


def resolve_after(parse_known_args: Any, parser: Any, args: Any = None, namespace: Any = None) -> Any:
    """``ArgumentParser.parse_known_args``: what is asked of the zoo goes into the namespace as ``zoo``."""
    theirs = getattr(parser, "advantage_zoo", None)
    if theirs is None:
        return parse_known_args(parser, args, namespace)
    try:
        given, rest = take(sys.argv[1:] if args is None else list(args))
        parsed, unknown = parse_known_args(parser, rest, namespace)
        flags = Flags(parser, parsed)
        run = resolve(flags, given, theirs)
    except (argparse.ArgumentError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, LookupError) else error))
    if run is not None:
        parsed.zoo = run
    what = describe(run.estimator, "openrlhf") if run else f"{flags[ESTIMATOR]}, OpenRLHF's own"
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


def resolve(flags: Flags, given: dict[str, Any], theirs: tuple[str, ...]) -> Run | None:
    """What is asked for, checked against the other flags; None for one of OpenRLHF's own estimators, ``theirs``.

    Raises:
        LookupError: A name is no estimator's.
        TypeError: A parameter is unknown or of the wrong type.
        ValueError: A parameter is out of its range, or the flags do not go together.
    """
    which = flags[ESTIMATOR]
    if which in theirs:
        for flag in given:
            raise ValueError(f"{flag} has no effect: {which} is OpenRLHF's own; '{which}()' is the zoo's.")
        return None
    dump, params = given.pop(DUMP, ""), {}
    for flag, value in given.items():
        name, _, param = flag.removeprefix(PREFIX).rpartition(".")
        if name != which:
            raise ValueError(f"{flag}: the estimator is {which}; leave it out, or give {PREFIX}{which}.PARAM VALUE.")
        params[param] = value
    followed = {param: flag for param, flag in FOLLOWED.items() if flag in flags.changed}
    defaults = {param: flags[flag] for param, flag in followed.items()}
    estimator = from_config(which, params, where=PREFIX + which, defaults=defaults)
    for param, flag in followed.items():
        if vars(estimator).get(param) != flags[flag]:
            raise ValueError(f"{flags.shown(flag)} has no effect on {estimator}; leave it out.")
    check(estimator, flags)
    if dump:
        make_folder(Path(dump))
    filtering = flags.name(FILTERING) if flags[FILTERING] else ""
    return Run(estimator, flags[SAMPLES], filtering, dump and str(Path(dump).absolute()))
