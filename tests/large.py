"""What the tests of large inputs share: an output as numbers, rollout files cut anywhere, an estimator that kills."""

import math
import os
import signal
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import advantage_zoo as az
from advantage_zoo.compare.command import Options, run
from advantage_zoo.validation import RolloutWarning

BATCHWISE = {"gpg", "lite_ppo", "reinforce_pp", "reinforce_pp_baseline"}
"""Built-in estimators that take statistics over a batch, of those that the shipped rollouts can feed."""
LITTLE = 0.002
"""GB that hold a few groups of the shipped rollouts, not all."""


def compared(paths, **options):
    """The comparison, and what was noted."""
    notes = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RolloutWarning)
        done = run(paths, Options(**options), notes.append)
    return done, [*notes, *(str(warning.message) for warning in caught)]


def cut(table, folder, cuts, row_group):
    """Files of the rows between ``cuts``."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = [0, *sorted(cuts), len(table)]
    paths = []
    for i, (a, b) in enumerate(pairwise(edges)):
        paths.append(folder / f"part_{i:02d}.parquet")
        pq.write_table(table.slice(a, b - a), paths[-1], row_group_size=row_group)
    return paths


def _written(table, path):
    pq.write_table(table, path)
    return path


def arrow_holds(pieces):
    """How many bytes Arrow holds at most while the pieces of a file are gone through."""
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    return max(pool.bytes_allocated() - before for _ in pieces)


def many_row_groups(path):
    """A file of 64 row groups of 64 rows, 2 MB; its numbers can't be compressed."""
    rows, tokens = 64 * 64, 100
    rng = np.random.default_rng(0)
    signal = pa.array(rng.uniform(-2, -1, rows * tokens).astype(np.float32))
    offsets = pa.array(np.arange(rows + 1) * tokens, pa.int32())

    def lists(values, kind):
        return pa.ListArray.from_arrays(offsets, pa.array(values, kind))

    columns = {
        "prompt": ["p"] * rows,
        "text": ["a" * tokens] * rows,
        "tokens": lists(["a"] * rows * tokens, pa.string()),
        "token_ids": lists([5] * rows * tokens, pa.int32()),
        "reward": np.ones(rows),
        "group": np.arange(rows) // 8,
        "ref_logprobs": pa.ListArray.from_arrays(offsets, signal),
    }
    pq.write_table(pa.table(columns), path, row_group_size=64)
    return path


def far_apart(a, b, path=""):
    """The places at which two outputs differ by more than 1e-9, relative above 1."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        return [place for key in a for place in far_apart(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list):
        assert len(a) == len(b), path
        return [place for i in range(len(a)) for place in far_apart(a[i], b[i], f"{path}/{i}")]
    if isinstance(a, float) and isinstance(b, float):
        return [] if math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) else [f"{path}: {a} {b}"]
    return [] if a == b else [f"{path}: {a} {b}"]


def numbers(comparison):
    """Tables, matrices and profiles; without what tells of the number of files or of the memory."""
    out = comparison.to_dict()
    del out["rollouts"]["metadata"]
    out["left_out"] = sorted(out["left_out"])
    out["axes"] = [(axis.title, list(axis.labels)) for axis in comparison.axes]
    out["profiles"] = [[[list(p.positive), list(p.negative)] for p in r.profiles] for r in comparison.results]
    out["mass"] = [r.positive_mass for r in comparison.results]
    return out


def without_diagnostics(out):
    """An estimator's own numbers are of a batch."""
    return {**out, "estimators": [{**entry, "diagnostics": {}} for entry in out["estimators"]]}


def with_steps(table, steps):
    """The table with a column ``step``."""
    return table.append_column("step", pa.array(np.asarray(steps), pa.int64()))


@dataclass(frozen=True)
class Deadly(az.Estimator):
    """Kills its process once, where ``marker`` is not yet a file; then it is GRPO."""

    name: ClassVar[str] = "deadly"
    marker: str = az.param("", doc="A path.")

    def compute(self, batch):
        if not os.path.exists(self.marker):
            open(self.marker, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return az.estimators.GRPO().compute(batch)
