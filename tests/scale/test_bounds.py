"""How much is in memory at a time: row groups, chunks, ranks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from large import LITTLE, _written, arrow_holds, compared, cut, many_row_groups

from advantage_zoo.compare.landmarks import ranks_of
from advantage_zoo.compare.plan import reads, slots_of, spans
from advantage_zoo.rollouts.shards import open_shards, read


def test_a_row_group_is_read_a_few_rows_at_a_time(tmp_path, shipped):
    """However large it is: a million-row row group must not be in memory whole."""
    path = _written(shipped, tmp_path / "one.parquet")
    (shard,), _ = open_shards([path])
    assert len(shard.row_groups) == 1
    parts = [batch.num_rows for _, batch in read(shard, ["entropies"], range(1), tokens=1000)]
    assert max(parts) < 60
    assert sum(parts) == len(shipped)


def test_of_many_row_groups_one_is_held(tmp_path):
    path = many_row_groups(tmp_path / "many.parquet")
    (shard,), _ = open_shards([path])
    assert arrow_holds(read(shard, ["ref_logprobs"], range(64), tokens=1000)) < path.stat().st_size / 5


@settings(max_examples=50, deadline=None)
@given(
    units=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    seed=st.integers(0, 99),
    most=st.integers(300, 1000),
    rows=st.integers(1, 60),
)
def test_a_plan_holds_every_row_once_every_unit_whole_and_no_more_than_fits(units, seed, most, rows):
    _, first, codes = np.unique(units, return_index=True, return_inverse=True)
    units = np.argsort(np.argsort(first))[codes]
    lengths = np.random.default_rng(seed).integers(0, 20, len(units))
    planned = spans(units, lengths, most, rows)
    chunk_of = {}
    for i, span in enumerate(planned):
        assert (np.diff(span.rows) > 0).all()
        for row, chunk in zip(span.rows.tolist(), span.chunks.tolist(), strict=True):
            assert chunk_of.setdefault(int(units[row]), (i, chunk)) == (i, chunk)
        for chunk in np.unique(span.chunks):
            mine = span.rows[span.chunks == chunk]
            held = np.unique(units[mine])
            assert len(mine) * max(1, lengths[mine].max()) <= most or len(held) == 1
        # What is begun and not complete, as the rows come.
        sizes = np.bincount(span.chunks)
        waiting = np.zeros(len(sizes), dtype=int)
        for row, chunk in zip(span.rows, span.chunks, strict=True):
            waiting[chunk] += 1
            begun = (waiting > 0) & (waiting < sizes)
            tokens = sum(lengths[span.rows[span.chunks == c]].sum() for c in np.flatnonzero(begun))
            assert tokens <= max(most, slots_of(units, lengths).max()), row
    assert sorted(row for span in planned for row in span.rows.tolist()) == list(range(len(units)))
    assert reads(planned, np.array([len(units)])) == len(planned)


def test_responses_of_a_group_far_apart_are_said_to_cost_time(shipped, tmp_path):
    shuffled = shipped.take(np.random.default_rng(0).permutation(len(shipped)))
    _, notes = compared(cut(shuffled, tmp_path, [], 64), estimators=["grpo"], memory=LITTLE)
    assert any("lie far apart, so that rows were read" in note for note in notes)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0]), min_size=1)
)
def test_ranks_are_those_of_the_sorted_numbers(values):
    x = np.array(values, dtype=np.float32)
    found = ranks_of(x, range(len(x)))
    assert [found[i] for i in range(len(x))] == np.sort(x).tolist()
