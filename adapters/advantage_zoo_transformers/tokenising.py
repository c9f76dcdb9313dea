"""Token ids of prompts and responses: the file's where it has them, else the tokenizer's, where that is faithful.

What a policy has seen and emitted are ids. Of text they are made so that decoding gives the text again, and no token
ever holds the end of a prompt and the beginning of its response.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

from advantage_zoo_transformers.verdicts import decode

PROMPTS = ("text", "decoded", "message")
"""What a prompt that is a text is: what the model has seen, special tokens written out; that, decoded without them; a
user's message, which the chat template goes around."""

_MARKS = ("qz0zq", "qz1zq")
"""Contents of messages by which the template's own words are told; no template holds them."""


class UnfaithfulError(ValueError):
    """Text from which the ids can't be told; the message is the end of a sentence that begins with the row."""


class Tokeniser:
    """Ids of text.

    Args:
        tokenizer: A transformers tokenizer.
        prompts: One of :data:`PROMPTS`.
    """

    def __init__(self, tokenizer: Any, prompts: str = "text") -> None:
        self.tokenizer, self._prompts = tokenizer, prompts
        self._of_text = lru_cache(maxsize=4096)(self._text_prompt)  # a group's responses answer the same prompt

    def prompt(self, prompt: Any) -> list[int]:
        """Ids of a prompt: a text, or a conversation, which goes through the chat template.

        Raises:
            UnfaithfulError: They can't be told.
        """
        if isinstance(prompt, list):
            return self._chat(prompt)
        if not prompt:
            raise UnfaithfulError("has no prompt, so that there is nothing to score the response after")
        return list(self._of_text(str(prompt)))

    def response(self, prompt: Sequence[int], text: str) -> list[int]:
        """Ids of a response's text: tokenized by itself, or behind its prompt where only that gives the text again.

        Raises:
            UnfaithfulError: Neither does.
        """
        before = self._decoded(prompt)
        ids = self._ids(text)
        if self._decoded([*prompt, *ids]) == before + text:
            return ids
        behind = self._ids(before + text)
        if behind[: len(prompt)] == list(prompt) and self._decoded(behind) == before + text:
            return behind[len(prompt) :]
        raise UnfaithfulError(
            f"has the response {_cut(text)}, which this tokenizer does not give again ({_cut(self._decoded(ids))}); "
            "name the model that sampled it, or give the file token_ids"
        )

    def reads(self, ids: Sequence[int], text: str) -> bool:
        """Whether the ids are a spelling of the text, with or without special tokens; if not, they are another's."""
        return text in (self._bare(ids), self._decoded(ids))

    def _text_prompt(self, text: str) -> tuple[int, ...]:
        if self._prompts == "message":
            return tuple(self._chat([{"role": "user", "content": text}]))
        if self._prompts == "decoded" and self._template:
            return self._reconstructed(text)
        # As the tokenizer does by default, unless the text begins with what that would put in front.
        begins = bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)
        ids = tuple(self._ids(text, special=not begins))
        if self._prompts == "decoded" and self._bare(ids) != text:
            raise UnfaithfulError(f"has the prompt {_cut(text)}, which this tokenizer does not give again")
        return ids

    def _reconstructed(self, text: str) -> tuple[int, ...]:
        """What the chat template gives one message, or a system's and a user's, and without special tokens is ``text``.

        Raises:
            UnfaithfulError: There is no such conversation, or several that differ.
        """
        found: set[tuple[int, ...]] = set()
        for roles in (("user",), ("system", "user")):
            for contents in _splits(text, self._frames[roles]):
                ids = self._chat([{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)])
                if self._bare(ids) == text:
                    found.add(tuple(ids))
        if len(found) == 1:
            return found.pop()
        what = "more than one conversation" if found else "no conversation of a user's message and perhaps a system's"
        raise UnfaithfulError(
            f"has the prompt {_cut(text)}, which was written without its special tokens and is what the chat template "
            f"makes of {what}; where no template was used, --prompts text takes it as it stands, and a file with "
            "prompt_ids needs no guess"
        )

    @cached_property
    def _frames(self) -> dict[tuple[str, ...], list[str]]:
        """For the roles of a conversation, what the template writes before, between and after their contents."""
        frames: dict[tuple[str, ...], list[str]] = {}
        for roles in (("user",), ("system", "user")):
            try:
                whole = self._bare(self._chat([{"role": r, "content": m} for r, m in zip(roles, _MARKS, strict=False)]))
            except UnfaithfulError:  # a template without system messages
                whole = ""
            parts: list[str] = []
            for mark in _MARKS[: len(roles)]:
                part, _, whole = whole.partition(mark)
                parts.append(part)
            frames[roles] = [*parts, whole]
        return frames

    @property
    def _template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    def _chat(self, messages: list[Any]) -> list[int]:
        if not self._template:
            raise UnfaithfulError("has a conversation for a prompt, and the tokenizer has no chat template")
        try:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template raises what it likes
            raise UnfaithfulError(f"has a conversation that the chat template refuses ({error})") from error
        return self._ids(text)

    def _ids(self, text: str, *, special: bool = False) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _decoded(self, ids: Sequence[int]) -> str:
        return decode(self.tokenizer, ids, special=True)

    def _bare(self, ids: Sequence[int]) -> str:
        return decode(self.tokenizer, ids)


def _splits(text: str, frame: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Contents that, in the frame, give ``text``."""
    first, *between, last = frame
    if not any(frame) or not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return
    inside = text[len(first) : len(text) - len(last)]
    if not between:
        yield (inside,)
    for middle in filter(None, between):
        place = inside.find(middle)
        while place >= 0:
            yield inside[:place], inside[place + len(middle) :]
            place = inside.find(middle, place + 1)


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
