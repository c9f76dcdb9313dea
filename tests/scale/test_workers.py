"""Worker processes that are killed, that warn, that fail, or that are not installed."""

import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import Connection

import pytest
from large import LITTLE, Deadly, compared, cut
from made_rollouts import rollout_file

from advantage_zoo.compare import ComparisonError
from advantage_zoo.compare.engines import workers
from advantage_zoo.compare.stream import Bounds, Files, compare_files, survey
from advantage_zoo.compare.work import Request
from advantage_zoo.rollouts.shards import common_columns, open_shards


def test_a_killed_process_is_told_of(shipped, tmp_path):
    shards, _ = open_shards(cut(shipped, tmp_path, [], 100))
    files, bounds = Files(shards, common_columns(shards)[0]), Bounds(0.002e9, 2)
    with workers("processes", 2) as mapped:
        found = survey(files, mapped, lambda _: None)
        request = Request([("deadly", Deadly(marker=str(tmp_path / "marker")))], 0.5, keep=frozenset())
        with pytest.raises(ComparisonError, match="A worker process was killed, perhaps for want of memory"):
            compare_files(files, found, request, mapped, bounds, left_out={})


def killed_amid_its_answer(_):
    def half(self, data):
        os.write(self.fileno(), data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Connection._send = half
    return bytes(100_000)


def failing(kind):
    raise kind("as it was told")


def test_a_process_that_is_killed_amid_its_answer_hangs_nobody():
    with workers("processes", 2) as mapped, pytest.raises(ComparisonError, match="A worker process was killed"):
        list(mapped(killed_amid_its_answer, [1, 2, 3]))
    assert multiprocessing.active_children() == []


def test_results_come_in_order_and_what_fails_is_raised():
    with workers("processes", 2) as mapped:
        assert list(mapped(abs, range(-50, 0))) == list(range(50, 0, -1))
        assert list(mapped(abs, [])) == []
        for kind in (AssertionError, EOFError, OSError):  # the last two are not taken for a process that has ended
            with pytest.raises(kind, match="as it was told"):
                list(mapped(failing, [kind]))


def test_what_an_estimator_warns_of_in_a_worker_is_said_once(shipped, tmp_path):
    _, notes = compared(
        cut(shipped, tmp_path, [], 100), estimators=["grpo"], memory=LITTLE, settings=["grpo.singleton=zero"], jobs=2
    )
    assert len(notes) == len(set(notes))


def test_an_error_in_a_worker_names_the_estimator_and_the_row(tmp_path):
    path = rollout_file(tmp_path / "f.parquet", groups=[1, 2, 2, 3, 3, 3, 4, 4, 4])
    with pytest.raises(ComparisonError, match=r"grpo failed on these rollouts.*singleton='raise'"):
        compared([path], estimators=["grpo"], settings=["grpo.singleton=raise"], memory=2.5e-5, jobs=2)


def test_ray_is_asked_for_in_words_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ComparisonError, match=r'--engine ray needs Ray .*: pip install "advantage-zoo\[cli,ray\]"'):
        compared([rollout_file(tmp_path / "f.parquet")], engine="ray")
