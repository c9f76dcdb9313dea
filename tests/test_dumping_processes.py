"""What is on disk of a training's rollouts when its process ends, is killed, or finds the disk full."""

import os
import subprocess
import sys

from made_dumping import write

from advantage_zoo.rollouts import read, read_rollouts


def process(folder, what, cwd=None):
    """A process that does something with a folder; (exit status, stderr)."""
    script = (
        "import os, pathlib, signal, made_dumping as t\n"
        f"folder, (batch, tokens) = pathlib.Path({str(folder)!r}), t.batch_of()\n"
        "def step(number):\n"
        "    dump.write(batch, step=number, prompts=t.PROMPTS, responses=tokens)\n"
        f"{what}"
    )
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    env = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


def test_a_process_that_ends_without_a_flush_has_written_everything(tmp_path):
    assert process(tmp_path, "dump = t.write(folder, 0)\nstep(1)") == (0, "")
    assert len(read_rollouts(tmp_path / "step_000001.parquet")) == 4


def test_a_process_that_ends_while_the_other_one_starts_ends_in_silence(tmp_path):
    assert process(tmp_path, "dump = t.RolloutDump(folder, t.Letters(), source='tests')\nstep(1)") == (0, "")
    assert len(read_rollouts(tmp_path / "step_000001.parquet")) == 4


FULL = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
"""No file may be longer than 100 bytes: to the process, and to those that it starts, it looks like a full disk."""


def test_a_full_disk_is_said_at_the_next_step_and_leaves_nothing_behind(tmp_path):
    write(tmp_path, 0)
    status, said = process(tmp_path, f"{FULL}dump = t.write(folder)\nstep(1)\nstep(2)")
    assert status == 1
    assert "RolloutFileError" in said.splitlines()[-1]
    assert "step_000001.parquet can't be written ([Errno 27]" in said.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000.parquet"]


def test_a_full_disk_in_the_last_step_is_said_at_exit(tmp_path):
    _, said = process(tmp_path, f"{FULL}dump = t.write(folder)\nstep(1)")
    assert said.startswith("advantage-zoo: the last rollouts are lost: ")
    assert "step_000001.parquet can't be written ([Errno 27]" in said


def test_what_a_process_that_is_killed_has_handed_over_is_written(tmp_path):
    """The process that writes is another one, and is in the midst of it."""
    status, said = process(tmp_path, "dump = t.write(folder, 1, tokenizer=t.Killer())")
    assert (status, said) == (-9, "")  # the run has ended when the last process that may speak has
    assert len(read_rollouts(tmp_path / "step_000001.parquet")) == 4
    assert len(list(tmp_path.iterdir())) == 1


def test_a_writer_that_is_killed_leaves_whole_files_and_the_next_run_clears_up(tmp_path):
    killed = (
        "def half(table, file, **options):\n"
        "    file.write(b'PAR1 and so on')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "import pyarrow.parquet as pq\n"
        "dump = t.write(folder, 0, tokenizer=t.unpicklable(t.Letters))\n"
        "pq.write_table = half\n"
        "step(1)\n"
        "dump.flush()\n"
    )
    status, _ = process(tmp_path, killed)
    assert status == -9
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["step_000000.parquet"]
    assert len(list(tmp_path.iterdir())) == 2
    assert len(read(tmp_path)[0]) == 4
    write(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000.parquet", "step_000001.parquet"]


def test_what_stands_in_the_current_folder_is_not_imported(tmp_path):
    """No more than by the process that trains, which was started elsewhere."""
    (tmp_path / "struct.py").write_text("raise RuntimeError('imported')\n")
    assert process(tmp_path / "run", "t.write(folder, 0)", cwd=tmp_path) == (0, "")
    assert len(read_rollouts(tmp_path / "run" / "step_000000.parquet")) == 4


def test_paths_that_python_overlooks_are_overlooked(tmp_path):
    code = "import sys\nsys.path.append(folder)\ndump = t.write(folder, 0)"
    assert process(tmp_path, code) == (0, "")
    assert len(read_rollouts(tmp_path / "step_000000.parquet")) == 4


def test_without_a_current_folder_a_thread_writes(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import sys\nos.rmdir(os.getcwd())\nsys.path.insert(0, '')\ndump = t.write(folder, 0)"
    status, said = process(tmp_path / "run", code, cwd=gone)
    assert status == 0
    assert "a process for it failed (FileNotFoundError" in said
    assert len(read_rollouts(tmp_path / "run" / "step_000000.parquet")) == 4


def test_a_fork_ends_and_leaves_the_process_to_its_parent(tmp_path):
    code = (
        "import gc, sys\n"
        "dump = t.write(folder, 0)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    del dump\n"
        "    gc.collect()\n"
        "    sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "step(1)\n"
    )
    assert process(tmp_path, code) == (0, "")
    assert len(read_rollouts(tmp_path / "step_000001.parquet")) == 4


def test_a_dump_that_is_dropped_while_it_writes_has_written_and_ends(tmp_path):
    """Also where the garbage is collected in the thread that writes, and whether a process writes or not."""
    for name in ("Letters()", "unpicklable(t.Collecting)"):
        code = (
            "import gc\n"
            f"dump = t.RolloutDump(folder, t.{name}, source='tests')\n"
            "dump.itself = dump\n"
            "step(1)\n"
            "del dump\n"
            "gc.collect()\n"
        )
        status, _ = process(tmp_path / name, code)
        assert status == 0
        assert len(read_rollouts(tmp_path / name / "step_000001.parquet")) == 4


def test_why_there_is_no_process_is_told_of_a_large_tokenizer_too(tmp_path):
    """It has answered and ended before all was sent."""
    code = (
        "class Large(t.Letters):\n"
        "    words = None\n"
        "tokenizer = Large()\n"
        "tokenizer.words = bytes(10_000_000)\n"
        "dump = t.write(folder, 0, tokenizer=tokenizer)\n"
    )
    status, said = process(tmp_path, code)
    assert status == 0
    assert "a process for it failed (AttributeError: Can't get attribute 'Large'" in said
    assert len(read_rollouts(tmp_path / "step_000000.parquet")) == 4


def test_where_a_tokenizer_failed_is_told(tmp_path):
    status, said = process(tmp_path, "dump = t.write(folder, 0, tokenizer=t.Failing())")
    assert status == 1
    assert "in the_place_that_fails" in said


def test_a_closed_stderr_loses_nothing(tmp_path):
    code = "import sys\nsys.stderr.close()\ndump = t.write(folder, 0, tokenizer=t.unpicklable(t.Letters))"
    status, _ = process(tmp_path, code)
    assert status == 0
    assert len(read_rollouts(tmp_path / "step_000000.parquet")) == 4


def test_the_folder_is_that_of_the_beginning(tmp_path):
    code = "dump = t.write('run')\nos.chdir('..')\nstep(0)"
    (tmp_path / "here").mkdir()
    assert process(tmp_path, code, cwd=tmp_path / "here") == (0, "")
    assert len(read_rollouts(tmp_path / "here" / "run" / "step_000000.parquet")) == 4
