"""Who does the work: this process, several of this machine, or Ray's workers. Tasks don't depend on one another."""

# Ray may not be there.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportMissingImports=false

import logging
import os
import pickle
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TypeVar

from advantage_zoo.compare.work import ComparisonError

Task = TypeVar("Task")
Done = TypeVar("Done")
Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""Like the built-in map."""

ENGINES = ("processes", "ray")


@contextmanager
def workers(engine: str, jobs: int, address: str | None = None) -> Generator[Map]:
    """A map that runs up to ``jobs`` tasks at a time.

    Args:
        engine: Of ``ENGINES``.
        jobs: Processes; of a Ray cluster that is joined, what it gives.
        address: Of a Ray cluster to join; without, one is started on this machine and stopped at the end.

    Raises:
        ComparisonError: Ray is not installed, or can't be reached; a process was killed.
    """
    if engine == "ray":
        with _ray(jobs, address) as mapped:
            yield mapped
    elif jobs == 1:
        yield lambda function, tasks: map(function, tasks)
    else:
        with _processes(jobs) as mapped:
            yield mapped


@contextmanager
def _processes(jobs: int) -> Generator[Map]:
    """Each has a pipe of its own, which ends with it: with one for all, what a killed one has half written hangs all.

    That is why it is no ProcessPoolExecutor.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(jobs)]
    team = [context.Process(target=_serve, args=(theirs,), daemon=True) for _, theirs in pipes]
    with _one_thread_each():
        for process in team:
            process.start()
    for _, theirs in pipes:
        theirs.close()
    try:
        yield lambda function, tasks: _shared([ours for ours, _ in pipes], function, tasks)
    finally:
        for process in team:
            process.kill()
            process.join()


def _shared(pipes: Sequence[Any], function: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[Done]:
    """The results of all tasks, in order."""
    from multiprocessing.connection import wait

    left, busy, done = iter(enumerate(tasks)), dict[Any, int](), dict[int, Any]()

    def give(pipe: Any) -> None:
        for place, task in left:
            with _alive():
                pipe.send((function, task))
            busy[pipe] = place
            return

    for pipe in pipes:
        give(pipe)
    for place in range(len(tasks)):
        while place not in done:
            ready: list[Any] = wait(list(busy))
            for pipe in ready:
                with _alive():
                    failure, done[busy.pop(pipe)] = pipe.recv()
                if failure is not None:
                    raise failure
                give(pipe)
        yield done.pop(place)


@contextmanager
def _alive() -> Generator[None]:
    """Around the use of a pipe, which ends with its process: before an answer, or amid it, which is an OSError."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise ComparisonError(
            "A worker process was killed, perhaps for want of memory; give --memory or --jobs less, or take --engine "
            "ray, which starts such work again."
        ) from error


def _serve(pipe: Any) -> None:
    """A process: does what it is told, until nobody is left to tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            function, task = pipe.recv()
            pipe.send(_outcome(function, task))


def _outcome(function: Callable[[Any], Any], task: Any) -> tuple[Exception | None, Any]:
    """What it raised, or its result."""
    try:
        return None, function(task)
    except Exception as error:
        return error, None


@contextmanager
def _one_thread_each() -> Generator[None]:
    """Processes that use every core between them need no threads inside."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ray(jobs: int, address: str | None) -> Generator[Map]:
    # Ray says on stdout that a worker died, where --json's output goes.
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own; what an estimator warns of comes back with its work
        yield from _ray_data(jobs, address)


def _ray_data(jobs: int, address: str | None) -> Generator[Map]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ComparisonError(f'--engine ray needs Ray ({error}): pip install "advantage-zoo[cli,ray]"') from error
    started = not ray.is_initialized()
    if started:
        if address is not None:
            _refuse_silence(address)
        options: dict[str, Any] = {"num_cpus": jobs, "include_dashboard": False} if address is None else {}
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ComparisonError(f"Ray does not start ({' '.join(str(error).split())}).") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    def mapped(function: Callable[[Task], Done], tasks: Iterable[Task]) -> Iterator[Done]:
        packed = [{"task": pickle.dumps(task)} for task in tasks]
        done = ray.data.from_items(packed, override_num_blocks=len(packed)).map(_Applied(function))
        try:
            for row in done.iter_rows():
                failure, result = pickle.loads(row["done"])
                if failure is not None:
                    raise failure
                yield result
        except ray.exceptions.RayError as error:
            raise ComparisonError(f"Ray gave up ({' '.join(str(error).split())}).") from error

    try:
        yield mapped
    finally:
        if started:
            ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Ray itself would wait for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ComparisonError(
            f"--ray-address {address}: no cluster answers there ({error}); expected HOST:PORT, as `ray start` says it."
        ) from error


class _Applied:
    """``function`` on a row of Ray Data: its result, or what it raised, which Ray would wrap in pages."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"done": pickle.dumps(_outcome(self.function, pickle.loads(row["task"])))}
