"""The nearest known name, for error messages."""

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'grpo'?"``-style clause for an unknown ``name``, empty if nothing known is near."""
    import difflib  # only on the way to an error

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""
