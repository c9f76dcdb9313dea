"""Sums, maxima, running sums and recurrences over segments, by themselves: values, dtypes, devices, gradients."""

import math

import numpy as np
import pytest
from conftest import library

from advantage_zoo.arrays.segments import pair_ids, segment_cumsum, segment_max, segment_scan, segment_sum

RNG = np.random.default_rng(7)
IDS = np.array([2, 0, 2, 2, 0, 4, 1, 1])
NUMBERS = RNG.normal(size=8)
DTYPES = ("float64", "float32")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
BIG = 2.0**24
"""From here on float32 counts in twos."""


def members(ids, x):
    """Lists of what belongs to each segment, the empty segments 3 and 5 included."""
    return [[v for v, s in zip(x, ids, strict=True) if s == i] for i in range(6)]


def alike(made, like):
    """Whether an array is of the library and dtype of another."""
    return type(made) is type(like) and made.dtype == like.dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums(xp, dtype):
    x = xp.asarray(NUMBERS, dtype)
    got = segment_sum(x, xp.asarray(IDS, None), 6)
    np.testing.assert_allclose(xp.asnumpy(got), list(map(math.fsum, members(IDS, NUMBERS))), atol=TOLERANCE[dtype])
    assert xp.asnumpy(got)[[3, 5]].tolist() == [0, 0]
    assert alike(got, x)
    np.testing.assert_array_equal(xp.asnumpy(x), NUMBERS.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sum_of_one_segment(xp, dtype):
    x = xp.asarray(NUMBERS, dtype)
    got = segment_sum(x, xp.asarray(np.zeros(8, int), None), 1)
    assert tuple(got.shape) == (1,)
    assert alike(got, x)
    np.testing.assert_allclose(xp.asnumpy(got), [math.fsum(NUMBERS)], atol=TOLERANCE[dtype])


def test_numpys_float32_is_added_one_after_the_other():
    """As frameworks add that have no better way; in pairs, most of the ones would count."""
    x, ids = np.ones(1000, dtype="float32"), np.arange(1000) % 2
    x[0] = BIG
    assert segment_sum(x, ids, 2).tolist() == [BIG, 500]


@pytest.mark.parametrize("dtype", DTYPES)
def test_maxima(xp, dtype):
    x = xp.asarray(NUMBERS, dtype)
    got = segment_max(x, xp.asarray(IDS, None), 6)
    largest = [max(part, default=-math.inf) for part in members(IDS, NUMBERS.astype(dtype))]
    assert xp.asnumpy(got).tolist() == largest
    assert alike(got, x)


def test_maxima_of_numbers_below_zero(xp):
    got = segment_max(xp.asarray(np.array([-3.0, -2.0, -5.0]), None), xp.asarray(np.array([0, 0, 2]), None), 3)
    assert xp.asnumpy(got).tolist() == [-2, -math.inf, -5]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_a_million_segments_of_a_million_elements_take_no_matrix_of_both(name, dtype):
    """Each has a sum over segments of its own; the standard's, a mask for every segment, would take a terabyte."""
    xp = library(name)
    with xp.precise():
        x, ids = xp.asarray(np.arange(1e6), dtype), xp.asarray(np.arange(1_000_000)[::-1].copy(), None)
        for function in (segment_sum, segment_max):
            np.testing.assert_array_equal(xp.asnumpy(function(x, ids, 1_000_000)), np.arange(1e6)[::-1])


@pytest.mark.parametrize("lengths", [[8], [1] * 8, [3, 1, 4], [1, 7], [5, 3]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_running_sums_of_ragged_segments(xp, dtype, lengths):
    ids, x = np.repeat(np.arange(len(lengths)), lengths), xp.asarray(NUMBERS, dtype)
    got = segment_cumsum(x, xp.asarray(ids, None))
    expected = [math.fsum(n for n, s in zip(NUMBERS[: i + 1], ids, strict=False) if s == ids[i]) for i in range(8)]
    np.testing.assert_allclose(xp.asnumpy(got), expected, atol=TOLERANCE[dtype])
    assert alike(got, x)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_running_sums_of_padded_segments_are_the_ragged_ones(xp, dtype, width):
    x, ids = xp.asarray(NUMBERS, dtype), xp.asarray(np.repeat(np.arange(8 // width), width), None)
    got = segment_cumsum(x, ids, width)
    np.testing.assert_allclose(xp.asnumpy(got), xp.asnumpy(segment_cumsum(x, ids)), atol=TOLERANCE[dtype])
    assert alike(got, x)


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_running_sums_of_padded_float32_lose_nothing_where_they_are_added_one_after_the_other(name):
    xp = library(name)
    rows = xp.asarray(np.array([BIG, 1, 1, 1, 0, 1, 2, 3]), "float32")
    got = segment_cumsum(rows, xp.asarray(np.repeat([0, 1], 4), None), 4)
    assert xp.asnumpy(got).tolist() == [BIG, BIG, BIG + 2, BIG + 4, 0, 1, 3, 6]  # 2^24 + 3 is none: to the even one


def test_running_sums_under_pytorchs_compiler_and_in_jax_without_x64(torch, jax):
    """Neither warns, of a graph that breaks or of a dtype that is not to be had."""
    ids = np.repeat([0, 1], 4)
    compiled = torch.compile(lambda x, ids: segment_cumsum(x, ids, 4), backend="eager", fullgraph=True)
    in_pytorch = compiled(torch.ones(8), torch.tensor(ids))
    for got in (in_pytorch, segment_cumsum(jax.numpy.ones(8), jax.numpy.asarray(ids), 4)):
        assert got.tolist() == [1, 2, 3, 4] * 2


def test_running_sums_of_nothing_and_of_one(xp):
    nobody = xp.asarray(np.zeros(0, int), None)
    assert xp.asnumpy(segment_cumsum(xp.asarray(np.zeros(0), None), nobody)).tolist() == []
    one = xp.asarray(np.array([2.0]), None)
    assert xp.asnumpy(segment_cumsum(one, xp.asarray(np.array([0]), None))).tolist() == [2]


def test_a_neighbours_infinity_stays_with_it(xp):
    numbers = xp.asarray(np.where(np.arange(8) == 2, np.inf, NUMBERS), None)
    ids = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    segments = xp.asarray(ids, None)
    for got in (segment_cumsum(numbers, segments), segment_cumsum(numbers, segments, 2)):
        assert np.isfinite(xp.asnumpy(got)[ids != 1]).all()
    for got in (segment_sum(numbers, segments, 4), segment_max(numbers, segments, 4)):
        assert np.isfinite(xp.asnumpy(got)).tolist() == [True, False, True, True]


def backward(x, decay):
    """What the scan is, in a loop."""
    out = list(x)
    for i in reversed(range(len(out) - 1)):
        out[i] += decay[i] * out[i + 1]
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [[8], [1] * 8, [3, 1, 4], [2, 2, 2, 2], [4, 4], [5, 3]])
def test_scan(xp, dtype, lengths):
    rng = np.random.default_rng(1)
    x, decay = rng.normal(size=8), rng.choice([0.0, 0.3, 1.0, 1.5], 8)
    ids = np.repeat(np.arange(len(lengths)), lengths)
    expected = np.concatenate([backward(x[ids == i], decay[ids == i]) for i in range(len(lengths))])
    given = xp.asarray(x, dtype), xp.asarray(decay, dtype), xp.asarray(ids, None)
    widths = {None, lengths[0]} if len(set(lengths)) == 1 else {None}
    for width in widths:
        got = segment_scan(*given, width)
        np.testing.assert_allclose(xp.asnumpy(got), expected, atol=TOLERANCE[dtype])
        assert alike(got, given[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_overflows_stays_finite_and_with_its_row(xp, dtype):
    """Two sums that overflow, of opposite sign, would make NaN of the third."""
    large = float(np.finfo(dtype).max)
    x = np.array([large, large, -large, -large, 1.0, 2.0, np.inf, -np.inf])
    ids = xp.asarray(np.array([0, 0, 0, 0, 1, 1, 2, 3]), None)
    got = xp.asnumpy(segment_scan(xp.asarray(x, dtype), xp.asarray(np.ones(8), dtype), ids))
    assert got.tolist() == [0, -large, -large, -large, 3, 2, large, -large]


@pytest.mark.parametrize("junk", [math.inf, math.nan])
def test_nothing_is_carried_over_where_the_decay_is_zero_and_from_a_neighbour(xp, junk):
    x, decay, ids = np.array([1.0, junk, 2.0, junk]), np.array([0.0, 1, 1, 1]), np.array([0, 0, 1, 2])
    got = segment_scan(*(xp.asarray(a, None) for a in (x, decay, ids)))
    assert xp.asnumpy(got)[[0, 2]].tolist() == [1, 2]


def test_pairs_get_one_number_each(xp):
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 3, 40), rng.integers(0, 5, 40)
    ids = xp.asnumpy(pair_ids(xp.asarray(first, None), xp.asarray(second, None)))
    assert sorted(set(ids.tolist())) == list(range(len(set(ids.tolist()))))
    for i in range(40):
        np.testing.assert_array_equal(ids == ids[i], (first == first[i]) & (second == second[i]))
    # In the order of the pairs, from 0 on.
    numbers = {pair: i for i, pair in enumerate(sorted(set(zip(first, second, strict=True))))}
    assert ids.tolist() == [numbers[pair] for pair in zip(first, second, strict=True)]


@pytest.mark.parametrize("count", [1, 2])
def test_pairs_that_are_equal_are_number_0(xp, count):
    same = xp.asarray(np.full(count, 7), None)
    assert xp.asnumpy(pair_ids(same, same)).tolist() == [0] * count


def test_gradients_of_sums_and_maxima(torch):
    """1 for what is summed, and for what is the largest of its segment."""
    largest = [x == max(members(IDS, NUMBERS)[i]) for x, i in zip(NUMBERS, IDS, strict=True)]
    for function, expected in ((segment_sum, np.ones(8)), (segment_max, largest)):
        x = torch.tensor(NUMBERS, requires_grad=True)
        got = function(x, torch.tensor(IDS), 6)
        got[got.isfinite()].sum().backward()
        np.testing.assert_array_equal(x.grad, expected)


def test_results_are_made_where_the_array_is(torch):
    x, ids = torch.ones(8, device="meta"), torch.zeros(8, dtype=torch.int64, device="meta")
    made = (
        *(f(x, ids, n) for f in (segment_sum, segment_max) for n in (1, 6)),
        segment_cumsum(x, ids),
        segment_cumsum(x, ids, 4),
        segment_scan(x, x, ids),
        segment_scan(x, x, ids, 4),
    )
    assert {(array.device.type, array.dtype) for array in made} == {("meta", torch.float32)}
    assert [array.shape[0] for array in made] == [1, 6, 1, 6, 8, 8, 8, 8]
    pairs = pair_ids(ids, ids)
    assert (pairs.device.type, pairs.dtype) == ("meta", torch.int64)
