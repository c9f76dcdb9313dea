"""What `advantage-zoo doctor` says of TRL."""

import importlib.metadata

from advantage_zoo.doctor import Finding
from advantage_zoo_trl.points import POINTS, TESTED


def examine() -> list[Finding]:
    """The installed release, and every point at which the adapter touches it."""
    try:
        version = importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        return [Finding("version", True, "not installed")]
    same = version.split(".")[:2] == TESTED.split(".")[:2]
    known = f"{version}, tested with {TESTED}"
    found = [Finding("version", same, known if same else f"{known}; install trl=={TESTED}.")]
    for point in POINTS:
        problem = point.problem()
        found.append(Finding(point.name, not problem, problem or point.why))
    return found
