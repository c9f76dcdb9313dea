"""OpenRLHF's command line: its flag for the estimator takes every spelling, and ``--zoo.*`` the parameters."""

import argparse
import sys
from importlib.metadata import version
from typing import Any

from advantage_zoo import make, names
from advantage_zoo.adapting import describe, from_config
from advantage_zoo.estimator import Estimator
from advantage_zoo_openrlhf.checks import check, following
from advantage_zoo_openrlhf.flags import ESTIMATOR, FLAGS, Flags

PREFIX = "--zoo."
CONFIG = f"{PREFIX}config"
HELP = (
    f" With advantage-zoo also any spelling of its estimators, for instance ep_grpo or 'grpo | whiten'; their "
    f"parameters as {PREFIX}NAME.PARAM VALUE or, from a YAML file, {CONFIG} FILE."
)


def widen(add_argument: Any, parser: Any, *args: Any, **kwargs: Any) -> argparse.Action:
    """``ArgumentParser.add_argument``: OpenRLHF's flag for the estimator takes the zoo's spellings besides its own."""
    theirs = kwargs.get("choices")
    if not theirs or not {f"--{ESTIMATOR}", f"--{FLAGS[ESTIMATOR]}"} & set(args):
        return add_argument(parser, *args, **kwargs)

    def spelling(text: str) -> str:
        try:
            return text if text in theirs else make(text) and text
        except (LookupError, TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(error.args[0]) from error

    parser.advantage_zoo = tuple(theirs)
    shown = ",".join(dict.fromkeys([*theirs, *names()]))
    changed = {"choices": None, "type": spelling, "metavar": f"{{{shown}}}", "help": kwargs.get("help", "") + HELP}
    return add_argument(parser, *args, **kwargs | changed)


def resolve_after(parse_known_args: Any, parser: Any, args: Any = None, namespace: Any = None) -> Any:
    """``ArgumentParser.parse_known_args``: the estimator with its parameters goes into the namespace as ``zoo``."""
    theirs = getattr(parser, "advantage_zoo", None)
    if theirs is None:
        return parse_known_args(parser, args, namespace)
    try:
        rest, blocks = take(sys.argv[1:] if args is None else list(args))
        parsed, unknown = parse_known_args(parser, rest, namespace)
        flags = Flags(parsed, parser.get_default)
        chosen = resolve(flags, blocks, theirs)
    except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, LookupError) else error))
    if chosen is not None:
        parsed.zoo = chosen
    what = describe(chosen) if chosen else f"{flags[ESTIMATOR]}, OpenRLHF's own"
    print(f"advantage-zoo: --{flags.name(ESTIMATOR)} is {what}; OpenRLHF {version('openrlhf')}", file=sys.stderr)
    return parsed, unknown


def resolve(flags: Flags, blocks: dict[str, dict[str, Any]], theirs: tuple[str, ...]) -> Estimator | None:
    """The estimator that is asked for, checked against the other flags; None for one of OpenRLHF's own, ``theirs``.

    Raises:
        LookupError: A name is no estimator's.
        TypeError: A parameter is unknown or of the wrong type.
        ValueError: A parameter is out of its range, or the flags do not go together.
    """
    which = flags[ESTIMATOR]
    for name in blocks:
        if name != which:
            raise ValueError(f"{PREFIX}{name} is given and the estimator is {which}; leave it out.")
        if name in theirs:
            raise ValueError(
                f"{PREFIX}{name}: {name} is OpenRLHF's own and takes no such parameters; '{name}()' is the zoo's."
            )
    if which in theirs:
        return None
    made = following(from_config(which, blocks.get(which), where=PREFIX + which), flags)
    check(made, flags)
    return made


def take(args: list[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """OpenRLHF's arguments, and parameters by estimator: the file's, and over them the command line's."""
    rest: list[str] = []
    given: dict[str, str] = {}
    words = iter(args)
    for word in words:
        if not word.startswith(PREFIX):
            rest.append(word)
            continue
        key, equals, value = word.partition("=")
        value = value if equals else next(words, "--")
        if value.startswith("--") and not equals:
            raise ValueError(f"{key} has no value; expected {PREFIX}NAME.PARAM VALUE.")
        if key in given:
            raise ValueError(f"{key} is given twice, as {given[key]} and {value}.")
        given[key] = value
    blocks = read(given.pop(CONFIG)) if CONFIG in given else {}
    for key, value in given.items():
        name, _, param = key.removeprefix(PREFIX).rpartition(".")
        if not (name and param):
            raise ValueError(f"{key}: expected {PREFIX}NAME.PARAM VALUE, for instance {PREFIX}ep_grpo.num_buckets 5.")
        blocks.setdefault(name, {})[param] = value
    return rest, blocks


def read(path: str) -> dict[str, dict[str, Any]]:
    """Blocks of parameters, by estimator, from a YAML file."""
    import yaml

    with open(path, encoding="utf-8") as file:
        try:
            found = yaml.safe_load(file) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{CONFIG} {path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict) or not all(isinstance(block, dict) for block in found.values()):
        raise ValueError(f"{CONFIG} {path}: expected a block of parameters for each estimator, ep_grpo: {{beta: 0.1}}.")
    return {str(name): dict(block) for name, block in found.items()}
