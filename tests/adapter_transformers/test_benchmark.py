"""benchmarks/dump.py, which is run by people."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "dump.py"
    spec = importlib.util.spec_from_file_location("benchmark_dump", path)
    module = sys.modules["benchmark_dump"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["benchmark_dump"]


def test_the_slowdown_is_the_median_of_the_pairs_whatever_the_machine_does_in_some(benchmark):
    rng = np.random.default_rng(0)
    plain = 1 + 0.05 * rng.standard_normal(400)
    dumping = plain + 0.02 + 0.01 * rng.standard_normal(400)
    dumping[::9] += 5  # somebody else's program
    caller = np.full(400, 0.003)
    found = benchmark.Measured(plain, dumping, caller, cpu=np.full(400, 0.01)).summary()
    assert found["slowdown"]["low"] < 0.02 < found["slowdown"]["high"] < 0.03
    assert found["caller_share"]["median"] == pytest.approx(0.003, rel=0.05)
    assert (found["pairs"], found["cpu_seconds"]) == (400, pytest.approx(0.01))


def test_it_writes_a_file_in_one_step_of_each_pair_and_says_what_that_took(benchmark, tmp_path):
    words = ["--responses", "9", "--tokens", "8", "--seconds", "0.01", "--pairs", "3", "--width", "8"]
    done = CliRunner().invoke(benchmark.main, [*words, "--folder", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(list(tmp_path.glob("step_*.parquet"))) == benchmark.WARM_UP + 3
    assert 0 < found["caller_share"]["median"] <= found["caller_share"]["largest"] < 1
    assert found["slowdown"]["low"] <= found["slowdown"]["median"] <= found["slowdown"]["high"]
    assert "Slowdown: " in benchmark.sentences(found)
