"""What ``advantage-zoo doctor`` says of verl."""

import subprocess
import sys

from advantage_zoo.doctor import Finding
from advantage_zoo_verl.points import BINDING

IMPORT = "import sys, verl; sys.exit('advantage_zoo_verl' not in sys.modules)"
ADVICE = (
    "`import verl` does not load it, as releases before 0.9 do not look for plugins, and VERL_USE_EXTERNAL_PLUGINS may "
    "leave it out; set VERL_USE_EXTERNAL_MODULES=advantage_zoo_verl on every node."
)


def examine() -> list[Finding]:
    """verl, whether it loads the plugin, and every point that the adapter binds."""
    return BINDING.examine(_loading)


def _loading(_: str) -> Finding:
    """Whether verl loads the plugin by itself, in a process of its own."""
    loaded = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=False).returncode == 0
    return Finding("plugin", loaded, "loaded by `import verl`" if loaded else ADVICE)
