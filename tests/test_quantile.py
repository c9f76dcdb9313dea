"""segment_quantile against numpy.quantile and against exact ranks, and saturating, on every library."""

import math
from fractions import Fraction

import numpy as np
import pytest

from advantage_zoo.arrays import saturating, segment_quantile

RNG = np.random.default_rng(11)
CONVENTIONS = [pytest.param("linear", id="linear"), pytest.param("inverted_cdf", id="empirical")]
SIZES = [5, 0, 1, 16, 8, 2, 0]  # of seven segments, the last of them empty like the second
IDS = RNG.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
NUMBERS = np.where(RNG.random(len(IDS)) < 0.5, RNG.integers(0, 2, len(IDS)), RNG.normal(size=len(IDS)))
ALL = np.ones(len(IDS), dtype=bool)
SEGMENTS = len(SIZES)
FEW = np.random.default_rng(12).random(len(IDS)) < 0.6


def quantiles(xp, numbers, ids, valid, share, method, dtype="float64", num_segments=SEGMENTS):
    arrays = xp.asarray(np.asarray(numbers, dtype=float), dtype), xp.asarray(np.asarray(ids), None)
    valid = xp.asarray(np.asarray(valid), None)
    return xp.asnumpy(segment_quantile(arrays[0], arrays[1], num_segments, valid, share, linear=method == "linear"))


def expected(numbers, ids, valid, share, method, num_segments=SEGMENTS):
    members = [numbers[valid & (ids == s)] for s in range(num_segments)]
    return [np.quantile(some, share, method=method) if some.size else 0.0 for some in members]


@pytest.mark.parametrize("method", CONVENTIONS)
@pytest.mark.parametrize("share", [0.0, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0])
def test_numpys_quantile_in_each_segment(xp, method, share):
    for dtype in ("float64", "float32"):
        got = quantiles(xp, NUMBERS, IDS, ALL, share, method, dtype)
        tolerance = 1e-12 if dtype == "float64" else 2e-6
        np.testing.assert_allclose(got, expected(NUMBERS, IDS, ALL, share, method), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", CONVENTIONS)
def test_only_what_is_valid_counts(xp, method):
    valid = FEW & (IDS != 3)  # nobody is left in segment 3
    for outside in (-1e6, 1e6, np.inf, -np.inf, np.nan):
        got = quantiles(xp, np.where(valid, NUMBERS, outside), IDS, valid, 0.4, method)
        np.testing.assert_allclose(got, expected(NUMBERS, IDS, valid, 0.4, method), rtol=1e-12)
    assert got[[1, 3, 6]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", CONVENTIONS)
def test_nobody_counts(xp, method):
    assert not quantiles(xp, NUMBERS, IDS, ~ALL, 0.4, method).any()


@pytest.mark.parametrize("method", CONVENTIONS)
def test_the_order_of_the_members_does_not_matter(xp, method):
    once = quantiles(xp, NUMBERS, IDS, FEW, 0.3, method)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(IDS))
        again = quantiles(xp, NUMBERS[order], IDS[order], FEW[order], 0.3, method)
        np.testing.assert_array_equal(again, once)


def test_the_empirical_quantile_is_a_member(xp):
    for share in np.linspace(0, 1, 7):
        got = quantiles(xp, NUMBERS, IDS, ALL, float(share), "inverted_cdf")
        for segment, number in enumerate(got):
            assert number in NUMBERS[segment == IDS] or not SIZES[segment]


@pytest.mark.parametrize("size", [1, 5, 8, 25, 300])
def test_the_share_is_meant_as_written(xp, size):
    """0.28 of 25 is the 7th, though 0.28 * 25 is 7.000000000000001; in float32 0.6 * 25 and 0.66 * 300 are off."""
    for dtype in ("float64", "float32"):
        for hundredths in (0, 28, 40, 60, 66, 100):
            rank = max(math.ceil(Fraction(hundredths, 100) * size), 1)
            ranks = np.arange(size, 0, -1.0)  # 1 to size, falling
            got = quantiles(xp, ranks, np.zeros(size, int), ranks > 0, hundredths / 100, "inverted_cdf", dtype, 1)
            assert got.tolist() == [rank]


def test_a_threshold_on_the_share_of_right_responses(xp):
    """QAE's two kinds of prompts: the baseline is 0 where p <= 1 - K, else 1."""
    share = 0.4
    for size in (5, 8, 16):
        rewards = np.array([[1.0] * right + [0.0] * (size - right) for right in range(size + 1)])
        ids = np.repeat(np.arange(size + 1), size)
        got = quantiles(xp, rewards.ravel(), ids, ids >= 0, share, "inverted_cdf", num_segments=size + 1)
        assert got.tolist() == [float(Fraction(right, size) > 1 - Fraction(2, 5)) for right in range(size + 1)]


@pytest.mark.parametrize("method", CONVENTIONS)
def test_equal_members_are_their_own_quantile(xp, method):
    for dtype in ("float64", "float32"):
        got = quantiles(xp, np.full(len(IDS), 0.81593), IDS, ALL, 0.4, method, dtype)
        assert got.tolist() == [float(np.array(0.81593, dtype)) if size else 0.0 for size in SIZES]


@pytest.mark.parametrize("method", CONVENTIONS)
def test_under_jit(jax, method):
    def compiled(x, ids, valid):
        return segment_quantile(x, ids, SEGMENTS, valid, 0.4, linear=method == "linear")

    got = jax.jit(compiled)(*map(jax.numpy.asarray, (NUMBERS, IDS, ALL)))
    np.testing.assert_allclose(got, expected(NUMBERS, IDS, ALL, 0.4, method), rtol=1e-5, atol=1e-6)


def test_saturating_is_the_product_where_that_is_finite(xp):
    numbers = np.array([0.0, -1.5, 3.0, 1e3])
    for dtype in ("float64", "float32"):
        x = xp.asarray(numbers, dtype)
        np.testing.assert_array_equal(xp.asnumpy(saturating(x, 2.0)), 2 * numbers)
        by_member = saturating(x, xp.asarray(numbers + 4, dtype))
        np.testing.assert_array_equal(xp.asnumpy(by_member), numbers * (numbers + 4))


@pytest.mark.parametrize("factor", [1.0, 8 / 7, 10 / 9, 1.5, 2.0, 3.0, 399 / 398, 1e4])
def test_saturating_never_overflows(xp, factor):
    """Neither does the rounding of ``largest / factor * factor``, which in half of the cases is upwards."""
    for dtype in ("float64", "float32"):
        largest = float(np.finfo(dtype).max)
        x = xp.asarray(np.array([largest, -largest, np.inf, -np.inf, largest / factor, largest / factor / 2]), dtype)
        for got in (saturating(x, factor), saturating(x, xp.asarray(np.full(6, factor), dtype))):
            got = xp.asnumpy(got).astype(float)
            assert got[:4].tolist() == [largest, -largest, largest, -largest]
            np.testing.assert_allclose(got[4:], [largest, largest / 2], rtol=4 * float(np.finfo(dtype).eps))
