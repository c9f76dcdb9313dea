"""Colours of advantages: blue for more, orange for less, told apart by colour-blind readers, too."""

from collections.abc import Iterable

RGB = tuple[int, int, int]

POSITIVE, NEGATIVE = (33, 102, 172), (179, 88, 6)
"""Strongest colours on a light page and in the terminal."""

ON_DARK = (104, 176, 240), (240, 150, 66)
"""Strongest colours on a dark page."""

LIGHT_CARD, DARK_CARD = (255, 255, 255), (30, 33, 37)

LEVELS = 8
"""Steps from nothing to the strongest."""

FAINTEST = 0.12
"""Share of colour in the weakest step: still told from none."""


def css(dark: bool) -> Iterable[str]:
    """Rules for the classes p1 to p8 and n1 to n8: background, and the text colour that is read best on it."""
    card = DARK_CARD if dark else LIGHT_CARD
    for letter, strongest in zip("pn", ON_DARK if dark else (POSITIVE, NEGATIVE), strict=True):
        for level in range(1, LEVELS + 1):
            share = FAINTEST + (1 - FAINTEST) * (level - 1) / (LEVELS - 1)
            back = mixed(card, strongest, share)
            front = max(((0, 0, 0), (255, 255, 255)), key=lambda text: contrast(text, back))
            yield f".{letter}{level} {{ background: {_hex(back)}; color: {_hex(front)}; }}"


def level(value: float, largest: float) -> str:
    """The class of a value: its sign, and its size as a share of the largest; ``z`` for exactly 0."""
    if value == 0 or largest == 0:
        return "z"
    size = min(LEVELS, int(abs(value) / largest * LEVELS) + 1)
    return f"{'p' if value > 0 else 'n'}{size}"


def mixed(under: RGB, over: RGB, share: float) -> RGB:
    """``share`` of the second colour, the rest of the first."""
    r, g, b = (round(u + share * (o - u)) for u, o in zip(under, over, strict=True))
    return r, g, b


def contrast(one: RGB, two: RGB) -> float:
    """Contrast ratio of WCAG 2, 1 to 21; text needs 4.5."""
    low, high = sorted((_luminance(one), _luminance(two)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: RGB) -> float:
    r, g, b = (c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _hex(colour: RGB) -> str:
    return "#" + "".join(f"{c:02x}" for c in colour)
