"""Multiplying integers by a real number in fixed point, as runtimes without a floating-point unit do it.

A real multiplier ``M`` is held as an integer ``Q`` of 31 bits and an exponent ``e`` with ``M ~ Q * 2**(e - 31)``. How the
product is rounded differs from runtime to runtime, and so do the codes:

* ``SINGLE``: one rounding, half up: ``(a * Q + 2**(30 - e)) >> (31 - e)``. TVM, XNNPACK, TFLM with ``TFLITE_SINGLE_ROUNDING``.
* ``DOUBLE``: gemmlowp's two roundings: the high half of the doubled product, half up, then a division by a power of two, half
  away from zero. TFLM and CMSIS-NN as they are by default, LiteRT's reference kernels.
* ``UPUP``: the same with half up in both roundings. LiteRT's kernels on x86 (ruy).
* ``Q15``: one rounding of the product with a multiplier of 16 bits: activations of 16 bits, accumulators of 64.

All arithmetic is int64 and exact while ``|a| * 2**max(e, 0) <= 2**31`` (for ``Q15``: ``|a| < 2**47``).
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Rounding",
    "divide_half_away",
    "divide_power_of_two",
    "high_product",
    "multiply_fixed_point",
    "quantize_multiplier",
    "quantize_multipliers",
    "reduce_multiplier",
]

Int64Array: TypeAlias = npt.NDArray[np.int64]


class Rounding(StrEnum):
    """How a product with a fixed-point multiplier is rounded; the formulas stand at the head of this module."""

    SINGLE = "single"
    DOUBLE = "double"
    UPUP = "upup"
    Q15 = "q15"


def quantize_multiplier(real: float) -> tuple[int, int]:
    """A real multiplier as ``(Q, e)`` with ``real ~ Q * 2**(e - 31)`` and ``2**30 <= Q < 2**31``.

    ``(q, e) = frexp(real)``; ``Q = q * 2**31`` rounded, half away from zero; a Q of ``2**31`` is halved and e counted up. Below
    ``2**-32`` the result is (0, 0), as the runtimes have it.

    Parameters
    ----------
    real
        Finite; 0 or more.

    Raises
    ------
    ValueError
        If the multiplier is negative, infinite or NaN.

    Examples
    --------
    >>> quantize_multiplier(0.75), quantize_multiplier(1.0), quantize_multiplier(1 - 2**-40)
    ((1610612736, 0), (1073741824, 1), (1073741824, 1))
    """
    if not math.isfinite(real) or real < 0:
        raise ValueError(f"a multiplier is {real}, wanted a finite number of 0 or more")
    fraction, exponent = math.frexp(real)
    # fraction * 2**31 is exact in float64, and so is adding a half below 2**52
    multiplier = math.floor(fraction * 2.0**31 + 0.5)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    return (0, 0) if exponent < -31 or multiplier == 0 else (multiplier, exponent)


def quantize_multipliers(reals: npt.NDArray[np.float64]) -> tuple[Int64Array, Int64Array]:
    """:func:`quantize_multiplier` of every element: int64 arrays of multipliers and exponents in the shape of `reals`."""
    pairs = [quantize_multiplier(float(real)) for real in reals.reshape(-1)]
    multipliers = np.array([multiplier for multiplier, _ in pairs], np.int64)
    return multipliers.reshape(reals.shape), np.array([exponent for _, exponent in pairs], np.int64).reshape(reals.shape)


def reduce_multiplier(multiplier: Int64Array) -> Int64Array:
    """The 16-bit form of a 31-bit multiplier: ``(Q + 2**15) >> 16``, and 0x7FFF from 0x7FFF0000 on.

    Examples
    --------
    >>> reduce_multiplier(np.array([2**30, 2**30 + 2**15, 2**31 - 1])).tolist()
    [16384, 16385, 32767]
    """
    return np.where(multiplier >= 0x7FFF0000, 0x7FFF, (multiplier + (1 << 15)) >> 16)


def high_product(a: Int64Array, b: Int64Array) -> Int64Array:
    """The high half of a doubled product of 32-bit integers, rounded half up: ``(a * b + 2**30) >> 31``.

    gemmlowp writes it as a truncating division with a nudge that depends on the sign; the result is this one. Only
    ``(-2**31)**2`` saturates, to ``2**31 - 1``.

    Examples
    --------
    >>> high_product(np.array([3, -3, -(2**31)]), np.array([2**30, 2**30, -(2**31)])).tolist()
    [2, -1, 2147483647]
    """
    return np.asarray(np.minimum((a * b + (1 << 30)) >> 31, 2**31 - 1), np.int64)


def divide_power_of_two(a: Int64Array, power: Int64Array | int) -> Int64Array:
    """``a / 2**power``, rounded half away from zero.

    Examples
    --------
    >>> divide_power_of_two(np.array([5, 6, -5, -6]), 2).tolist()
    [1, 2, -1, -2]
    """
    half = (np.int64(1) << np.asarray(power, np.int64)) >> 1
    magnitude = (np.abs(a) + half) >> power
    return np.asarray(np.where(a < 0, -magnitude, magnitude), np.int64)


def divide_half_away(a: Int64Array, divisor: Int64Array | int) -> Int64Array:
    """``a / divisor`` as C integers divide after half the divisor was added in the direction of the sign: half away from zero.

    ``(a + divisor // 2) / divisor`` for positive a, ``(a - divisor // 2) / divisor`` otherwise, truncated.

    Examples
    --------
    >>> divide_half_away(np.array([5, 6, -5, -6, 4, -4]), np.array([2, 4, 2, 4, 3, 3])).tolist()
    [3, 2, -3, -2, 1, -1]
    """
    magnitude = (np.abs(a) + np.asarray(divisor, np.int64) // 2) // divisor
    return np.asarray(np.where(a < 0, -magnitude, magnitude), np.int64)


def multiply_fixed_point(a: Int64Array, multiplier: Int64Array, exponent: Int64Array, rounding: Rounding) -> Int64Array:
    """``a * Q * 2**(e - 31)`` as an integer, rounded in the way of a runtime.

    Parameters
    ----------
    a
        int64 of any shape; bounds as at the head of this module.
    multiplier, exponent
        int64 from :func:`quantize_multipliers`, broadcastable to `a`; exponents of -31 to 30, for ``Q15`` to 14.
    rounding
        Which formula.

    Examples
    --------
    A multiplier of 1/4 takes -6 to -1.5 and 6 to 1.5:

    >>> q, e = quantize_multipliers(np.array([0.25]))
    >>> {str(how): multiply_fixed_point(np.array([-6, 6]), q, e, how).tolist() for how in Rounding}
    {'single': [-1, 2], 'double': [-2, 2], 'upup': [-1, 2], 'q15': [-1, 2]}
    """
    if rounding is Rounding.SINGLE:
        return (a * multiplier + (np.int64(1) << (30 - exponent))) >> (31 - exponent)
    if rounding is Rounding.Q15:
        return (a * reduce_multiplier(multiplier) + (np.int64(1) << (14 - exponent))) >> (15 - exponent)
    high = high_product(a << np.maximum(exponent, 0), multiplier)
    right = np.maximum(-exponent, 0)
    if rounding is Rounding.DOUBLE:
        return divide_power_of_two(high, right)
    return np.asarray((high + ((np.int64(1) << right) >> 1)) >> right, np.int64)
