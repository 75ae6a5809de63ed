"""Fixed-point products against plain Python integers, with every kind of tie, and the multipliers against exact fractions."""

from __future__ import annotations

import doctest
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npusim.kernels import fixed_point as module
from npusim.kernels.fixed_point import (
    Rounding,
    divide_half_away,
    divide_power_of_two,
    high_product,
    multiply_fixed_point,
    quantize_multiplier,
    quantize_multipliers,
    reduce_multiplier,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
MULTIPLIERS = st.integers(2**30, 2**31 - 1)


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def oracle_product(a: int, multiplier: int, exponent: int, rounding: Rounding) -> int:
    """What the formulas mean, in exact fractions."""
    if rounding is Rounding.SINGLE:
        return half_up(Fraction(a * multiplier) * Fraction(2) ** (exponent - 31))
    if rounding is Rounding.Q15:
        narrow = 0x7FFF if multiplier >= 0x7FFF0000 else half_up(Fraction(multiplier, 2**16))
        return half_up(Fraction(a * narrow) * Fraction(2) ** (exponent - 15))
    high = half_up(Fraction(a * 2 ** max(exponent, 0) * multiplier, 2**31))
    rest = Fraction(min(high, 2**31 - 1), 2 ** max(-exponent, 0))
    return half_away(rest) if rounding is Rounding.DOUBLE else half_up(rest)


@given(st.floats(0, 1e6, allow_nan=False, width=64))
@example(1 - 2**-33)
@example(1 - 2**-32)
@example(2.0**-32)
@example(2.0**-33)
def test_a_multiplier_is_the_nearest_one_of_31_bits(real):
    multiplier, exponent = quantize_multiplier(real)
    if multiplier == 0:
        assert real < 2.0**-32
        return
    assert 2**30 <= multiplier < 2**31
    unit = Fraction(2) ** (exponent - 31)
    # beside a power of two the multiplier may have come from the finer grid below it
    assert abs(Fraction(real) - multiplier * unit) <= unit / 2
    if multiplier > 2**30:
        assert multiplier == half_away(Fraction(real) / unit)


@pytest.mark.parametrize("real", [-1.0, math.inf, math.nan])
def test_a_multiplier_that_is_none_is_refused(real):
    with pytest.raises(ValueError, match="wanted a finite number"):
        quantize_multiplier(real)


def test_many_multipliers_are_each_one_of_them():
    reals = np.array([[0.3, 1.0], [0.0, 7.5]])
    multipliers, exponents = quantize_multipliers(reals)
    pairs = [quantize_multiplier(real) for real in reals.reshape(-1).tolist()]
    assert list(zip(multipliers.reshape(-1).tolist(), exponents.reshape(-1).tolist(), strict=True)) == pairs


@given(INT32, MULTIPLIERS, st.integers(-31, 0), st.sampled_from(Rounding))
@example(-6, 2**30, -1, Rounding.DOUBLE)
@example(-6, 2**30, -1, Rounding.UPUP)
@example(-(2**31), 2**31 - 1, 0, Rounding.DOUBLE)
def test_products_equal_exact_fractions(a, multiplier, exponent, rounding):
    found = multiply_fixed_point(np.array([a]), np.array([multiplier]), np.array([exponent]), rounding)
    assert found.tolist() == [oracle_product(a, multiplier, exponent, rounding)]


@given(st.integers(-(2**16), 2**16), st.integers(2**14, 2**15 - 1), st.integers(-20, 8), st.sampled_from(Rounding))
def test_ties_round_as_the_formula_says(a, high, exponent, rounding):
    """Multipliers with zeros at the end make ties common."""
    multiplier = high << 16
    found = multiply_fixed_point(np.array([a]), np.array([multiplier]), np.array([exponent]), rounding)
    assert found.tolist() == [oracle_product(a, multiplier, exponent, rounding)]


@given(st.integers(-(2**46), 2**46), MULTIPLIERS, st.integers(-14, 7))
def test_products_of_wide_accumulators(a, multiplier, exponent):
    found = multiply_fixed_point(np.array([a]), np.array([multiplier]), np.array([exponent]), Rounding.Q15)
    assert found.tolist() == [oracle_product(a, multiplier, exponent, Rounding.Q15)]


@given(INT32, st.integers(0, 31))
def test_division_by_a_power_of_two(a, power):
    assert divide_power_of_two(np.array([a]), power).tolist() == [half_away(Fraction(a, 2**power))]


@given(INT32, st.integers(1, 70))
def test_division(a, divisor):
    expected = (abs(a) + divisor // 2) // divisor
    assert divide_half_away(np.array([a]), divisor).tolist() == [expected if a >= 0 else -expected]


@given(INT32, INT32)
def test_the_high_product_is_gemmlowps(a, b):
    """gemmlowp: a nudge of the product's sign, then a truncating division; only -2**31 squared saturates."""
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    expected = abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)
    assert high_product(np.array([a]), np.array([b])).tolist() == [min(expected, 2**31 - 1)]


@given(MULTIPLIERS)
def test_the_reduced_multiplier(multiplier):
    assert reduce_multiplier(np.array(multiplier)) == min(half_up(Fraction(multiplier, 2**16)), 0x7FFF)


def test_examples():
    assert doctest.testmod(module).failed == 0
