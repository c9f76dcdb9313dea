"""Prompts and completions as text: strings as they are, conversations message by message."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

# Scripts without spaces between words: a character each.
_CHARACTER = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_WORD = re.compile(rf"\s*{_CHARACTER}|\s*(?:(?!{_CHARACTER})\S)+|\s+")

POLICY = "assistant"
"""The role whose messages the policy emitted."""


def words(text: str) -> list[str]:
    """``text`` cut into words, each with the white space before it; joined they are ``text``."""
    return _WORD.findall(text)


def prompt_text(value: Any) -> str:
    """The prompt as text; a conversation as lines of role and content."""
    if not isinstance(value, list):
        return "" if value is None else str(value)
    return "\n".join(f"{role}: {content}" for role, content in _messages(cast("list[Any]", value)))


def pieces(value: Any) -> tuple[str, list[str], list[bool]]:
    """A completion's text, its words, and which of these the policy emitted (the assistant's, of a conversation)."""
    if not isinstance(value, list):
        found = words(str(value))
        return str(value), found, [True] * len(found)
    said = [(role == POLICY, words(content)) for role, content in _messages(cast("list[Any]", value))]
    cut = [word for _, found in said for word in found]
    return "".join(cut), cut, [emitted for emitted, found in said for _ in found]


def _messages(value: Sequence[Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for message in value:
        if isinstance(message, Mapping):
            one = cast("Mapping[str, Any]", message)
            found.append((str(one.get("role", "")), _content(one)))
        else:
            found.append(("", str(message)))
    return found


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):  # parts, such as {"type": "text", "text": ...}
        parts = cast("list[Any]", content)
        found = [str(cast("Mapping[str, Any]", p).get("text") or "") for p in parts if isinstance(p, Mapping)]
        return "".join(found)
    calls = message.get("tool_calls")
    return ("" if content is None else str(content)) + ("" if not calls else str(calls))
