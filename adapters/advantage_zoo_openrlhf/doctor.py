"""What ``advantage-zoo doctor`` says of OpenRLHF."""

from advantage_zoo.doctor import Finding
from advantage_zoo_openrlhf.commands import PLAIN, PTH
from advantage_zoo_openrlhf.points import BINDING


def examine() -> list[Finding]:
    """OpenRLHF, whether its plain command is enabled, and every point that the adapter binds."""
    takes = "takes" if PTH.exists() else "does not take"
    return BINDING.examine(lambda _: Finding("plain command", True, f"{PLAIN} {takes} the zoo's estimators"))
