"""The nearest known name, for error messages."""

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Clause such as ``" (did you mean 'grpo'?)"`` for an unknown ``name``; empty if nothing known is near."""
    import difflib  # only on the way to an error

    candidates = list(known)
    # epsilon, eps: too far apart for a ratio
    found = [k for k in candidates if name.startswith(k) or k.startswith(name)]
    found = found or difflib.get_close_matches(name.lower(), candidates, n=5, cutoff=0.5)

    def likeness(k: str) -> tuple[bool, float]:  # letters that changed places are the likeliest slip
        return sorted(k) == sorted(name.lower()), difflib.SequenceMatcher(None, name.lower(), k).ratio()

    return f" (did you mean {max(found, key=likeness)!r}?)" if found and name else ""
