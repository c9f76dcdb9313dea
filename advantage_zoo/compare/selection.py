"""Which responses to draw: few, and telling."""

from collections import defaultdict

from advantage_zoo.rollouts import Rollouts


def rows_of_groups(rollouts: Rollouts) -> dict[int, list[int]]:
    """Rows of each group, in order of appearance."""
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(rollouts.groups):
        rows_of[int(group)].append(row)
    return rows_of


def groups_by_outcome(rollouts: Rollouts, threshold: float) -> dict[str, list[list[int]]]:
    """Rows of each group, the groups sorted into ``mixed``, ``all right`` and ``all wrong``; order of appearance."""
    kinds: dict[str, list[list[int]]] = {"mixed": [], "all right": [], "all wrong": []}
    for rows in rows_of_groups(rollouts).values():
        solved = sum(rollouts.rewards[row] > threshold for row in rows)
        kind = "all right" if solved == len(rows) else "all wrong" if solved == 0 else "mixed"
        kinds[kind].append(rows)
    return kinds


def telling_failure(rollouts: Rollouts, threshold: float) -> int | None:
    """The failed response of a mixed group with the most right steps (of the first such, the longest without steps)."""
    mixed = groups_by_outcome(rollouts, threshold)["mixed"]
    failed = [row for rows in mixed for row in rows if rollouts.rewards[row] <= threshold and len(rollouts.tokens[row])]
    return max(failed, key=lambda row: _interest(rollouts, row), default=None)


def _interest(rollouts: Rollouts, row: int) -> tuple[int, int]:
    correct = rollouts.step_correct[row] if rollouts.step_correct is not None else ()
    both = sum(step is True for step in correct) if any(step is False for step in correct) else 0
    return both, len(rollouts.tokens[row])
