"""``python -m advantage_zoo_openrlhf train_ppo_ray ...``: OpenRLHF's own command line, with more estimators."""

import runpy
import sys
from importlib.util import find_spec

from advantage_zoo_openrlhf import install

COMMAND = "train_ppo_ray"

if sys.argv[1:2] != [COMMAND]:
    sys.exit(f"usage: python -m advantage_zoo_openrlhf {COMMAND} [OpenRLHF's flags]; got {sys.argv[1:2]}.")
if find_spec("openrlhf") is None:
    sys.exit("OpenRLHF is not installed in this environment; pip install openrlhf.")
install()
del sys.argv[1]
runpy.run_module(f"openrlhf.cli.{COMMAND}", run_name="__main__", alter_sys=True)
