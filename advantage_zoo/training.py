"""What an adapter does in every step, whatever the framework: check, compute, keep what is logged, write rollouts."""

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from advantage_zoo.adapting import scalars
from advantage_zoo.arrays.namespace import Array, namespace
from advantage_zoo.batch import RolloutBatch
from advantage_zoo.compute import compute_advantages
from advantage_zoo.estimator import Advantages, Estimator
from advantage_zoo.rollouts.dumping import RolloutDump
from advantage_zoo.validation import validate


class Training:
    """An adapter's state in the process that computes advantages.

    Args:
        framework: Goes into the metadata of dumped rollouts.
        timing: What the time that the adapter took is logged as; that of dumping has ``_dump`` appended.

    Attributes:
        seen: Estimators of which a batch has been checked in full.
    """

    def __init__(self, framework: str, *, timing: str) -> None:
        self.framework, self.timing = framework, timing
        self.seen: set[Estimator] = set()
        self._logged: defaultdict[str, list[Array]] = defaultdict(list)
        self._seconds: Counter[str] = Counter()
        self._dumps: dict[Path, RolloutDump] = {}

    @contextmanager
    def timed(self, more: str = "") -> Generator[None]:
        """Adds the seconds of a block to what is logged as ``timing``, with ``more`` appended."""
        start = perf_counter()
        yield
        self._seconds[self.timing + more] += perf_counter() - start  # pyright: ignore[reportArgumentType]

    def estimate(self, batch: RolloutBatch, estimator: Estimator, *, name: str, step: int | None) -> Advantages:
        """Advantages, whose scalars are kept as ``advantage/<name>/...``; the first batch is checked in full.

        Raises:
            ValueError: The batch is not as it should be; see :func:`advantage_zoo.validate`.
        """
        if estimator not in self.seen:
            look_at_first(batch)
            self.seen.add(estimator)
        advantages = compute_advantages(batch, estimator, step=step)
        self.log(scalars(advantages, f"advantage/{name}"))
        return advantages

    def log(self, found: dict[str, Array]) -> None:
        """Keep scalars, which stay on their device, for the next :meth:`metrics`."""
        for name, x in found.items():
            self._logged[name].append(x)

    def dump(self, folder: str | Path, tokenizer: Any) -> RolloutDump:
        """The dump into this folder.

        Raises:
            RolloutFileError: The folder cannot be made or written to.
        """
        folder = Path(folder)
        if folder not in self._dumps:
            self._dumps[folder] = RolloutDump(folder, tokenizer, source=self.framework)
        return self._dumps[folder]

    def ready(self) -> None:
        """Wait until the processes that write have started, which takes cores from the steps meanwhile."""
        for dump in self._dumps.values():
            dump.ready()

    def flush(self) -> None:
        """Wait until rollouts are on disk; it counts as time of dumping.

        Raises:
            RolloutFileError: They could not be written.
        """
        for dump in self._dumps.values():
            with self.timed("_dump"):
                dump.flush()

    def metrics(self) -> dict[str, float]:
        """What has been logged since the last call: means, read from the device in one transfer, and seconds."""
        flat = [x for entries in self._logged.values() for x in entries]
        numbers: Iterator[float] = iter(())
        if flat:
            xp = namespace(flat[0])
            numbers = iter(xp.stack([xp.astype(x, xp.float32) for x in flat]).tolist())
        means = {name: sum(next(numbers) for _ in xs) / len(xs) for name, xs in self._logged.items()}
        found = means | dict(self._seconds)
        self._logged.clear()
        self._seconds.clear()
        return found


def look_at_first(batch: RolloutBatch) -> None:
    """:func:`advantage_zoo.validate`, which overlooks that engines round.

    One that computes in bfloat16 brings entropies of -0.1 nats and the like: up to half a nat on the wrong side of 0
    is let pass.
    """
    mended: dict[str, Array] = {}
    for name, sign in (("logprobs", -1), ("ref_logprobs", -1), ("entropies", 1)):
        x = getattr(batch, name)
        if x is not None:
            mended[name] = namespace(x).where((sign * x < 0) & (sign * x > -0.5), 0.0, x)
    validate(replace(batch, **mended))
