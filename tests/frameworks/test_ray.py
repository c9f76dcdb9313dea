"""`compare --engine ray` on a real cluster of this machine: the same numbers, also where a worker is killed."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from large import Deadly, compared, cut, far_apart, numbers

from advantage_zoo.compare.engines import workers
from advantage_zoo.compare.stream import Bounds, Files, compare_files, survey
from advantage_zoo.compare.work import Request
from advantage_zoo.rollouts import shipped_rollouts
from advantage_zoo.rollouts.shards import common_columns, open_shards

NAMES = "grpo,ep_grpo,rloo"
LITTLE = 0.002


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rollouts")
    cut(pq.read_table(shipped_rollouts()), folder, [300, 700], 64)
    return folder


def test_ray_gives_what_processes_give(folder):
    one, _ = compared([folder], estimators=[NAMES], memory=LITTLE)
    command = [Path(sys.executable).parent / "advantage-zoo", "compare", folder, "-e", NAMES, "--memory", str(LITTLE)]
    done = subprocess.run([*command, "--engine", "ray", "--jobs", "2", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    out = json.loads(done.stdout)
    expected = json.loads(json.dumps(one.to_dict()))
    assert far_apart(expected["estimators"], out["estimators"]) == []
    assert far_apart(expected["agreement"], out["agreement"]) == []


def test_what_is_wrong_comes_back_in_a_sentence(folder):
    alone = folder.parent / "alone"
    cut(pq.read_table(shipped_rollouts()).slice(0, 9), alone, [], 9)
    command = [Path(sys.executable).parent / "advantage-zoo", "compare", alone, "-e", "grpo(singleton=raise)"]
    done = subprocess.run([*command, "--engine", "ray"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Error: grpo(singleton=raise) failed on these rollouts (ValueError: singleton='raise': 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_worker_loses_nothing(folder, tmp_path, monkeypatch, capfd):
    """The estimator kills its own process at the first group that it sees; Ray runs the work again, elsewhere."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))  # where workers find the estimator
    marker = tmp_path / "killed"
    shards, _ = open_shards(sorted(folder.iterdir()))
    files, bounds = Files(shards, common_columns(shards)[0]), Bounds(LITTLE * 1e9, 2)
    marked = [("deadly", Deadly(marker=str(marker)))]
    with workers("ray", 2) as mapped:
        found = survey(files, mapped, lambda _: None)
        assert not marker.exists()
        killed, _ = compare_files(files, found, Request(marked, 0.5, keep=frozenset([0])), mapped, bounds, left_out={})
    assert marker.exists()
    assert capfd.readouterr().out == ""  # where --json's output goes
    expected, _ = compared([folder], estimators=["grpo"], memory=LITTLE)
    (result,), (other,) = killed.results, expected.results
    assert far_apart(other.metrics.to_dict(), result.metrics.to_dict()) == []
    assert numbers(killed)["rollouts"] == numbers(expected)["rollouts"]


def test_a_cluster_that_is_not_there_is_said(folder):
    command = [Path(sys.executable).parent / "advantage-zoo", "compare", folder, "-e", "grpo", "--engine", "ray"]
    done = subprocess.run([*command, "--ray-address", "127.0.0.1:1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: --ray-address 127.0.0.1:1: no cluster answers there (")
    assert "Traceback" not in done.stderr
