"""How users type an estimator: the one spelling, in Python, on the command line and in the frameworks' configs.

grpo                                             a name
ep_grpo(num_buckets=5, gate_scope=batch)         with parameters, by name or in order
grpo@verl                                        a preset, acme:name a plugin's
overlong(20480, 4096) | grpo | whiten            transforms of the rewards before it, of the advantages after it
mix(grpo, ep_grpo | whiten, 0.3)                 0.3 of the first and 0.7 of the second
ep_grpo(progress_weight=linear(0, 0.2, 200))     a parameter that follows a schedule by step

stage = word [ "(" argument { "," argument } ")" ]       argument = [ word "=" ] ( number | list | pipe )
pipe  = stage { "|" stage }                              list     = "[" number { "," number } "]"
"""

import re
from dataclasses import MISSING, dataclass, fields
from typing import Any, NoReturn, cast

from advantage_zoo.estimator import Estimator
from advantage_zoo.parameters import SHAPES, Parameterised, Schedule, parameters_of
from advantage_zoo.registry import estimator, names, presets, registry
from advantage_zoo.suggestions import nearest
from advantage_zoo.transforms import TRANSFORMS, AdvantageTransform, Mix, Pipeline, RewardTransform, Transform

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))"
    r"|(?P<word>(?:[\w-]+:)?[A-Za-z_]\w*(?:@\w+)?)|(?P<sign>[|(),=\[\]]))"
)


@dataclass(frozen=True)
class Stage:
    """A word, and what stands in its parentheses: (name or ``""``, value) pairs; ``None`` if it has none."""

    word: str
    arguments: tuple[tuple[str, Any], ...] | None


def build(text: str) -> Estimator:
    """The estimator that ``text`` spells.

    Raises:
        LookupError: A name in it is no estimator's and no transform's.
        TypeError: A parameter is unknown, missing or of the wrong type.
        ValueError: It cannot be read, its stages are in the wrong order, or a parameter is out of its range.
    """
    reader = _Reader(text)
    pipe = reader.pipe()
    if reader.here:
        reader.fail(f"expected | or the end, not {reader.here!r}")
    return _pipeline(pipe, text)


def construct(cls: type[Estimator], text: str) -> Estimator:
    """An instance of a class that need not be registered, with the arguments of ``text``, ``Name(key=value)``.

    Raises:
        TypeError: A parameter is unknown, missing or of the wrong type.
        ValueError: It cannot be read, or a parameter is out of its range.
    """
    reader = _Reader(text)
    stage = reader.stage()
    if reader.here:
        reader.fail(f"expected the end, not {reader.here!r}")
    return _made(cls, stage, text)


def parameter(cls: type[Parameterised], key: str, text: str) -> Any:
    """What ``text`` says as the value of a parameter: a number, a word, true or false, a list, a schedule, a pipe.

    Whether the parameter takes it is for ``cls`` to say, when it is made.

    Raises:
        ValueError: It cannot be read.
    """
    if not text.strip():
        return ""
    reader = _Reader(text)
    value = reader.value()
    if reader.here:
        reader.fail(f"expected the end, not {reader.here!r}")
    return _value(cls, key, value, text)


def split(text: str) -> list[str]:
    """The spellings in a list with commas, which may stand within their parentheses as well."""
    parts, depth, start = [""], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts[-1:] = [text[start:i], ""]
            start = i + 1
    parts[-1] = text[start:]
    return [part.strip() for part in parts if part.strip()]


class _Reader:
    """Reads a spelling from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.start, self.end, self.kind, self.here = text, 0, 0, "", ""
        self.next()

    def fail(self, what: str) -> NoReturn:
        raise ValueError(f"{self.text!r} cannot be read at character {self.start + 1}: {what}.")

    def next(self) -> str:
        """Move on; what has been left behind."""
        left = self.here
        rest = self.text[self.end :]
        self.start = self.end + len(rest) - len(rest.lstrip())
        found = _TOKEN.match(self.text, self.end)
        if found is None and rest.strip():
            self.here = ""
            self.fail(f"{self.text[self.start]!r} is neither a name, a number nor one of | ( ) [ ] , =")
        self.kind, self.here = (found.lastgroup or "", found[found.lastgroup or 0]) if found else ("", "")
        self.end = found.end() if found else len(self.text)
        return left

    def take(self, sign: str) -> bool:
        """Whether ``sign`` stands here; if so, move on."""
        if self.here != sign or self.kind != "sign":
            return False
        self.next()
        return True

    def pipe(self) -> tuple[Stage, ...]:
        stages = [self.stage()]
        while self.take("|"):
            stages.append(self.stage())
        return tuple(stages)

    def stage(self) -> Stage:
        if self.kind != "word":
            self.fail(f"expected a name, not {self.here!r}" if self.here else "expected a name, and it ends here")
        word = self.next()
        return Stage(word, self.several(")", self.argument) if self.take("(") else None)

    def several(self, end: str, one: Any) -> tuple[Any, ...]:
        found: list[Any] = []
        while not self.take(end):
            if found and not self.take(","):
                self.fail(f"expected , or {end}{f', not {self.here!r}' if self.here else ', and it ends here'}")
            found.append(one())
        return tuple(found)

    def argument(self) -> tuple[str, Any]:
        value = self.value()
        if not self.take("="):
            return "", value
        stages = cast("tuple[Stage, ...]", value if isinstance(value, tuple) else ())
        if len(stages) != 1 or stages[0].arguments is not None:
            self.fail("what stands before = is a parameter's name")
        return stages[0].word, self.value()

    def value(self) -> Any:
        if self.kind == "number":
            text = self.next()
            return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
        if self.take("["):
            return list(self.several("]", self.value))
        return self.pipe()


def _pipeline(pipe: tuple[Stage, ...], text: str) -> Estimator:
    parts = [_part(stage, text) for stage in pipe]
    which = [i for i, part in enumerate(parts) if isinstance(part, Estimator)]
    if len(which) != 1:
        found = "no estimator" if not which else f"{len(which)} estimators, {' and '.join(pipe[i].word for i in which)}"
        raise ValueError(f"{text!r} has {found}; a pipeline has one, and mix(a, b, weight) mixes two.")
    before, made, after = parts[: which[0]], parts[which[0]], parts[which[0] + 1 :]
    for part in before:
        if not isinstance(part, RewardTransform):
            raise ValueError(f"{text!r}: {part.name} changes advantages; it goes after the estimator.")
    for part in after:
        if not isinstance(part, AdvantageTransform):
            raise ValueError(f"{text!r}: {part.name} shapes rewards; it goes before the estimator.")
    assert isinstance(made, Estimator)
    return Pipeline(tuple(before), made, tuple(after)) if before or after else made  # pyright: ignore[reportArgumentType]


def _part(stage: Stage, text: str) -> Estimator | Transform:
    word = stage.word
    if word == Mix.name:
        cls: type[Estimator | Transform] = Mix
    elif word in TRANSFORMS:
        cls = TRANSFORMS[word]
    elif word in registry().entries or word in registry().clashes:
        cls = estimator(word)
    else:
        close = nearest(word, [*registry().entries, *TRANSFORMS, Mix.name])
        there = presets() if "@" in word else names()
        raise LookupError(
            f"In {text!r}, no estimator and no transform is called {word!r}{close}; "
            f"estimators are {', '.join(there)}; transforms {', '.join(TRANSFORMS)}."
        )
    return _made(cls, stage, text)


def _made(cls: type[Any], stage: Stage, text: str) -> Any:
    """An instance of an estimator or transform with the stage's arguments."""
    known = parameters_of(cls)
    params: dict[str, Any] = {}
    for i, (key, value) in enumerate(stage.arguments or ()):
        if not key and i >= len(known):
            raise TypeError(f"{text!r}: {stage.word} takes {len(known)} parameters ({', '.join(known)}), not {i + 1}.")
        key = key or known[i]
        if key in params:
            raise TypeError(f"{text!r}: {stage.word}.{key} is given twice.")
        params[key] = _value(cls, key, value, text)
    lacking = [f.name for f in fields(cls) if f.name in known and f.name not in params and f.default is MISSING]
    if lacking and all(key in known for key in params):
        raise TypeError(f"{text!r}: {stage.word} needs {' and '.join(lacking)}; it takes {', '.join(known)}.")
    return cls.create(**params)


def _value(cls: type[Parameterised], key: str, value: Any, text: str) -> Any:
    """A parameter's value: a number, a word, true or false, a schedule, or an estimator."""
    if not isinstance(value, tuple):
        return value
    stages = cast("tuple[Stage, ...]", value)
    first = stages[0]
    if len(stages) == 1 and first.word in SHAPES and first.arguments is not None:
        return _schedule(first, text)
    declared = cls.__dataclass_fields__[key].metadata.get("kind") if key in cls.__dataclass_fields__ else None
    if declared is Estimator:
        return _pipeline(stages, text)
    if len(stages) > 1 or first.arguments is not None:
        raise TypeError(f"{text!r}: {cls.name}.{key} is a pipeline or a call; expected a number or a word.")
    return {"true": True, "false": False}.get(first.word.lower(), first.word)


def _schedule(stage: Stage, text: str) -> Schedule:
    names = ("start", "end", "steps")
    given = {key or names[min(i, 2)]: value for i, (key, value) in enumerate(stage.arguments or ())}
    if sorted(given) != sorted(names) or len(stage.arguments or ()) != 3:
        raise TypeError(f"{text!r}: {stage.word} takes start, end and steps.")
    return Schedule(**given, shape=stage.word)
