"""What is on disk of a training's rollouts when its process ends, is killed, or finds the disk full."""

import os
import subprocess
import sys

from made_dumping import write

from advantage_zoo.rollouts import read, read_rollouts


def process(folder, what):
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
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_process_that_ends_without_a_flush_has_written_everything(tmp_path):
    assert process(tmp_path, "dump = t.write(folder, 0)\nstep(1)") == (0, "")
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
