"""Rollouts on disk while training goes on: a file a step, written by another process while the policy is updated.

    dump = RolloutDump("rollouts", tokenizer, source="verl")
    dump.write(batch, step=7, prompts=Tokens(ids, there), responses=Tokens(ids, there))   # copies, and comes back
    dump.flush()   # the file is there, whole

A process that is killed leaves whole files and perhaps one hidden ``.part``, which the next run removes. A run that is
resumed writes the steps that it repeats anew, and leaves the others as they are.
"""

import copy
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from advantage_zoo.batch import RolloutBatch
from advantage_zoo.rollouts.columns import RolloutFileError
from advantage_zoo.rollouts.writing import Shard, Tokens, Writer

SERVE = "from advantage_zoo.rollouts.writing import serve; serve()"


class RolloutDump:
    """A folder of rollout files, ``step_NNNNNN.parquet``, that :func:`read` and ``advantage-zoo compare`` take.

    At most one step is in the making: where writing takes longer than the step that follows, that step waits for it.

    Args:
        folder: Made if it is not there.
        tokenizer: Anything with ``decode(ids, skip_special_tokens=...)`` of NumPy arrays and lists, as tokenizers of
            transformers have. Where another process cannot have it, as it can't be pickled or its class not be
            imported, files are written in a thread of this one, which takes more of the steps' time; it is said on
            stderr, and so is a process that was killed.
        source: Which framework trains; goes into the files' metadata.

    Raises:
        RolloutFileError: The folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path, tokenizer: Any, *, source: str) -> None:
        self.folder, self._source = Path(folder).absolute(), source
        make_folder(self.folder)
        self._writer = _Elsewhere(tokenizer)
        self._writer.start(self)
        weakref.finalize(self, self._writer.close)  # at exit, too

    def write(
        self, batch: RolloutBatch, *, step: int, part: int = 0, prompts: Tokens | Sequence[str], responses: Tokens
    ) -> None:
        """Hand over the step's rollouts, which are copied to the host; the file is written while the caller goes on.

        Responses without an emitted token count in no group and are left out, as frameworks pad with them.

        Args:
            batch: Rewards, groups, the mask, and the signals that there are; of any library, on any device.
            step: The training step; its file replaces one of the same step and part.
            part: For a step that is written in several parts, such as updates or processes with groups of their own.
            prompts: The prompts' tokens or texts, (B,).
            responses: The responses' tokens, in the slots of ``batch.response_mask``.

        Raises:
            RolloutFileError: What was handed over before could not be written.
            ValueError: A shape does not fit, or there are too many groups.
        """
        self.flush()
        shard = Shard.of(batch, part, prompts, responses)
        path = self.folder / f"step_{step:06d}{f'_{part}' if part else ''}.parquet"
        self._writer.hand_over(self, shard, path, {"source": self._source, "step": step})

    def ready(self) -> bool:
        """Wait until the process that writes has started, and tell whether it has.

        It takes a second or two, and until then a thread writes; who waits before the first step keeps both out of it.
        """
        return self._writer.ready()

    def flush(self) -> None:
        """Wait until everything is on disk.

        Raises:
            RolloutFileError: It could not be written.
        """
        self._writer.wait()


def make_folder(folder: Path) -> None:
    """The folder, without what a run that was killed has left unfinished.

    Raises:
        RolloutFileError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".step_*.part"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise RolloutFileError(f"{folder} can't be made or written to ({error.strerror}); name another.") from error
    if not os.access(folder, os.W_OK):
        raise RolloutFileError(f"{folder} can't be written to (Permission denied); name another folder.")


class _Elsewhere:
    """A :class:`Writer` in a process of its own, to which a thread speaks. Where there is none, the thread writes.

    Each thread's job holds the dump that it is for: were it collected as garbage meanwhile, perhaps in that very
    thread, :meth:`close` would have to wait for the job.

    Args:
        tokenizer: The writer's.
    """

    def __init__(self, tokenizer: Any) -> None:
        # A copy: while one thread looks at it, another may not set the same tokenizer's padding ("Already borrowed").
        self._tokenizer = copy.deepcopy(tokenizer)
        self._here = Writer(self._tokenizer)
        self._thread = ThreadPoolExecutor(1, "advantage_zoo_dump")
        self._pending: Future[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._answers, self._closed = threading.Event(), False, False
        self._home = os.getpid()

    def start(self, dump: RolloutDump) -> None:
        """Start the process; comes back at once."""
        self._starter = threading.Thread(target=self._start, args=(dump,), daemon=True)
        self._starter.start()

    def ready(self) -> bool:
        """Whether there is a process, once that is known."""
        self._started.wait()
        return self._answers

    def hand_over(self, dump: RolloutDump, *what: Any) -> None:
        """What :meth:`Writer.save` takes; comes back at once."""
        self._pending = self._thread.submit(self._save, dump, *what)

    def wait(self) -> None:
        """Until it is written; raises what the writer raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """End the process, when no job is left; nobody is left to raise to."""
        if os.getpid() != self._home:
            return  # in a fork: thread, process and rollouts are its parent's
        error = self._pending.exception() if self._pending else None
        if error is not None:
            _say(f"the last rollouts are lost: {error}")
        self._thread.shutdown(wait=False)
        self._closed = True
        self._end()
        if self._starter is not threading.current_thread():
            self._starter.join()  # the interpreter would end it amid whatever it does
            self._end()

    def _start(self, _: RolloutDump) -> None:
        try:
            paths = [path or os.getcwd() for path in sys.path if isinstance(path, str)]  # pyright: ignore
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
            command, pipe = [sys.executable, "-P", "-c", SERVE], subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)
            refused = _answer(self._process, self._tokenizer)
            if refused is not None:
                raise refused
            self._answers = True
        except Exception as error:
            self._stay(error)
        finally:
            self._started.set()

    def _save(self, _: RolloutDump, *what: Any) -> None:
        if self._answers and self._process is not None:
            try:
                failed = _answer(self._process, what)
            except Exception as error:
                self._stay(error)
            else:
                if failed is not None:
                    raise failed
                return
        self._here.save(*what)

    def _stay(self, error: Exception) -> None:
        """Write here from now on."""
        self._answers = False
        self._end()
        if not self._closed:
            _say(
                "rollouts are written in a thread of the training's own process, which takes more of its time, as a "
                f"process for it failed ({type(error).__name__}: {error})."
            )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it has answered whatever it was asked
            process.communicate()


def _say(what: str) -> None:
    with suppress(ValueError):  # a stderr that is closed
        if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison]
            print(f"advantage-zoo: {what}", file=sys.stderr)


def _answer(process: "subprocess.Popen[bytes]", request: Any) -> Exception | None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it has answered already, why it does not listen
        pickle.dump(request, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)  # arrays as they are, without a copy
        process.stdin.flush()
    try:
        return pickle.load(process.stdout)
    except EOFError:
        raise RuntimeError(f"it ended with status {process.wait()}") from None
