"""What a row of a dump says of its tokens: lists with one entry a token, and the steps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from advantage_zoo.rollouts.rollouts import NO_STEP, SIGNALS
from advantage_zoo.validation import SLACK

TOKEN_LISTS = ("token_ids", *SIGNALS, "response_mask", "step_index")


class RowError(ValueError):
    """A row can't be used; the message is a sentence's end that tells why."""


def token_texts(value: Any) -> list[str]:
    """The texts of a response's tokens.

    Raises:
        RowError: They are no list of texts.
    """
    if not isinstance(value, list) or not all(isinstance(token, str) for token in cast("list[Any]", value)):
        raise RowError("has tokens that are no list of texts")
    return cast("list[str]", value)


def token_lists(given: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The columns with one entry a token, ``count`` of them, that the row has, and the steps.

    Raises:
        RowError: One does not fit.
    """
    found: dict[str, Any] = {}
    for name in TOKEN_LISTS:
        value = given[name]
        if value is None:
            continue
        if not isinstance(value, list) or len(cast("list[Any]", value)) != count:
            raise RowError(f"has {name} that are not {count} numbers, one a token")
        found[name] = _numbers(name, cast("list[Any]", value))
    if given["step_correct"] is not None:
        found["step_correct"] = _verdicts(given["step_correct"])
    _refuse_misplaced(found)
    _refuse_values(found)
    return found


def _verdicts(value: Any) -> list[bool | None]:
    if not isinstance(value, list) or not all(x in (None, 0, 1) for x in cast("list[Any]", value)):
        raise RowError(f"has step_correct {value!r}; expected a list of true, false or null, one a step")
    return [None if x is None else bool(x) for x in cast("list[Any]", value)]


def _refuse_misplaced(found: Mapping[str, Any]) -> None:
    """Steps and their verdicts belong together."""
    if ("step_index" in found) != ("step_correct" in found):
        here, missing = ("step_index", "step_correct")[:: 1 if "step_index" in found else -1]
        raise RowError(f"has {here} and no {missing}")
    steps = len(found.get("step_correct", ()))
    for token, index in enumerate(found.get("step_index", ())):
        if not NO_STEP <= index < steps:
            raise RowError(f"has step_index with {index} at token {token}; expected -1 to {steps - 1}")


def _refuse_values(found: Mapping[str, Any]) -> None:
    """Numbers that are none, and nats that can't be, at emitted tokens."""
    import numpy as np

    for name in SIGNALS:
        if name not in found:
            continue
        x, emitted = found[name], np.asarray(found.get("response_mask", True))
        beyond, wanted = (x < -SLACK, "at least 0") if name == "entropies" else (x > SLACK, "at most 0")
        for bad, sentence in ((~np.isfinite(x), "a finite number"), (beyond, wanted)):
            if (bad & emitted).any():
                token = int((bad & emitted).argmax())
                raise RowError(f"has {name} with {x[token]} at token {token}; expected {sentence}")


def _numbers(name: str, values: Sequence[Any]) -> Any:
    import numpy as np

    if name in SIGNALS:
        try:
            found = np.array([math.nan if x is None else x for x in values], dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            raise RowError(f"has {name} that are no numbers of nats") from None
        if found.ndim != 1:
            raise RowError(f"has {name} that are lists; expected one number a token")
        return found
    kinds = bool if name == "response_mask" else int
    if not all(isinstance(x, kinds) or (kinds is bool and x in (0, 1)) for x in values):
        raise RowError(f"has {name} that are no {'booleans' if kinds is bool else 'integers'}")
    return [kinds(x) for x in values]
