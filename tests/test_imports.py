"""What importing and asking for help cost, measured in a process of its own."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "jax", "transformers", "pyarrow", "numpy", "rich", "jinja2", "hypothesis", "array_api_compat")


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import advantage_zoo",
        "import advantage_zoo as az; az.names(); az.estimator('ep_grpo')(num_buckets=5)",
        "import advantage_zoo.rollouts",
        "import advantage_zoo.cli",
    ],
)
def test_nothing_heavy_is_imported(statement):
    assert not loaded_after(statement) & set(HEAVY)


def test_only_the_library_in_hand_is_imported():
    loaded = loaded_after(
        "import numpy as np, advantage_zoo as az\n"
        "batch = az.RolloutBatch(rewards=np.ones(2), response_mask=np.ones((2, 1), bool), group_ids=np.zeros(2, int))\n"
        "az.validate(batch); az.compute_advantages(batch, 'grpo')"
    )
    assert not loaded & {"torch", "jax", "transformers", "pyarrow"}


def test_help_answers_in_half_a_second():
    command = [Path(sys.executable).parent / "advantage-zoo", "--help"]
    fastest = float("inf")
    for _ in range(5):  # the fastest of five: the machine may be busy, the program is the same
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        fastest = min(fastest, time.perf_counter() - start)
    assert "compare" in done.stdout
    assert fastest < 0.5
