"""Finds estimators by name: the built-in ones, the presets and those of plugins, through the same hook.

Plugins are the entry points of group ``advantage_zoo``, loaded at the first look-up and never at import. Every
estimator of a plugin answers to ``plugin:name``; it answers to plain ``name`` too, unless a built-in or another plugin
has it. ``ADVANTAGE_ZOO_PLUGINS`` chooses: ``none``, ``acme,other`` (only these) or ``-acme`` (all but this one).
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from advantage_zoo.estimator import Estimator
from advantage_zoo.flat import FlatBatch
from advantage_zoo.hookspecs import PROJECT
from advantage_zoo.suggestions import nearest

BUILTIN = "advantage_zoo"
PRESETS = "advantage_zoo.frameworks"
GIVEN = frozenset({"xp", "rewards", "finite", "group_ids", "num_groups", "num_rows", "mask", "nonempty", "extras"})
"""Attributes of every FlatBatch, which no field of a plugin may be called."""

SWITCH = "ADVANTAGE_ZOO_PLUGINS"


@dataclass(frozen=True)
class Entry:
    """A registered estimator.

    Args:
        key: What users type: ``name``, or ``plugin:name`` where the plain name is taken.
        cls: Its class.
        plugin: The plugin that brought it, ``"advantage_zoo"`` for the built-in ones.
    """

    key: str
    cls: type[Estimator]
    plugin: str


@dataclass
class Registry:
    """What was found: entries by every key they answer to, clashing names, and what went wrong."""

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    clashes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    problems: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, plugin: str, classes: Iterable[type[Estimator]]) -> None:
        """Enter the estimators of one plugin; a plain name is free, a built-in's, or clashes."""
        for cls in classes:
            qualified = f"{plugin}:{cls.name}"
            if qualified in self.entries:
                if self.entries[qualified].cls is not cls:
                    self.problems[qualified] = "the plugin offers two estimators of this name; only the first is there."
                continue
            if plugin != BUILTIN:
                self.entries[qualified] = Entry(qualified, cls, plugin)
            holder = self.entries.get(cls.name)
            if cls.name in self.clashes:
                self.clashes[cls.name].append(qualified)
            elif holder is None:
                self.entries[cls.name] = Entry(cls.name, cls, plugin)
            elif holder.plugin == BUILTIN:
                self.problems[qualified] = (
                    f"{cls.name} is built in and cannot be shadowed; type {qualified} for this one."
                )
            else:
                self.clashes[cls.name] = [f"{holder.plugin}:{cls.name}", qualified]
                del self.entries[cls.name]

    def listed(self) -> list[Entry]:
        """Each estimator once, under the shortest key that is its own, sorted by key."""
        plain = {(e.plugin, e.cls.name) for e in self.entries.values() if ":" not in e.key}
        own = [e for e in self.entries.values() if ":" not in e.key or (e.plugin, e.cls.name) not in plain]
        return sorted(own, key=lambda e: e.key)


_loaded: dict[str, Registry] = {}


def registry() -> Registry:
    """The registry under the present setting of ``ADVANTAGE_ZOO_PLUGINS``, made at the first call."""
    setting = os.environ.get(SWITCH, "")
    if setting not in _loaded:
        _loaded[setting] = _load(setting)
    return _loaded[setting]


def names() -> tuple[str, ...]:
    """Every estimator's name, sorted; ``plugin:name`` where the plain name is not its own."""
    return tuple(entry.key for entry in registry().listed() if "@" not in entry.key)


def presets() -> tuple[str, ...]:
    """Every preset's name, ``name@framework``, sorted."""
    return tuple(entry.key for entry in registry().listed() if "@" in entry.key)


def estimator(name: str) -> type[Estimator]:
    """Class of the estimator called ``name``.

    Raises:
        LookupError: No estimator has this name, or two plugins have it; the message says what to type instead, and
            which plugins failed to load.
    """
    found = registry()
    if name in found.entries:
        return found.entries[name].cls
    if name in found.clashes:
        raise LookupError(f"{name!r} is offered by several plugins; type one of {', '.join(found.clashes[name])}.")
    there = presets() if "@" in name else names()
    close = nearest(name, [key for key in found.entries if ("@" in key) == ("@" in name)])
    message = f"No estimator is called {name!r}{close}; there are {', '.join(there)}."
    for plugin, problem in found.problems.items():
        message += f" Plugin {plugin}: {problem}"
    raise LookupError(message)


def _load(setting: str) -> Registry:
    import pluggy

    from advantage_zoo import estimators, frameworks, hookspecs

    found = Registry()
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(estimators, BUILTIN)
    manager.register(frameworks, PRESETS)
    for name, plugin in _plugins(setting, found.problems):
        try:
            manager.register(plugin, name)
        except (Exception, SystemExit) as error:  # one bad plugin must not take the others down
            found.problems[name] = f"failed to register ({type(error).__name__}: {error})."
    hooks = {impl.plugin_name: impl for impl in manager.hook.advantage_zoo_register_estimators.get_hookimpls()}
    ours = (BUILTIN, PRESETS)
    for name in sorted((name for name, _ in manager.list_name_plugin()), key=lambda name: (name not in ours, name)):
        if name not in hooks:
            found.problems[name] = "it implements no hook advantage_zoo_register_estimators."
            continue
        classes: list[type[Estimator]] = []
        try:
            # One by one and not through pluggy's call of all, so that one plugin's failure is its own.
            hooks[name].function(lambda cls, into=classes: into.append(registrable(cls)))  # pyright: ignore
        except (Exception, SystemExit) as error:
            found.problems[name] = f"failed to register its estimators ({type(error).__name__}: {error})."
        found.add(BUILTIN if name in ours else name, classes)
    return found


def _plugins(setting: str, problems: dict[str, str]) -> Iterable[tuple[str, Any]]:
    """Chosen plugins by entry-point name, each loaded; what fails is remembered, not raised."""
    import importlib.metadata

    words = [word.strip() for word in setting.split(",") if word.strip()]
    only = {word for word in words if not word.startswith("-")}
    without = {word[1:] for word in words if word.startswith("-")}
    if only == {"none"}:
        return
    points = importlib.metadata.entry_points(group=PROJECT)
    for missing in sorted((only | without) - {point.name for point in points}):
        problems[missing] = f"{SWITCH} names it, but no installed package offers it."
    seen: dict[str, str] = {}
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        if point.name in without or (only and point.name not in only):
            continue
        if point.name in (BUILTIN, PRESETS) or seen.setdefault(point.name, point.value) != point.value:
            problems[f"{point.name} ({point.value})"] = "another plugin has this entry-point name; rename it."
            continue
        try:
            yield point.name, point.load()
        except (Exception, SystemExit) as error:
            problems[point.name] = f"failed to load from {point.value!r} ({type(error).__name__}: {error})."


def registrable(cls: Any) -> type[Estimator]:
    """``cls`` if it can be registered.

    Raises:
        TypeError: It can't, and why.
    """
    if not (isinstance(cls, type) and issubclass(cls, Estimator)):
        raise TypeError(f"register() takes a subclass of advantage_zoo.Estimator, not {cls!r}")
    name = cls.__dict__.get("name")
    words = name.split("@") if isinstance(name, str) else [""]
    if len(words) > 2 or not all(word.replace("_", "a").isalnum() for word in words):
        raise TypeError(
            f"{cls.__qualname__}.name is {name!r}; expected letters, digits and underscores, and for a preset "
            "name@framework"
        )
    if not is_dataclass(cls) or "__dataclass_fields__" not in cls.__dict__ or not cls.__dataclass_params__.frozen:  # pyright: ignore
        raise TypeError(f"{cls.__qualname__} is not decorated with @dataclass(frozen=True)")
    if not all(isinstance(words, frozenset) for words in (cls.needs, cls.uses, cls.claims)):  # pyright: ignore
        raise TypeError(f"{cls.__qualname__}.needs, .uses and .claims are frozensets of names")
    always = sorted((cls.needs | cls.uses) & (set(vars(FlatBatch)) | GIVEN))
    if always:
        raise TypeError(f"{cls.__qualname__}.needs or uses names {', '.join(always)}, which every estimator is given")
    return cls
