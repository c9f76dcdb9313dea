"""What a task says of a response, and which tokens its steps are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from advantage_zoo.rollouts.rollouts import NO_STEP


@dataclass(frozen=True)
class Step:
    """A reasoning step of a response, and whether it is right.

    Args:
        start: First character of the step in the response's text.
        end: One past its last character.
        correct: Whether the step is right; ``None`` where the task can't tell.
    """

    start: int
    end: int
    correct: bool | None


@dataclass(frozen=True)
class Verdict:
    """What a task says of a response: its reward and, where the task can tell, its steps in order."""

    reward: float
    steps: Sequence[Step] = ()


Reward = Callable[..., float | Verdict]
"""Maps a prompt and a response's text (without special tokens) to a reward or a verdict."""


def judge(reward: Reward, prompt: str, text: str, context: dict[str, Any], row: int) -> Verdict:
    """The verdict on response ``row``, checked.

    Raises:
        ValueError: The reward is not a finite number, or a step does not lie in the text.
    """
    given = reward(prompt, text, **context)
    try:
        verdict = given if isinstance(given, Verdict) else Verdict(float(given))
        finite = abs(float(verdict.reward)) < float("inf")
    except (TypeError, ValueError):
        raise ValueError(
            f"The reward of response {row}, {text!r}, is {given!r}; expected a number or a Verdict."
        ) from None
    if not finite:
        raise ValueError(f"The reward of response {row}, {text!r}, is {verdict.reward}; expected a finite number.")
    for i, step in enumerate(verdict.steps):
        if not 0 <= step.start <= step.end <= len(text):
            raise ValueError(
                f"Step {i} of response {row}, {text!r}, is at characters {step.start} to {step.end}; expected a range "
                f"within 0 to {len(text)}."
            )
    return Verdict(float(verdict.reward), tuple(verdict.steps))


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Text of each token, so that those of the tokens that are not special make up the response's text.

    Decoded one by one, tokens of many tokenizers lose their leading space and the pieces of a character that is spread
    over several tokens. Here a token's text is what it adds to the text of the few before it; a character's text is
    with the last of its tokens, and the ones before it have none. Special tokens are written as they are called.
    """
    special = set(tokenizer.all_special_ids)
    texts: list[str] = []
    begin = seen = 0  # the window: ids[begin:seen] have been given their text, those after wait for theirs
    for i, token in enumerate(ids):
        if token in special:
            texts.append(decode(tokenizer, [token], special=True))
            continue
        before, now = decode(tokenizer, ids[begin:seen]), decode(tokenizer, ids[begin : i + 1])
        if now.endswith("\ufffd") and any(later not in special for later in ids[i + 1 :]):
            texts.append("")
            continue
        texts.append(now[len(before) :])
        begin, seen = seen, i + 1
    return texts


def decode(tokenizer: Any, ids: Sequence[int], special: bool = False) -> str:
    """Text of ids, as the tokenizer's decoder has it: no tidying of spaces."""
    return tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)


def step_index(texts: Sequence[str], special: Sequence[bool], steps: Sequence[Step]) -> list[int]:
    """Step of each token: the one in which the token begins; none for special tokens and those outside every step."""
    index: list[int] = []
    position = 0
    for text, is_special in zip(texts, special, strict=True):
        inside = (i for i, step in enumerate(steps) if not is_special and step.start <= position < step.end)
        index.append(next(inside, NO_STEP))
        position += 0 if is_special else len(text)
    return index
