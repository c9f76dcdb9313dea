"""Mutants of modules where array libraries part, on all of these; ``nox -s mutation_libraries`` runs it in mutants/.

    python tests/library_mutants.py [MUTANT ...]     # by default those that `mutmut run` has not killed

Libraries are imported once, and each mutant has a fork of its own, as JAX is forked before it has begun to work.
"""

import json
import os
import resource
import sys
from pathlib import Path

import array_api_strict  # noqa: F401 - imported before the fork
import jax  # noqa: F401
import pytest
import torch._dynamo  # noqa: F401

MODULES = ("namespace", "segments")
LONGEST = 60
"""Seconds of processor time; what takes longer loops for ever."""


def left() -> list[str]:
    """What survived mutmut, or was not tried."""
    found = []
    for module in MODULES:
        codes = json.loads(Path(f"advantage_zoo/arrays/{module}.py.meta").read_text(encoding="utf-8"))
        found += [name for name, code in codes["exit_code_by_key"].items() if code != 1]  # 1: a test failed
    return found


def survives(mutant: str) -> bool:
    """Whether all tests pass."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
        os.environ["MUTANT_UNDER_TEST"] = mutant
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        module = mutant.split(".")[2]  # advantage_zoo.arrays.MODULE.FUNCTION
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"tests/test_{module}.py"]))
    return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    names = sys.argv[1:] or left()
    for module in MODULES:
        if not survives(f"advantage_zoo.arrays.{module}.none"):
            sys.exit(f"tests/test_{module}.py fails without a mutant.")
    survivors = []
    for done, name in enumerate(names, 1):
        if survives(name):
            survivors.append(name)
            print(f"survived: {name} ({done} of {len(names)})", flush=True)
    print(f"{len(names)} mutants, {len(names) - len(survivors)} killed, {len(survivors)} survived")
