"""Transcendental functions in 32-bit fixed point, as gemmlowp has them: TFLM's SOFTMAX, LOGISTIC and TANH.

A number of format ``F<n>`` has n integer bits, a sign and 31 - n fraction bits: raw integer ``r`` stands for ``r * 2**(n -
31)``. The product of ``F<a>`` and ``F<b>`` is ``F<a + b>``, rounded as :func:`~npusim.kernels.fixed_point.high_product`
rounds. All arrays are int64 that hold 32-bit integers.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.fixed_point import divide_power_of_two, high_product

__all__ = ["exp_on_negative_values", "logistic", "one_over_one_plus", "reciprocal", "tanh"]

Int64Array: TypeAlias = npt.NDArray[np.int64]

HIGHEST: Final = 2**31 - 1
"""The largest raw value; in ``F<0>`` it stands for 1."""

_EXP_MINUS_EIGHTH: Final = 1895147668
_THIRD: Final = 715827883
_EXP_FACTORS: Final = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""``exp(-2**k)`` in ``F<0>`` for each k."""
_48_OVER_17: Final = 1515870810
_MINUS_32_OVER_17: Final = -1010580540


def _saturated(a: Int64Array) -> Int64Array:
    return np.clip(a, -HIGHEST - 1, HIGHEST)


def _constant(value: int) -> Int64Array:
    return np.array(value, np.int64)


def _exp_near_minus_eighth(a: Int64Array) -> Int64Array:
    """``exp(a)`` for ``-1/4 <= a < 0``, ``F<0>`` to ``F<0>``: a Taylor polynomial of degree 4 around -1/8."""
    x = a + (1 << 28)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    tail = high_product(divide_power_of_two(x4, 2) + x3, _constant(_THIRD)) + x2
    return _constant(_EXP_MINUS_EIGHTH) + high_product(_constant(_EXP_MINUS_EIGHTH), x + divide_power_of_two(tail, 1))


def exp_on_negative_values(a: Int64Array, integer_bits: int) -> Int64Array:
    """``exp(a)`` for ``a <= 0``, ``F<integer_bits>`` to ``F<0>``.

    a is cut into a part in [-1/4, 0) and multiples of 1/4; for each binary digit of those the result is multiplied by a
    constant.

    Examples
    --------
    exp(0) is the largest value, exp(-1) is 0.36788 of it:

    >>> exp_on_negative_values(np.array([0, -(1 << 26)]), 5).tolist()
    [2147483647, 790015308]
    """
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    low = (a & (quarter - 1)) - quarter
    result = _exp_near_minus_eighth(_saturated(low << integer_bits))
    remainder = low - a
    for power, factor in _EXP_FACTORS:
        if integer_bits > power:
            chosen = (remainder >> (fraction_bits + power)) & 1
            result = np.where(chosen == 1, high_product(result, _constant(factor)), result)
    return np.where(a == 0, HIGHEST, result)


def _newton_reciprocal(a: Int64Array) -> Int64Array:
    """``1 / ((1 + a) / 2)`` in ``F<2>`` for a in [0, 1] of ``F<0>``: three steps of Newton's method."""
    total = a + HIGHEST
    half_denominator = (total + 1) >> 1
    x = _constant(_48_OVER_17) + high_product(half_denominator, _constant(_MINUS_32_OVER_17))
    for _ in range(3):
        error = (1 << 29) - high_product(half_denominator, x)
        x = x + _saturated(high_product(x, error) << 2)
    return x


def one_over_one_plus(a: Int64Array) -> Int64Array:
    """``1 / (1 + a)`` for a in [0, 1], ``F<0>`` to ``F<0>``.

    Examples
    --------
    >>> (one_over_one_plus(np.array([0, 2**31 - 1])) / 2**31).round(6).tolist()
    [1.0, 0.5]
    """
    return _saturated(_newton_reciprocal(a) << 1)


def reciprocal(a: Int64Array, integer_bits: int) -> tuple[Int64Array, Int64Array]:
    """``1 / a`` for ``a > 0`` of ``F<integer_bits>``, as a mantissa in ``F<0>`` and the number of bits that a lies above 1.

    Examples
    --------
    The reciprocal of 4 in ``F<12>`` is half of 2**-1:

    >>> mantissa, bits = reciprocal(np.array([4 << 19]), 12)
    >>> (mantissa / 2**31).round(6).tolist(), bits.tolist()
    ([1.0], [2])
    """
    headroom = 32 - np.ceil(np.log2(a.astype(np.float64) + 0.5)).astype(np.int64)
    return one_over_one_plus((a << headroom) - (1 << 31)), integer_bits - headroom


def logistic(a: Int64Array, integer_bits: int) -> Int64Array:
    """``1 / (1 + exp(-a))``, ``F<integer_bits>`` to ``F<0>``.

    Examples
    --------
    >>> logistic(np.array([0]), 4).tolist()
    [1073741824]
    """
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(a), integer_bits))
    return np.where(a == 0, 1 << 30, np.where(a > 0, positive, HIGHEST - positive))


def tanh(a: Int64Array, integer_bits: int) -> Int64Array:
    """``tanh(a)``, ``F<integer_bits>`` to ``F<0>``.

    Examples
    --------
    >>> tanh(np.array([0]), 4).tolist()
    [0]
    """
    # the same raw value with one integer bit more stands for twice the number: exp(-2 |a|)
    x = exp_on_negative_values(-np.abs(a), integer_bits + 1)
    # (1 - x) / (1 + x) = 2 / (1 + x) - 1
    positive = _saturated((_newton_reciprocal(x) - (1 << 29)) << 2)
    return np.where(a == 0, 0, np.where(a > 0, positive, -positive))
