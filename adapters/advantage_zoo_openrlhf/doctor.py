"""What ``advantage-zoo doctor`` says of OpenRLHF; nothing of it is imported."""

from importlib.metadata import PackageNotFoundError, version

from advantage_zoo.doctor import Finding
from advantage_zoo_openrlhf.checks import TESTED
from advantage_zoo_openrlhf.commands import PLAIN, pth
from advantage_zoo_openrlhf.patching import POINTS, missing


def examine() -> list[Finding]:
    """Version, the points that the adapter relies on, and whether the plain command is enabled."""
    try:
        found = version("openrlhf")
    except PackageNotFoundError:
        return [Finding("package", True, "not installed")]
    lost = [f"{point.module}: {point.name}({', '.join(point.takes)})" for point in missing()]
    remedy = f"{'; '.join(lost)} not there; install openrlhf=={TESTED}, which the adapter was tested with."
    return [
        Finding("package", True, found if found == TESTED else f"{found}; the adapter was tested with {TESTED}"),
        Finding("points", not lost, remedy if lost else f"all {len(POINTS)} that the adapter relies on are there"),
        Finding(
            "plain command", True, f"{PLAIN} {'takes' if pth().exists() else 'does not take'} the zoo's estimators"
        ),
    ]
