"""Which estimators to run on a file, and with which parameters: what `--estimators` and `--set` mean."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from advantage_zoo.compare.comparison import missing_inputs, never_in_a_file
from advantage_zoo.compute import make
from advantage_zoo.estimator import Estimator
from advantage_zoo.registry import names, presets
from advantage_zoo.spelling import parameter
from advantage_zoo.suggestions import nearest


class ChoiceError(ValueError):
    """What was asked for cannot be run; the message says what can."""


def choose(have: Collection[str], source: str, asked: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """The names of the estimators to run: those asked for, else all that rollouts with signals ``have`` can feed.

    Returns:
        The names; and, for each estimator that was left out, the reason.

    Raises:
        LookupError: No estimator has one of these names.
        ChoiceError: The rollouts lack an input of one that was asked for, or none is left.
    """
    wanted = list(dict.fromkeys(asked or names()))
    lacking = {name: missing_inputs(have, make(name).needs) for name in wanted}
    starved = [name for name in wanted if lacking[name]]
    fed = [name for name in wanted if name not in starved]
    if asked and starved:
        missing = sorted({field for name in starved for field in lacking[name]})
        hint = f"--estimators {','.join(fed)} runs without" if fed else "docs/rollouts.md lists the columns"
        command = to_score(missing, source)
        hint += f", and {command} computes what is missing" if command else ""
        raise ChoiceError(f"{source} has no {' and no '.join(missing)}, which {_needed_by(starved)}; {hint}.")
    if not fed:
        raise ChoiceError("There is no estimator to compare; advantage-zoo list shows what there is, and why.")
    return fed, {name: _reason(lacking[name]) for name in starved}


def _reason(fields: list[str]) -> str:
    never = never_in_a_file(fields)
    if never:
        return f"needs {listed(never)}, which no rollout file holds"
    return f"needs {listed(fields)}, which these rollouts do not have"


def to_score(missing: Iterable[str], source: str) -> str:
    """The command that computes those of the missing fields that a model can tell; empty if it can tell none."""
    policy = " --model POLICY" if {"logprobs", "entropies"} & set(missing) else ""
    reference = " --ref-model REFERENCE" if "ref_logprobs" in missing else ""
    if not policy + reference:
        return ""
    return f"advantage-zoo score {shlex.quote(source)}{policy}{reference} -o scored.parquet"


def by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """The reasons for which estimators are left out, each with their names."""
    found: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        found.setdefault(reason, []).append(name)
    return found


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def configure(chosen: Iterable[str], settings: Iterable[str] = ()) -> list[tuple[str, Estimator]]:
    """(name, instance) pairs, with ``NAME.PARAM=VALUE`` settings in :mod:`advantage_zoo.spelling`'s terms.

    Raises:
        ChoiceError: A setting cannot be read, its estimator is not chosen, or its parameter or value is refused.
    """
    params: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for setting in settings:
        target, equals, text = setting.partition("=")
        name, _, key = target.rpartition(".")
        if not (equals and name and key):
            raise ChoiceError(f"--set {setting}: expected NAME.PARAM=VALUE, for instance ep_grpo.num_buckets=5.")
        if name not in params:
            meant = "" if name in (*names(), *presets()) else nearest(name, params)
            raise ChoiceError(f"--set {setting}: {name!r} is not compared{meant}; compared are {', '.join(params)}.")
        params[name][key] = _parsed(name, key, text, setting)
        _made(name, {key: params[name][key]}, f"--set {setting}: ")  # refused here, the message tells which
    return [(name, _made(name, given, f"{name} cannot be made: ")) for name, given in params.items()]


def _parsed(name: str, key: str, text: str, setting: str) -> Any:
    """``text`` as a value; making the estimator names what is unknown, of the wrong type or out of range."""
    try:
        return parameter(type(make(name)), key, text)
    except (ValueError, TypeError, LookupError) as error:
        raise ChoiceError(f"--set {setting}: {error}") from error


def _made(name: str, params: dict[str, Any], where: str) -> Estimator:
    try:
        return make(name, **params)
    except Exception as error:  # a plugin's constructor may raise anything
        raise ChoiceError(f"{where}{error}") from error


def _needed_by(starved: list[str]) -> str:
    return f"{listed(starved)} {'needs' if len(starved) == 1 else 'need'}"
