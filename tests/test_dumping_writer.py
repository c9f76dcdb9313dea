"""Who writes what is handed over: another process, or a thread where there is none; never the thread that trains."""

import gc
import os
import signal
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_dumping import PROMPTS, Gated, Letters, Slow, batch_of, unpicklable, write

import advantage_zoo as az
from advantage_zoo.rollouts import RolloutDump, Tokens, read, read_rollouts


@pytest.fixture(params=[lambda cls, *args: cls(*args), unpicklable], ids=["process", "thread"])
def made(request):
    """Makes a tokenizer whose texts are made in a process, or in a thread of this one."""
    return request.param


def test_what_is_handed_over_may_change_afterwards(tmp_path, made):
    batch, tokens = batch_of()
    before = batch.logprobs[0, :3].copy()
    gated = made(Gated, tmp_path)
    dump = RolloutDump(tmp_path / "run", gated, source="tests")
    dump.ready()
    dump.write(batch, step=0, prompts=PROMPTS, responses=tokens)
    batch.logprobs[:] = -9.0
    tokens.ids[:] = 1
    gated.open()
    dump.flush()
    found = read_rollouts(tmp_path / "run" / "step_000000.parquet")
    np.testing.assert_array_equal(found.logprobs[0], before)
    assert found.token_ids[0] == batch_of()[1].ids[0, :3].tolist()


def test_writing_does_not_hold_up_the_step_but_only_one_step_waits_to_be_written(tmp_path, made):
    gated, run = made(Gated, tmp_path), tmp_path / "run"
    dump = RolloutDump(run, gated, source="tests")
    dump.ready()
    batch, tokens = batch_of()
    dump.write(batch, step=0, prompts=PROMPTS, responses=tokens)
    assert not list(run.iterdir())  # it came back before anything was written
    there = []

    def next_step():
        dump.write(batch, step=1, prompts=PROMPTS, responses=tokens)
        there.extend(path.name for path in run.glob("*.parquet"))

    second = threading.Thread(target=next_step)
    second.start()
    gated.open()
    second.join()
    dump.flush()
    assert "step_000000.parquet" in there


@pytest.fixture
def seen(monkeypatch):
    """Threads of this process in which texts are decoded and files are written, by what they did."""
    threads = {}

    def watch(there, name):
        original = getattr(there, name)

        def watched(*args, **options):
            threads.setdefault(name, set()).add(threading.get_ident())
            return original(*args, **options)

        monkeypatch.setattr(there, name, watched)

    watch(Letters, "decode")
    watch(pq, "write_table")
    watch(os, "fsync")
    return threads


def test_nothing_of_the_writing_happens_in_the_process_that_trains(tmp_path, seen, capfd):
    write(tmp_path, 0, 1)
    assert seen == {}
    assert len(read(tmp_path)[0]) == 8
    assert capfd.readouterr() == ("", "")


def test_until_the_process_has_started_a_thread_writes(tmp_path):
    slow, run = Slow(tmp_path), tmp_path / "run"
    dump = RolloutDump(run, slow, source="tests")
    batch, tokens = batch_of()
    dump.write(batch, step=0, prompts=PROMPTS, responses=tokens)
    dump.flush()
    assert str(os.getpid()) not in read_rollouts(run / "step_000000.parquet").texts
    slow.gate.write_text("")
    assert dump.ready()
    dump.write(batch, step=1, prompts=PROMPTS, responses=tokens)
    dump.flush()
    (pid,) = set(read_rollouts(run / "step_000001.parquet").texts)
    assert int(pid) != os.getpid()


def test_a_tokenizer_that_no_other_process_can_have_is_used_in_a_thread_which_is_said(tmp_path, seen, capfd):
    write(tmp_path, 0, 1, tokenizer=unpicklable(Letters))
    assert set(seen) == {"decode", "write_table", "fsync"}
    assert threading.get_ident() not in set.union(*seen.values())
    assert len(read(tmp_path)[0]) == 8
    said = capfd.readouterr().err
    assert said.count("advantage-zoo: rollouts are written in a thread of the training's own process") == 1
    assert "unpicklable.<locals>.Here" in said


class Elsewhere(Letters):
    """Tells the process that decodes, and does something to it that is none of a tokenizer's business."""

    def __init__(self, what):
        self.home, self.what = os.getpid(), what

    def decode(self, ids, **options):
        if self.what == "prints":
            print("decoding")
        elif self.what == "cannot":
            raise KeyError("no token 7")
        elif os.getpid() != self.home:
            os.kill(os.getpid(), self.what)
        return str(os.getpid())


@pytest.mark.parametrize("what", ["prints", signal.SIGINT])
def test_the_process_goes_on_when_a_tokenizer_prints_and_when_ctrl_c_is_pressed(tmp_path, capfd, what):
    """Ctrl-C reaches all processes of a terminal; the one that trains decides when to end."""
    write(tmp_path, 0, 1, tokenizer=Elsewhere(what))
    for step in (0, 1):
        assert str(os.getpid()) not in read_rollouts(tmp_path / f"step_00000{step}.parquet").texts
    said, failed = capfd.readouterr()
    assert (said, set(failed.split())) == ("", {"decoding"} if what == "prints" else set())


def test_a_thread_goes_on_when_the_process_is_killed(tmp_path, capfd):
    """As where memory runs out. Nothing is lost, and it is said."""
    write(tmp_path, 0, 1, tokenizer=Elsewhere(signal.SIGKILL))
    assert set(read_rollouts(tmp_path / "step_000000.parquet").texts) == {str(os.getpid())}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000.parquet", "step_000001.parquet"]
    assert capfd.readouterr().err.count("RuntimeError: it ended with status -9") == 1


def test_what_a_tokenizer_raises_is_raised(tmp_path):
    with pytest.raises(KeyError, match="no token 7"):
        write(tmp_path, 0, tokenizer=Elsewhere("cannot"))
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_with_the_dump(tmp_path):
    dump = write(tmp_path, 0, tokenizer=Elsewhere(0))
    process = int(read_rollouts(tmp_path / "step_000000.parquet").texts[0])
    os.kill(process, 0)  # it is there
    del dump
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_the_process_that_trains_does_a_small_part_of_the_work(tmp_path):
    """It copies, and hands over. Processor time of all its threads, which other programs do not add to."""
    shape = (64, 512)
    ids, there = np.random.default_rng(0).integers(0, 10, shape), np.ones(shape, bool)
    batch = az.RolloutBatch(
        rewards=np.ones(64),
        response_mask=there,
        group_ids=np.arange(64) // 8,
        **{name: np.full(shape, -0.5, np.float32) for name in ("logprobs", "ref_logprobs")},
        entropies=np.full(shape, 0.5, np.float32),
    )

    def middle(tokenizer, folder):
        dump, took = RolloutDump(folder, tokenizer, source="tests"), []
        dump.ready()
        for step in range(5):
            before = time.process_time()
            dump.write(batch, step=step, prompts=["p"] * 64, responses=Tokens(ids, there))
            dump.flush()
            took.append(time.process_time() - before)
        return sorted(took)[2]

    assert middle(Letters(), tmp_path / "process") < 0.25 * middle(unpicklable(Letters), tmp_path / "thread")
