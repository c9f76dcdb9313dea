"""The nearest known name, for error messages."""

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Clause such as ``" (did you mean 'grpo'?)"`` for an unknown ``name``; empty if nothing known is near."""
    import difflib  # only on the way to an error

    candidates = list(known)
    found = [
        k for k in candidates if name.startswith(k) or k.startswith(name)
    ]  # epsilon, eps: too far apart for a ratio
    found = found or difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.5)
    return f" (did you mean {max(found, key=len)!r}?)" if found and name else ""
