"""What ``advantage-zoo doctor`` says of OpenRLHF."""

from importlib.metadata import PackageNotFoundError, version

from advantage_zoo.doctor import Finding
from advantage_zoo_openrlhf.commands import PLAIN, pth
from advantage_zoo_openrlhf.points import BINDING


def examine() -> list[Finding]:
    """OpenRLHF, whether its plain command is enabled, and every point that the adapter binds."""
    try:
        installed = version("openrlhf")
    except PackageNotFoundError:
        return [Finding("openrlhf", True, "not installed")]
    BINDING.bind()
    takes = "takes" if pth().exists() else "does not take"
    return [
        Finding("openrlhf", True, f"{installed} (tested: {', '.join(BINDING.tested)})"),
        Finding("plain command", True, f"{PLAIN} {takes} the zoo's estimators"),
        *BINDING.findings(),
    ]
