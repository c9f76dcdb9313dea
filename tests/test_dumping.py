"""What is written while training goes on: whole files that `compare` reads."""

import gc
import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_dumping import LENGTHS, PROMPTS, Gated, Letters, Slow, batch_of, unpicklable, write

import advantage_zoo as az
from advantage_zoo.cli import main
from advantage_zoo.rollouts import RolloutDump, RolloutFileError, Tokens, read, read_rollouts


def in_torch(x):
    return pytest.importorskip("torch").tensor(x)


def in_jax(x):
    return pytest.importorskip("jax.numpy").asarray(x)


def converted(batch, tokens, convert):
    names = ("rewards", "response_mask", "group_ids", "logprobs", "ref_logprobs", "entropies")
    fields = {name: convert(getattr(batch, name)) for name in names}
    return az.RolloutBatch(**fields), Tokens(convert(tokens.ids), convert(tokens.present))


@pytest.mark.parametrize("convert", [np.asarray, in_torch, in_jax], ids=["numpy", "torch", "jax"])
def test_what_was_handed_over_is_in_the_file(tmp_path, convert):
    batch, tokens = batch_of()
    dump = RolloutDump(tmp_path / "new" / "folder", Letters(), source="tests")
    given, ids = converted(batch, tokens, convert)
    dump.write(given, step=7, prompts=PROMPTS, responses=ids)
    dump.flush()
    found = read_rollouts(tmp_path / "new" / "folder" / "step_000007.parquet")
    rows = [0, 1, 2, 4]  # without the row of padding
    assert found.metadata == {"source": "tests", "step": 7}
    assert found.prompts == [PROMPTS[row] for row in rows]
    assert found.groups == [0, 0, 1, 1]
    np.testing.assert_array_equal(found.rewards, np.asarray(given.rewards)[rows])
    for at, row in enumerate(rows):
        expected = tokens.ids[row, : LENGTHS[row]].tolist()
        assert found.token_ids[at] == expected
        assert found.tokens[at] == ["$abcdefghij"[i] for i in expected]
        assert found.texts[at] == "".join("$abcdefghij"[i] for i in expected if i)  # no special token
        assert found.response_mask[at] == batch.response_mask[row, : LENGTHS[row]].tolist()
        for name in ("logprobs", "ref_logprobs", "entropies"):
            np.testing.assert_array_equal(getattr(found, name)[at], getattr(batch, name)[row, : LENGTHS[row]])


def test_padding_on_the_left_and_prompts_in_tokens(tmp_path):
    """As in frameworks whose slots hold prompt and response."""
    batch, tokens = batch_of()
    turned = replace(batch, **{name: getattr(batch, name)[:, ::-1] for name in ("response_mask", "logprobs")})
    turned = replace(turned, ref_logprobs=None, entropies=None)
    ids, present = tokens.ids[:, ::-1], tokens.present[:, ::-1]
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(turned, step=0, prompts=Tokens(ids, ~present), responses=Tokens(ids, present))
    dump.flush()
    found = read_rollouts(tmp_path / "step_000000.parquet")
    assert found.prompts == ["jj", "jjj", "j", "jjjj"]
    ids_of_prompts = pq.read_table(tmp_path / "step_000000.parquet").column("prompt_ids").to_pylist()
    assert ids_of_prompts == [[10] * 2, [10] * 3, [10], [10] * 4]
    assert found.token_ids[2] == tokens.ids[2, :4][::-1].tolist()
    assert found.response_mask[2] == [True, True, False, True]
    assert found.entropies is None


def test_a_packed_batch(tmp_path):
    padded, tokens = batch_of()
    kept = tokens.present
    names = ("response_mask", "logprobs", "ref_logprobs", "entropies")
    packed = az.RolloutBatch.packed(
        cu_seqlens=np.cumsum([0, *LENGTHS]),
        rewards=padded.rewards,
        group_ids=padded.group_ids,
        **{name: getattr(padded, name)[kept] for name in names},
    )
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(packed, step=0, prompts=PROMPTS, responses=Tokens(tokens.ids[kept], kept[kept]))
    dump.write(padded, step=1, prompts=PROMPTS, responses=tokens)
    dump.flush()
    one, other = (pq.read_table(tmp_path / f"step_00000{step}.parquet").drop(["step"]) for step in (0, 1))
    assert one.equals(other)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_narrow_floats_are_widened_without_loss(tmp_path, kind):
    torch = pytest.importorskip("torch")
    batch, tokens = converted(*batch_of(), in_torch)
    batch = replace(batch, logprobs=batch.logprobs.to(getattr(torch, kind)).requires_grad_())
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(batch, step=0, prompts=PROMPTS, responses=tokens)
    dump.flush()
    found = read_rollouts(tmp_path / "step_000000.parquet").logprobs
    np.testing.assert_array_equal(np.concatenate(found), batch.logprobs.detach().float()[tokens.present].numpy())


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


def test_the_prompt_of_a_group_is_decoded_once(tmp_path):
    decoded = []

    class Listening(Letters):
        def decode(self, ids, **options):
            decoded.append(list(ids))
            return super().decode(ids, **options)

    batch, tokens = batch_of()
    prompts = np.array([[1, 2], [1, 2], [3, 4], [3, 4], [3, 4]])
    dump = RolloutDump(tmp_path, Listening(), source="tests")
    dump.write(batch, step=0, prompts=Tokens(prompts, np.ones_like(prompts)), responses=tokens)
    dump.flush()
    assert read_rollouts(tmp_path / "step_000000.parquet").prompts == ["ab", "ab", "cd", "cd"]
    assert (decoded.count([1, 2]), decoded.count([3, 4])) == (1, 1)


def test_a_step_of_padding_alone_is_a_file_without_rows(tmp_path):
    batch, tokens = batch_of()
    empty = replace(batch, response_mask=np.zeros_like(batch.response_mask))
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(empty, step=0, prompts=Tokens(tokens.ids, tokens.present), responses=tokens)
    dump.flush()
    assert pq.read_table(tmp_path / "step_000000.parquet").num_rows == 0


def test_compare_reads_the_folder_and_keeps_the_steps_apart(tmp_path):
    """Groups are numbered from 0 in every step, and from a million in a step's second part."""
    write(tmp_path, 0, 1)
    write(tmp_path, 1, part=1)
    rollouts, _ = read(tmp_path)
    assert len(rollouts) == 12
    assert len(set(rollouts.groups)) == 6
    assert read_rollouts(tmp_path / "step_000001_1.parquet").groups == [1_000_000, 1_000_000, 1_000_001, 1_000_001]
    done = CliRunner().invoke(main, ["compare", str(tmp_path), "-e", "grpo,ep_grpo", "--json"])
    assert done.exit_code == 0, done.output


def test_a_folder_without_signals_is_read(tmp_path):
    batch, tokens = batch_of()
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    bare = replace(batch, logprobs=None, ref_logprobs=None, entropies=None)
    dump.write(bare, step=0, prompts=PROMPTS, responses=tokens)
    dump.flush()
    rollouts, _ = read(tmp_path)
    assert rollouts.response_mask[2] == batch.response_mask[2, :4].tolist()
    assert rollouts.logprobs is None


def test_a_run_that_is_resumed_replaces_the_steps_that_it_repeats(tmp_path):
    write(tmp_path, 0, 1)
    kept = (tmp_path / "step_000000.parquet").read_bytes()
    batch, tokens = batch_of(5)
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(batch, step=1, prompts=PROMPTS, responses=tokens)
    dump.flush()
    assert (tmp_path / "step_000000.parquet").read_bytes() == kept
    np.testing.assert_array_equal(read_rollouts(tmp_path / "step_000001.parquet").rewards, batch.rewards[[0, 1, 2, 4]])


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        RolloutFileError, match=r"file/folder can't be made or written to \(Not a directory\); name anoth"
    ):
        RolloutDump(tmp_path / "file" / "folder", Letters(), source="tests")


def test_what_could_not_be_written_is_said_at_the_next_step(tmp_path):
    dump = write(tmp_path, 0)
    (tmp_path / "step_000001.parquet").mkdir()
    batch, tokens = batch_of()
    dump.write(batch, step=1, prompts=PROMPTS, responses=tokens)
    with pytest.raises(RolloutFileError, match=r"step_000001.parquet can't be written \(.*[Dd]irectory"):
        dump.write(batch, step=2, prompts=PROMPTS, responses=tokens)
    dump.write(batch, step=2, prompts=PROMPTS, responses=tokens)  # said once
    dump.flush()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["step_000000.parquet", "step_000002.parquet"]


def test_a_shape_that_does_not_fit_and_a_mask_on_padding_are_refused(tmp_path):
    batch, tokens = batch_of()
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    with pytest.raises(ValueError, match=r"responses.ids has shape \(5, 4\); expected \(5, 5\)"):
        dump.write(batch, step=0, prompts=PROMPTS, responses=Tokens(tokens.ids[:, :4], tokens.present))
    with pytest.raises(ValueError, match="prompts has 4 rows; expected 5"):
        dump.write(batch, step=0, prompts=PROMPTS[:4], responses=tokens)
    many = replace(batch, group_ids=batch.group_ids * 1_000_000, num_groups=1_000_001)
    with pytest.raises(ValueError, match="group_ids has 1000000; a part of a step"):
        dump.write(many, step=0, prompts=PROMPTS, responses=tokens)
    batch.response_mask[1, 4] = True
    dump.write(batch, step=0, prompts=PROMPTS, responses=tokens)
    with pytest.raises(
        ValueError, match=r"step_000000.parquet: response_mask, row 1, is True on a slot that holds no to"
    ):
        dump.flush()
