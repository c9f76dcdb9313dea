"""What the report draws with: colours, the texts of tokens, profiles."""

import re

import numpy as np
import pytest
from made_rollouts import made_rollouts, only_tokens

from advantage_zoo.compare import palette
from advantage_zoo.compare.part import Part
from advantage_zoo.compare.survey import Survey
from advantage_zoo.compare.tally import tally
from advantage_zoo.compare.texts import readable
from advantage_zoo.rollouts.ragged import Ragged


@pytest.mark.parametrize("dark", [False, True])
def test_text_on_every_colour_has_the_contrast_that_reading_needs(dark):
    rules = list(palette.css(dark))
    assert len(rules) == 2 * palette.LEVELS
    for rule in rules:
        back, front = (tuple(bytes.fromhex(word)) for word in re.findall("#([0-9a-f]{6})", rule))
        assert palette.contrast(back, front) >= 4.5, rule


def test_levels_grow_with_the_size_and_keep_the_sign():
    assert [palette.level(x, 2.0) for x in (0, 1e-9, 2, -2, -1)] == ["z", "p1", "p8", "n8", "n5"]
    assert palette.level(0.0, 0.0) == "z"


@pytest.mark.parametrize(
    ("tokens", "text", "shown"),
    [
        (["a", " b"], "a b", ["a", " b"]),
        (["Hello", "Ġworld", "Ċ", "âĤ¬"], "Hello world\n€", ["Hello", " world", "\n", "€"]),
        (["ä½", "ł", "好"], "你好", ["\\xe4\\xbd", "\\xa0", "好"]),
        (["ä½", "ł", "å¥½"], "你好", ["\\xe4\\xbd", "\\xa0", "好"]),
        (
            ["▁Hello", "▁w", "<0x0A>", "<0xE2>", "<0x82>", "<0xAC>", "</s>"],
            "Hello w\n€",
            [" Hello", " w", "\n", "\\xe2", "\\x82", "\\xac", "</s>"],
        ),
        (["Hi", "<|im_end|>", "Ġyou", "Ċ"], "Hi you\n", ["Hi", "<|im_end|>", " you", "\n"]),  # decoding takes it out
        (["<think>", "Ġa", "<|im_end|>", "Ġb"], "<think> a b", ["<think>", " a", "<|im_end|>", " b"]),
        (["▁a", "</s>", "▁b"], "a b", [" a", "</s>", " b"]),
        (["Ġ"], "Ġ", ["Ġ"]),  # a response about tokenizers
        (["?"], "other", ["?"]),
        ([], "", []),
    ],
)
def test_vocabularies_spelling_is_decoded_where_that_gives_the_text(tokens, text, shown):
    assert readable(tokens, text) == shown


def profiled(rollouts, values):
    """The part, its tally, and its profiles by position and length."""
    ragged = Ragged.of(rollouts)
    part = Part(ragged, Survey.of(ragged).lines, 0.5)
    found = tally(values, part, np.arange(len(ragged)))
    return part, found, found.profiles(part.axes)


def test_profiles_by_hand():
    rollouts = made_rollouts(**only_tokens([["a"] * 10, ["a"] * 10, *made_rollouts().tokens[2:]]))
    values = np.zeros(sum(map(len, rollouts.tokens)))
    values[0], values[19] = 3.0, -1.0
    part, found, (by_position, by_length) = profiled(rollouts, values)
    mean = 4 / len(values)
    in_position, in_length = (
        np.bincount(bins, minlength=len(p.positive))
        for bins, p in zip(part.bins, (by_position, by_length), strict=True)
    )
    assert by_position.positive[0] == pytest.approx(3 / in_position[0] / mean)
    assert sum(x for x in by_position.positive[1:] if x) == 0
    assert by_position.negative[9] == pytest.approx(1 / in_position[9] / mean)
    assert sum(x * n for x, n in zip(by_length.positive, in_length, strict=True) if n) == pytest.approx(3 / mean)
    assert found.positive_mass() == pytest.approx(3 / 4)
    _, nothing, (by_position, _) = profiled(rollouts, values * 0)
    assert nothing.positive_mass() is None
    assert set(by_position.positive) <= {0.0, None}


def test_tokens_of_equal_entropy_share_a_bin():
    rollouts = made_rollouts(entropies=[np.zeros(len(row), np.float32) for row in made_rollouts().tokens])
    part, *_ = profiled(rollouts, np.zeros(50))
    assert np.unique(part.bins[0]).size == 1
