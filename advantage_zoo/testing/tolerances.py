"""How far from exact a law may be, in one table.

Two arrays agree if no difference exceeds the tolerance times the largest expected value, or times ``SMALLEST`` where
that is smaller: what is left below is the rounding of zeros.
"""

LIBRARIES: dict[str, float] = {"float64": 1e-10, "float32": 2e-5}
"""Two libraries, layouts or orders of rows, by dtype: AGREE, PADDING, HOLES, PERMUTATION, EMPTY_ROW."""

LAWS: dict[str, float] = {
    "GROUP_INDEPENDENCE": 1e-10,
    "SHIFT": 1e-8,  # rewards near 1,000 lose three digits to the constant
    "SCALE": 1e-3,  # an eps of 1e-4 against deviations of a few hundred
    "SCALE_EQUIVARIANT": 1e-10,
    "ZERO_SUM": 1e-9,
    "SIGN": 1e-9,  # a reward this near to its group's mean has no sign
    "BOUNDED": 1e-9,
    "MONOTONE": 1e-9,
    "SINGLETON": 1e-9,
    "REDUCES_TO": 1e-10,
}
"""The other laws, all in float64. Those that are not here are exact, to the bit."""

SMALLEST = 1e-2
"""Largest expected value below which a tolerance is no longer relative."""
