"""Presets and estimators against functions executed from sources, and rlax: those that are to be had here.

How to have them stands in the first line of each ``tests/golden/calls_FRAMEWORK.py``.
"""

import importlib
import warnings

import pytest
from golden.common import compare_on_random_batches

CALLS = {}
for framework in ("ms_swift", "nemo_rl", "rlax", "rllm", "skyrl"):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what rlax imports asks JAX for old names
            calls = importlib.import_module(f"golden.calls_{framework}").CALLS
    except ModuleNotFoundError:
        continue
    CALLS |= {f"{framework}: {label}": (label, call) for label, call in calls.items()}


# The frameworks' own warnings: of batches of one response, of groups of one.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("which", CALLS or [pytest.param("", marks=pytest.mark.skip(reason="no sources here"))])
def test_the_preset_gives_what_the_framework_gives(which):
    compare_on_random_batches(*CALLS[which])
