"""Running totals modulo 10, one step a term: a task whose every step can be checked.

    prompt      a3+b8+c5+d9=
    response    b+8=1,c=6,d+9=5;

A step names the next term and writes the new total, either briefly (``c=6``) or with the term's digit (``b+8=1``).
Which of the two is a free choice that changes nothing: a token of high entropy that does not matter, next to totals
that do. The answer is right if it has a step for every term and its last total is the sum. A step is right if its total
follows from the total written before it, so failed answers hold right steps and, where two slips cancel, right answers
hold wrong ones.
"""

import random
import re

from advantage_zoo_transformers import Step, Verdict

LETTERS = "abcdefghi"
ALPHABET = "0123456789" + LETTERS + "+=,"
END = ";"
MIN_TERMS, MAX_TERMS = 3, len(LETTERS)
MAX_RESPONSE = 6 * (MAX_TERMS - 1)
"""Tokens: six a step in its long form, the last one's comma being the end."""


def make_prompt(rng: random.Random) -> str:
    """A sum of 3 to 9 digits."""
    terms = rng.randint(MIN_TERMS, MAX_TERMS)
    return "+".join(f"{letter}{rng.randint(0, 9)}" for letter in LETTERS[:terms]) + "="


def make_response(prompt: str, rng: random.Random, slip: float) -> str:
    """A worked answer, each of whose totals may be wrong and is then carried on.

    A total is wrong with probability ``slip`` where the addition passes 10, and with an eighth of that elsewhere: some
    prompts are easy, some hard, so that groups are all right, all wrong and mixed.
    """
    digits = [int(digit) for digit in re.findall(r"\d", prompt)]
    total, steps = digits[0], []
    for letter, digit in zip(LETTERS[1:], digits[1:], strict=False):
        passes = total + digit >= 10
        total = (total + digit) % 10
        if rng.random() < (slip if passes else slip / 8):
            total = (total + rng.randint(1, 9)) % 10
        steps.append(f"{letter}+{digit}={total}" if rng.random() < 0.5 else f"{letter}={total}")
    return ",".join(steps) + END


def judge(prompt: str, text: str) -> Verdict:
    """Reward 1 for a right and complete answer, else 0, and the steps."""
    digits = [int(digit) for digit in re.findall(r"\d", prompt)]
    total: int | None = digits[0]
    steps: list[Step] = []
    complete = True
    pieces = text.split(",")
    for i, piece in enumerate(pieces):
        start = sum(len(p) + 1 for p in pieces[:i])
        found = re.fullmatch(r"([a-i])(?:\+(\d))?=(\d)", piece)
        due = i + 1 < len(digits) and found is not None and found[1] == LETTERS[i + 1]
        right = bool(
            found
            and due
            and total is not None
            and (found[2] is None or int(found[2]) == digits[i + 1])
            and int(found[3]) == (total + digits[i + 1]) % 10
        )
        complete &= due
        total = int(found[3]) if found else None
        # The comma after a step belongs to it.
        steps.append(Step(start, min(start + len(piece) + 1, len(text)), right))
    solved = complete and len(pieces) == len(digits) - 1 and total == sum(digits) % 10
    return Verdict(float(solved), steps)
