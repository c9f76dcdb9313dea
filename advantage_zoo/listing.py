"""What there is, for `advantage-zoo list`: estimators, presets and transforms, as tables or as JSON values."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from advantage_zoo.frameworks.preset import Preset
from advantage_zoo.parameters import SHAPES, Schedule, parameters_of
from advantage_zoo.printing import new_table
from advantage_zoo.registry import BUILTIN, Entry, registry
from advantage_zoo.transforms import TRANSFORMS, Mix, RewardTransform

SCHEDULE = [f.name for f in dataclasses.fields(Schedule) if f.name != "shape"]


def _estimators() -> list[Entry]:
    return [entry for entry in registry().listed() if "@" not in entry.key]


def _presets() -> list[Entry]:
    return [entry for entry in registry().listed() if "@" in entry.key]


def to_dict() -> dict[str, Any]:
    """Plain JSON values."""
    return {
        "estimators": [_entry(entry) for entry in _estimators()],
        "presets": [_entry(entry) | _preset(entry.cls) for entry in _presets()],
        "transforms": [{"stands": _stands(cls)} | _described(name, cls) for name, cls in _transforms()],
        "schedules": [{"name": name, "parameters": SCHEDULE, "stands": "as a parameter"} for name in SHAPES],
        "problems": registry().problems,
    }


def tables() -> Iterable[tuple[Table, str]]:
    """Each table with the sentence below it."""
    estimators = _table("Estimators", "name", "needs", "arXiv", "plugin", "promises")
    for entry in _estimators():
        plugin = "built in" if entry.plugin == BUILTIN else entry.plugin
        needs = [*sorted(entry.cls.needs), *(f"({name})" for name in sorted(entry.cls.uses))]
        estimators.add_row(entry.key, _words(needs), _arxiv(entry.cls), plugin, _words(sorted(entry.cls.claims)))
    yield (
        estimators,
        "Every estimator gets rewards, response_mask and group_ids; `needs` is what it needs besides, in parentheses "
        "what it uses where it is there.",
    )
    presets = _table("Presets", "name", "framework", "source")
    for entry in _presets():
        facts = _preset(entry.cls)
        presets.add_row(entry.key, facts["framework"], facts["source"])
    yield (
        presets,
        "A preset gives the framework's values, quirks included; docs/presets/ tells how they differ from ours.",
    )
    transforms = _table("Transforms", "name", "stands", "parameters", "arXiv")
    for name, cls in _transforms():
        transforms.add_row(name, _stands(cls), _words(parameters_of(cls)), _arxiv(cls))
    for name in SHAPES:
        transforms.add_row(name, "as a parameter", _words(SCHEDULE), "-")
    yield (
        transforms,
        'Spelled "overlong(20480, 4096) | grpo | top_entropy(0.2) | whiten"; a parameter that follows a schedule by '
        "step, ep_grpo(progress_weight=linear(0, 0.2, 200)).",
    )


def _transforms() -> list[tuple[str, Any]]:
    return [*sorted(TRANSFORMS.items()), (Mix.name, Mix)]


def _stands(cls: type[Any]) -> str:
    if cls is Mix:
        return "as the estimator"
    return "before the estimator" if issubclass(cls, RewardTransform) else "after the estimator"


def _preset(cls: type[Any]) -> dict[str, str]:
    """A plugin may register a preset that says nothing of itself."""
    facts = ("framework", "source", "differs") if issubclass(cls, Preset) else ()
    return {"framework": "-", "source": "-", "differs": ""} | {name: getattr(cls, name) for name in facts}


def _entry(entry: Entry) -> dict[str, Any]:
    return {"plugin": entry.plugin, "uses": sorted(entry.cls.uses), "claims": sorted(entry.cls.claims)} | _described(
        entry.key, entry.cls
    )


def _described(key: str, cls: type[Any]) -> dict[str, Any]:
    paper = cls.paper
    return {
        "name": key,
        "needs": sorted(cls.needs),
        "paper": {"title": paper.title, "arxiv": paper.arxiv, "equations": paper.equations} if paper else None,
        "parameters": {
            f.name: {
                "default": None if f.default is dataclasses.MISSING else f.default,
                **{k: v for k, v in f.metadata.items() if k != "kind"},
            }
            for f in dataclasses.fields(cls)
        },
    }


def _arxiv(cls: type[Any]) -> str:
    return cls.paper.arxiv if cls.paper else "-"


def _words(words: Sequence[str]) -> str:
    return ", ".join(words) or "-"


def _table(title: str, *columns: str) -> Table:
    table = new_table(title)
    for column in columns:
        table.add_column(column, no_wrap=column in ("name", "arXiv"))
    return table
