"""A million responses, made from the real ones in the package, and how long `advantage-zoo compare` takes on them.

    python benchmarks/million.py DIR                       # 1,000,000 responses: 3 GB in DIR, then ten minutes of runs
    python benchmarks/million.py DIR --responses 10000     # a first look

How a response is made: the groups of a training step (128 of 8 responses) each string together 4 to 20 of the
package's problems; a response is, problem by problem, one of the eight real responses to it, no two of a group the same
one, with its tokens, steps, verdicts and signals. Log-probabilities and entropies are scaled by a factor between 0.9
and 1.1 that is the response's own, so that no two are equal. The reward is that of the last problem. Within a step the
responses are shuffled, and files and row groups end where they end, so that most groups span row groups and some span
files.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import psutil
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray
except ImportError as error:
    raise SystemExit(f'{error}; pip install "advantage-zoo[cli,ray]" psutil brings it.') from None

from advantage_zoo.rollouts import Rollouts, read_rollouts, shipped_rollouts
from advantage_zoo.rollouts.columns import schema
from advantage_zoo.rollouts.ragged import Ragged

GROUPS, SIZE = 128, 8
"""Of a training step."""

PROBLEMS = (4, 20)
ROWS_A_FILE = 50_000
ROWS_A_ROW_GROUP = 4_000
PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
BEGIN, END = "<!-- measured: benchmarks/million.py -->", "<!-- end -->"


# --- making


class Source:
    """The real responses, and steps of made ones."""

    def __init__(self, rollouts: Rollouts) -> None:
        self.ragged = Ragged.of(rollouts)
        texts = [token for row in rollouts.tokens for token in row]
        self.vocabulary = pa.array(sorted(set(texts)))
        number = {token: i for i, token in enumerate(self.vocabulary.to_pylist())}
        self.tokens = np.array([number[token] for token in texts], dtype=np.int32)
        self.token_ids = np.array([i for row in rollouts.token_ids for i in row], dtype=np.int32)
        self.prompts, self.texts = np.array(rollouts.prompts), np.array(rollouts.texts)
        order = np.argsort(self.ragged.groups, kind="stable")
        self.problems = order.reshape(-1, SIZE)  # (P, 8) rows

    def step(self, number: int, rng: np.random.Generator) -> pa.Table:
        """The responses of one training step."""
        rows: list[NDArray[np.int64]] = []
        for _ in range(GROUPS):
            chosen = self.problems[rng.integers(len(self.problems), size=rng.integers(*PROBLEMS, endpoint=True))]
            rows += list(rng.permuted(chosen, axis=1).T)
        order = rng.permutation(len(rows))
        groups = np.repeat(np.arange(GROUPS), SIZE)[order] + number * GROUPS
        return self._table([rows[i] for i in order], groups, number, rng)

    def _table(
        self, rows: Sequence[NDArray[np.int64]], groups: NDArray[np.int64], step: int, rng: np.random.Generator
    ) -> pa.Table:
        pieces = np.concatenate(rows)
        whole = self.ragged.take(pieces)
        which = np.repeat(np.arange(len(rows)), [len(r) for r in rows])  # (pieces,) response of each
        lengths = np.bincount(which, whole.lengths).astype(np.int64)
        at = Ragged.take(self._ids, pieces).tokens
        factor = np.repeat(rng.uniform(0.9, 1.1, len(rows)), lengths).astype(np.float32)
        counts = np.bincount(which, whole.step_counts).astype(np.int64)
        before = whole.step_counts.cumsum() - whole.step_counts
        before -= np.repeat((counts.cumsum() - counts), np.bincount(which))  # steps before the piece, in its response
        index = whole.tokens["step_index"]
        columns = {
            "prompt": pa.array([" ".join(self.prompts[r]) for r in rows]),
            "text": pa.array([" ".join(self.texts[r]) for r in rows]),
            "tokens": _lists(lengths, pa.DictionaryArray.from_arrays(at["tokens"], self.vocabulary).cast(pa.string())),
            "token_ids": _lists(lengths, pa.array(at["token_ids"])),
            "reward": pa.array(self.ragged.rewards[[r[-1] for r in rows]]),
            "group": pa.array(groups),
            "step": pa.array(np.full(len(rows), step)),
            **{
                k: _lists(lengths, pa.array(whole.tokens[k] * factor))
                for k in ("logprobs", "ref_logprobs", "entropies")
            },
            "step_index": _lists(lengths, pa.array(np.where(index < 0, -1, index + np.repeat(before, whole.lengths)))),
            "step_correct": _lists(counts, pa.array(whole.step_correct == 1, mask=whole.step_correct < 0)),
        }
        fields = [f for f in schema() if f.name in columns]
        return pa.table([columns[f.name].cast(f.type) for f in fields], schema=pa.schema(fields))

    @property
    def _ids(self) -> Ragged:
        """The responses with their texts' numbers for columns."""
        r = self.ragged
        return Ragged(
            rewards=r.rewards,
            groups=r.groups,
            batches=r.batches,
            lengths=r.lengths,
            tokens={"tokens": self.tokens, "token_ids": self.token_ids},
            step_counts=np.zeros_like(r.lengths),
        )


def _lists(lengths: NDArray[np.int64], values: Any) -> Any:
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], lengths.cumsum()]), pa.int32()), values)


def make(folder: Path, responses: int, seed: int = 0) -> None:
    """Write the files, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    source, rng = Source(read_rollouts(shipped_rollouts())), np.random.default_rng(seed)
    steps = (source.step(i, rng) for i in range(-(-responses // (GROUPS * SIZE))))
    for i, table in enumerate(_cut(steps, responses)):
        path = folder / f"part_{i:04d}.parquet"
        part = path.with_suffix(".part")
        pq.write_table(
            table,
            part,
            row_group_size=ROWS_A_ROW_GROUP,
            compression="zstd",
            use_dictionary=[f"{name}.list.element" for name in ("tokens", "token_ids", "step_index")],
        )
        part.rename(path)


def _cut(steps: Iterator[pa.Table], responses: int) -> Iterator[pa.Table]:
    """Tables of ``ROWS_A_FILE`` rows, so many in all."""
    held: list[pa.Table] = []
    left = responses
    for table in steps:
        held.append(table)
        while left and sum(map(len, held)) >= (wanted := min(ROWS_A_FILE, left)):
            whole = pa.concat_tables(held)
            yield whole.slice(0, wanted)
            held, left = [whole.slice(wanted)], left - wanted


# --- measuring


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Args:
        name: What ran.
        seconds: From start to end.
        cpu: Seconds of all processes.
        peak: Bytes resident, summed over all processes, that which they share counted in each.
        load: Mean load of the machine while it ran, this included.
        out: What it printed, JSON.
    """

    name: str
    seconds: float
    cpu: float
    peak: int
    load: float
    out: dict[str, Any]


class Watch(threading.Thread):
    """Follows a process and its descendants, several times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak, self.cpu, self.loads = psutil.Process(pid), 0, dict[int, float](), list[float]()
        self.done = threading.Event()

    def run(self) -> None:
        """Until ``done``."""
        while not self.done.wait(0.2):
            self.loads.append(os.getloadavg()[0])
            resident = 0
            try:
                for process in (self.root, *self.root.children(recursive=True)):
                    with process.oneshot():
                        resident += process.memory_info().rss
                        times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
            except psutil.Error:  # it ended between two calls
                continue
            self.peak = max(self.peak, resident)


def measure(name: str, folder: Path, options: Sequence[str]) -> Run:
    """Run the command once."""
    command = [str(Path(sys.executable).parent / "advantage-zoo"), "compare", str(folder), "--json", *options]
    begin = time.perf_counter()
    # Ray makes its workers nicer than the process that starts them, and on a machine that is busy that much slower.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "RAY_worker_niceness": "0"}
    )
    watch = Watch(process.pid)
    watch.start()
    out, _ = process.communicate()
    seconds = time.perf_counter() - begin
    watch.done.set()
    watch.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return Run(name, seconds, sum(watch.cpu.values()), watch.peak, float(np.mean(watch.loads)), json.loads(out))


def difference(a: Any, b: Any) -> float:
    """Largest relative difference between the numbers of two outputs."""
    if isinstance(a, dict):
        return max((difference(a[k], b[k]) for k in a), default=0.0)
    if isinstance(a, list):
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) / max(abs(a), abs(b), 1.0)
    return 0.0 if a == b else float("inf")


def table(runs: Sequence[Run]) -> str:
    """In Markdown."""
    tokens = runs[0].out["rollouts"]["tokens"]
    lines = [
        "| run | minutes | CPU minutes | tokens a second | tokens a CPU second | peak memory | load |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        lines.append(
            f"| {run.name} | {run.seconds / 60:.2f} | {run.cpu / 60:.2f} | {tokens / run.seconds:,.0f} | "
            f"{tokens / run.cpu:,.0f} | "
            f"{run.peak / 1e9:.2f} GB | {run.load:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make, measure, print; with --docs, write into docs/scale.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--responses", type=int, default=1_000_000)
    parser.add_argument("--estimators", default="grpo,ep_grpo")
    parser.add_argument("--memory", default="1")
    parser.add_argument(
        "--runs",
        default="1,2,ray2,ray4",
        help="Processes, or ray and its workers; default: %(default)s. The table has every run that DIR knows.",
    )
    parser.add_argument("--docs", action="store_true", help="Write the table into docs/scale.md.")
    given = parser.parse_args()
    if not list(given.folder.glob("part_*.parquet")):
        make(given.folder, given.responses)
    size = sum(path.stat().st_size for path in given.folder.glob("*.parquet"))
    kept = given.folder / "runs"  # a JSON file beside the rollouts would be taken for some
    for which in filter(None, given.runs.split(",")):
        ray, jobs = which.startswith("ray"), which.removeprefix("ray")
        name = f"Ray, {jobs} workers" if ray else f"{jobs} process{'es' if jobs != '1' else ''}"
        engine = ["--engine", "ray"] if ray else []
        run = measure(name, given.folder, ["-e", given.estimators, "--memory", given.memory, "--jobs", jobs, *engine])
        kept.mkdir(exist_ok=True)
        (kept / f"{which}.json").write_text(json.dumps(asdict(run)), encoding="utf-8")
        print(f"{name}: {run.seconds:.0f} s", flush=True)
    found = [kept / f"{which}.json" for which in ("1", "2", "ray2", "ray4")]
    runs = [Run(**json.loads(path.read_text("utf-8"))) for path in found if path.exists()]
    counts = runs[0].out["rollouts"]
    worst = max(difference(runs[0].out, run.out) for run in runs)
    text = (
        f"{counts['responses']:,} responses to {counts['groups']:,} prompts, {counts['tokens']:,} tokens, "
        f"{size / 1e9:.2g} GB of Parquet; `-e {given.estimators} --memory {given.memory}`; "
        f"{psutil.cpu_count()} cores. The largest relative difference between two runs' numbers: {worst:.1g}.\n\n"
        f"{table(runs)}"
    )
    print(text)
    if given.docs:
        page = PAGE.read_text("utf-8")
        begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text(f"{page[:begin]}\n\n{text}\n\n{page[end:]}", encoding="utf-8")


if __name__ == "__main__":
    main()
