"""Tokens as a reader sees them: byte-level pieces decoded, white space visible, nothing that moves the cursor."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from unicodedata import category

from rich.cells import cell_len

_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Format characters that turn what follows around; the others belong to scripts and emoji: joiners, marks, tags."""
_SPECIAL = re.compile("<[|\uff5c][^<>]*[|\uff5c]>|</?\\w+>")
"""Tokens such as an end of turn, which decoding may have taken out of the text."""


def readable(tokens: Sequence[str], text: str) -> list[str]:
    """The tokens as pieces of ``text``; decoded first if they are a byte-level or SentencePiece vocabulary's.

    A file should hold decoded tokens, but many hold the vocabulary's own spelling: ``Ġhello`` and ``Ċ`` (byte-level
    BPE), ``▁hello`` and ``<0xE2>`` (SentencePiece). These are recognised by their giving ``text`` when decoded, which
    the tokens as they stand do not. A token that is part of a character is shown as its bytes.

    Args:
        tokens: Texts of a response's tokens.
        text: The response; the tokens may have more (an end-of-sequence token).
    """
    bare = _SPECIAL.sub("", text)
    if not bare or bare in _SPECIAL.sub("", "".join(tokens)):
        return list(tokens)
    for spelled in (_byte_level, _sentencepiece):
        pieces = [spelled(token) for token in tokens]
        if bare in _SPECIAL.sub("", b"".join(pieces).decode("utf-8", errors="replace")):
            return [_decoded(piece) for piece in pieces]
    return list(tokens)


@lru_cache(maxsize=2**17)  # the same tokens over and over
def harmless(token: str) -> str:
    """The token with line ends and tabs made visible, and nothing that is invisible or turns the text around."""
    shown = token.replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", "⇥")
    shown = "".join(c if c.isprintable() or _belongs(c) else "�" for c in shown)
    if not cell_len(shown):
        return f"◌{shown}" if any(category(c).startswith("M") for c in shown) else "∅"
    return shown


def _belongs(c: str) -> bool:
    """Whether a character that is not printable is part of a text: a space of any script, a format character."""
    return category(c) == "Zs" or (category(c) == "Cf" and c not in _TURNING)


def paragraph(text: str) -> str:
    """As :func:`harmless`, but with line ends that are line ends."""
    return "\n".join(harmless(line) if line else "" for line in text.split("\n"))


def visible(token: str) -> str:
    """As :func:`harmless`, with spaces visible, too."""
    return harmless(token).replace(" ", "␣")


@cache
def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's alphabet of bytes: printable ones stand for themselves, the others for characters from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def _byte_level(token: str) -> bytes:
    alphabet = _bytes_of_characters()
    if all(c in alphabet for c in token):
        return bytes(alphabet[c] for c in token)
    return token.encode("utf-8", errors="replace")


def _sentencepiece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            pass
    return token.replace("▁", " ").encode("utf-8", errors="replace")


def _decoded(piece: bytes) -> str:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{b:02x}" for b in piece)
