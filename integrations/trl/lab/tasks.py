"""Tasks that a model of a hundred thousand parameters can learn, whose every step can be checked.

A prompt says all that an answer is judged by. Answers are demonstrated with slips: each step goes wrong with a given
probability, so that a model that learned from them has the skill, and fails when it is sampled. Its accuracy is chosen
by that probability.
"""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar

from advantage_zoo_transformers import Step, Verdict

END = ";"
"""Ends a response; a token of its own."""


class Task(ABC):
    """Prompts, demonstrations and verdicts."""

    name: ClassVar[str]
    alphabet: ClassVar[str]
    """Characters of prompts and answers, a token each."""
    words: ClassVar[str] = ""
    """What an answer may take any of, without effect; empty if it leaves no choice."""

    @property
    @abstractmethod
    def steps(self) -> float:
        """Steps of an answer in which it may go wrong, on average."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """Characters of the longest answer."""

    @abstractmethod
    def prompts(self, count: int, seed: int) -> list[str]:
        """Prompts, the same for the same seed."""

    @abstractmethod
    def answer(self, prompt: str, rng: random.Random, slip: float, *, free: bool = True) -> str:
        """An answer each of whose steps is wrong with probability ``slip``; worded in one way unless ``free``."""

    @abstractmethod
    def judge(self, prompt: str, text: str) -> Verdict:
        """1 for a right answer, else 0, and its steps."""

    def slip(self, accuracy: float) -> float:
        """Probability of a slip at which answers are right about so often."""
        return 1 - accuracy ** (1 / self.steps)


@dataclass(frozen=True)
class Sums(Task):
    """Running totals modulo 10: ``3+8+5+9=`` and ``1,6,5``. A slip is carried on."""

    terms: int = 8

    name: ClassVar[str] = "sums"
    alphabet: ClassVar[str] = "0123456789+=,"

    @property
    def steps(self) -> float:  # noqa: D102
        return self.terms - 1

    @property
    def longest(self) -> int:  # noqa: D102
        return (self.terms - 1) * 2 - 1

    def prompts(self, count: int, seed: int) -> list[str]:  # noqa: D102
        rng = random.Random(seed)
        return ["+".join(str(rng.randint(0, 9)) for _ in range(self.terms)) + "=" for _ in range(count)]

    def answer(self, prompt: str, rng: random.Random, slip: float, *, free: bool = True) -> str:  # noqa: D102
        digits = _digits(prompt)
        total, text = digits[0], ""
        for digit in digits[1:]:
            total = (total + digit + (rng.randint(1, 9) if rng.random() < slip else 0)) % 10
            between = rng.choice(self.words) if self.words and free else (self.words or ",")[0]
            text += f"{between if text else ''}{total}"
        return text

    def judge(self, prompt: str, text: str) -> Verdict:
        """A step is right if it follows from the one before; the answer, if its last total is the sum."""
        digits = _digits(prompt)
        pieces = re.split(f"[{self.words or ','}]", text)
        totals = [digits[0], *(int(piece) if re.fullmatch(r"[0-9]", piece) else -1 for piece in pieces)]
        right = [
            i < len(digits) and totals[i - 1] >= 0 and totals[i] == (totals[i - 1] + digits[i]) % 10
            for i in range(1, len(totals))
        ]
        complete = len(totals) == len(digits) and min(totals) >= 0
        return Verdict(float(complete and totals[-1] == sum(digits) % 10), _steps(pieces, right))


@dataclass(frozen=True)
class WordedSums(Sums):
    """The same with any of eight letters between, ``1c6a5``: the highest entropies are at tokens without effect.

    Built to hurt: what weighs tokens by their entropy looks at the wrong ones here.
    """

    name: ClassVar[str] = "worded_sums"
    alphabet: ClassVar[str] = "0123456789+=abcdefgh"
    words: ClassVar[str] = "abcdefgh"


class FromReasoningGym(Task):
    """A generator of reasoning-gym, its question cut down to what varies; its own judge decides on the reward."""

    generator: ClassVar[str]
    settings: ClassVar[dict[str, Any]]

    @cached_property
    def _judge(self) -> Any:
        return self._dataset(1, 0)

    def _dataset(self, count: int, seed: int) -> Any:
        import reasoning_gym

        return reasoning_gym.create_dataset(self.generator, size=count, seed=seed, **self.settings)


class Backwards(FromReasoningGym):
    """``spell_backward``: ``glink=`` and ``knilg``, a step a letter."""

    name: ClassVar[str] = "backwards"
    alphabet: ClassVar[str] = "abcdefghijklmnopqrstuvwxyz="
    generator: ClassVar[str] = "spell_backward"
    settings: ClassVar[dict[str, Any]] = {"min_word_len": 5, "max_word_len": 8}
    steps = 6.7
    longest = 8

    def prompts(self, count: int, seed: int) -> list[str]:  # noqa: D102
        return [entry["metadata"]["word"].lower() + "=" for entry in self._dataset(count, seed)]

    def answer(self, prompt: str, rng: random.Random, slip: float, *, free: bool = True) -> str:  # noqa: D102
        letters = self.alphabet[:-1]
        return "".join(rng.choice(letters) if rng.random() < slip else letter for letter in reversed(prompt[:-1]))

    def judge(self, prompt: str, text: str) -> Verdict:  # noqa: D102
        due = prompt[-2::-1]
        right = [i < len(due) and letter == due[i] for i, letter in enumerate(text)]
        solved = self._judge.score_answer(text, {"answer": due}) == 1.0
        return Verdict(float(solved), [Step(i, i + 1, good) for i, good in enumerate(right)])


class Sorting(FromReasoningGym):
    """``number_sorting``: ``5,3,9,1>`` (descending) and ``9,5,3,1``, a step a number."""

    name: ClassVar[str] = "sorting"
    alphabet: ClassVar[str] = "0123456789,<>"
    generator: ClassVar[str] = "number_sorting"
    settings: ClassVar[dict[str, Any]] = {
        "min_numbers": 5,
        "max_numbers": 8,
        "max_decimals": 0,
        "min_value": 0,
        "max_value": 9,
    }
    steps = 6.5
    longest = 15

    def prompts(self, count: int, seed: int) -> list[str]:  # noqa: D102
        asked = []
        for entry in self._dataset(count, seed):
            numbers = ",".join(str(int(float(number))) for number in entry["metadata"]["original_numbers"])
            asked.append(numbers + ("<" if entry["metadata"]["direction"] == "ascending" else ">"))
        return asked

    def answer(self, prompt: str, rng: random.Random, slip: float, *, free: bool = True) -> str:  # noqa: D102
        due = _sorted(prompt)
        return ",".join(str((n + rng.randint(1, 9)) % 10 if rng.random() < slip else n) for n in due)

    def judge(self, prompt: str, text: str) -> Verdict:  # noqa: D102
        due = _sorted(prompt)
        pieces = text.split(",")
        right = [i < len(due) and piece == str(due[i]) for i, piece in enumerate(pieces)]
        direction = "ascending" if prompt[-1] == "<" else "descending"
        entry = {"answer": str([str(n) for n in due]), "metadata": {"direction": direction}}
        solved = all(re.fullmatch(r"\d", piece) for piece in pieces)
        return Verdict(float(solved and self._judge.score_answer(f"[{text}]", entry) == 1.0), _steps(pieces, right))


def _digits(prompt: str) -> list[int]:
    return [int(digit) for digit in re.findall(r"\d", prompt)]


def _sorted(prompt: str) -> list[int]:
    return sorted(_digits(prompt), reverse=prompt[-1] == ">")


def _steps(pieces: Sequence[str], right: Sequence[bool]) -> list[Step]:
    """The pieces between separators of one character; each separator belongs to the piece before it."""
    ends = [*accumulate(len(piece) + 1 for piece in pieces)]
    ends[-1] -= 1  # nothing follows
    return [Step(start, end, good) for (start, end), good in zip(pairwise([0, *ends]), right, strict=True)]


TASKS: dict[str, Task] = {task.name: task for task in (Sums(), WordedSums(), Backwards(), Sorting())}
