"""From accumulator to output code, the way the NPU's batch-norm stage computes it, and the integer formats around it.

All arithmetic is int64 and exact while ``|(accumulator + bias) * scale|`` stays below 2**63.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "codes_dtype",
    "each_weight_digit",
    "requantize",
    "residual",
    "scaled_value",
    "shift_right_floor",
    "weight_digits",
]

Int64Array: TypeAlias = npt.NDArray[np.int64]


def requantize(
    accumulator: Int64Array, /, *, bias: Int64Array, scale: Int64Array, shift: Int64Array, lower: int, upper: int
) -> Int64Array:
    """The NPU's batch-norm stage: ``y = clip(((accumulator + bias) * scale) >> shift, lower, upper)``.

    The shift is arithmetic, so it rounds toward minus infinity; exporters add half an output step to the bias, which makes it
    round to nearest.

    Parameters
    ----------
    accumulator
        Sums of a layer, int64 of any shape.
    bias, scale, shift
        int64, broadcastable to the accumulator: for parameters per channel ``[C, 1, 1]`` with two spatial axes. Scales of
        the NPU are unsigned, those of an input stage may be negative; shifts are 0 to 31.
    lower, upper
        Range of the codes, both included.

    Returns
    -------
    int64 codes in the shape of the accumulator.

    Raises
    ------
    TypeError
        If an array is not int64.
    ValueError
        If a parameter does not broadcast to the accumulator, a shift is not in 0..31, or the range is empty.

    Examples
    --------
    >>> bias, scale, shift = np.array([2, 2, 2]), np.array([1, 1, -3]), np.array([2, 2, 2])
    >>> requantize(np.array([7, -3, 7]), bias=bias, scale=scale, shift=shift, lower=-128, upper=127)
    array([ 2, -1, -7])
    """
    _require_int64(accumulator, bias, scale, shift)
    _require_shape(accumulator.shape, bias, scale, shift)
    _require_range(lower, upper)
    if shift.size and not (shift.min() >= 0 and shift.max() <= 31):
        raise ValueError(f"shifts reach from {shift.min()} to {shift.max()}, the NPU shifts by 0 to 31")
    return np.clip(shift_right_floor((accumulator + bias) * scale, shift), lower, upper)


def shift_right_floor(value: Int64Array, shift: Int64Array, /) -> Int64Array:
    """Arithmetic shift to the right: ``floor(value / 2**shift)``.

    Parameters
    ----------
    value
        int64 of any shape.
    shift
        int64 of 0 or more, broadcastable to `value`.

    Returns
    -------
    int64 in the shape of `value`.

    Raises
    ------
    TypeError
        If an array is not int64.
    ValueError
        If the shift does not broadcast to `value` or is negative.

    Examples
    --------
    >>> shift_right_floor(np.array([5, -5, -1]), np.array(1))
    array([ 2, -3, -1])
    """
    _require_int64(value, shift)
    _require_shape(value.shape, shift)
    if shift.size and shift.min() < 0:
        raise ValueError(f"a shift is {shift.min()}, wanted 0 or more")
    return np.asarray(value >> shift)


def scaled_value(scaled: Int64Array, shift: Int64Array, /) -> npt.NDArray[np.float32]:
    """The value before the floor: ``scaled * 2**-shift``, rounded once to float32 (half to even).

    Exported graphs hold this value in a float32 tensor between the shift and the floor. It is exact for ``|scaled| <= 2**24``
    and rounded once for ``|scaled| <= 2**53``; beyond, float64 rounds before float32 does.

    Parameters
    ----------
    scaled
        ``(accumulator + bias) * scale``, int64 of any shape.
    shift
        int64 of 0 to 31, broadcastable to `scaled`.

    Returns
    -------
    float32 in the shape of `scaled`.

    Raises
    ------
    TypeError
        If an array is not int64.
    ValueError
        If the shift does not broadcast to `scaled`.

    Examples
    --------
    >>> scaled_value(np.array([5, -5, 2**24 + 1]), np.array([1, 2, 0])).tolist()
    [2.5, -1.25, 16777216.0]
    """
    _require_int64(scaled, shift)
    _require_shape(scaled.shape, shift)
    return np.asarray(np.ldexp(scaled.astype(np.float64), -shift.astype(np.int32)), np.float32)


def residual(
    requantized: Int64Array, residual: Int64Array, /, *, inner_lower: int, inner_upper: int, lower: int, upper: int
) -> Int64Array:
    """The NPU's batch-norm stage with a residual: ``y = clip(clip(requantized, inner) + residual, lower, upper)``.

    The hardware's inner range is -512..511; its software counterpart has none, which a wide inner range stands for.

    Parameters
    ----------
    requantized
        Codes before the addition, int64 of any shape.
    residual
        Codes to add, int64, broadcastable to `requantized`.
    inner_lower, inner_upper
        Range before the addition, both included.
    lower, upper
        Range of the codes, both included.

    Returns
    -------
    int64 codes in the shape of `requantized`.

    Raises
    ------
    TypeError
        If an array is not int64.
    ValueError
        If the residual does not broadcast to `requantized`, or a range is empty.

    Examples
    --------
    >>> codes, skip = np.array([600, 600, -3]), np.array([-500, 0, 1])
    >>> residual(codes, skip, inner_lower=-512, inner_upper=511, lower=-128, upper=127)
    array([ 11, 127,  -2])
    """
    _require_int64(requantized, residual)
    _require_shape(requantized.shape, residual)
    _require_range(inner_lower, inner_upper)
    _require_range(lower, upper)
    total: Int64Array = np.clip(requantized, inner_lower, inner_upper) + residual
    return np.clip(total, lower, upper)


def codes_dtype(lower: int, upper: int, /) -> np.dtype[np.integer[Any]]:
    """The dtype that holds codes of a range: the first of uint8, int8, int32 and int64 that the whole range fits.

    Parameters
    ----------
    lower, upper
        Range of the codes, both included.

    Returns
    -------
    The dtype.

    Raises
    ------
    ValueError
        If the range is empty, or does not fit int64.

    Examples
    --------
    >>> codes_dtype(0, 255), codes_dtype(-128, 127), codes_dtype(-255, 255)
    (dtype('uint8'), dtype('int8'), dtype('int32'))
    """
    _require_range(lower, upper)
    for dtype in (np.uint8, np.int8, np.int32, np.int64):
        if np.iinfo(dtype).min <= lower and upper <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise ValueError(f"codes of {lower}..{upper} do not fit int64")


def weight_digits(weights: Int64Array, /, *, bits: int) -> Int64Array:
    """The 2-bit digits into which the NPU splits two's complement weights: ``weight = sum over k of digit[k] * 4**k``.

    All digits are unsigned, 0..3, but the most significant one, which carries the sign, -2..1. Each has an accumulator of its
    own.

    Parameters
    ----------
    weights
        int64 of any shape.
    bits
        Width of a weight: 8, 4 or 2.

    Returns
    -------
    int64 ``[bits / 2, *weights.shape]``, least significant digit first.

    Raises
    ------
    TypeError
        If `weights` is not int64.
    ValueError
        If `bits` is none of these widths, or a weight does not fit it.

    Examples
    --------
    >>> weight_digits(np.array([27, -1, -128]), bits=8).T
    array([[ 3,  2,  1,  0],
           [ 3,  3,  3, -1],
           [ 0,  0,  0, -2]])
    """
    return np.stack([*each_weight_digit(weights, bits=bits)])


def each_weight_digit(weights: Int64Array, /, *, bits: int) -> Iterator[Int64Array]:
    """The digits of :func:`weight_digits` one after the other, for weights that fill memory.

    Examples
    --------
    >>> [digit.tolist() for digit in each_weight_digit(np.array([5, -1]), bits=4)]
    [[1, 3], [1, -1]]
    """
    _require_int64(weights)
    if bits not in (2, 4, 8):
        raise ValueError(f"weights of {bits} bits, wanted 8, 4 or 2")
    limit = 1 << (bits - 1)
    if weights.size and not (weights.min() >= -limit and weights.max() < limit):
        raise ValueError(f"weights reach from {weights.min()} to {weights.max()}, {bits} bits hold {-limit}..{limit - 1}")
    return (weights >> place if place == bits - 2 else (weights >> place) & 3 for place in range(0, bits, 2))


def _require_int64(*arrays: Int64Array) -> None:
    """Refuse other dtypes: NumPy would compute in them, and wrap."""
    for array in arrays:
        if array.dtype != np.int64:
            raise TypeError(f"got an array of {array.dtype}, wanted int64")


def _require_shape(shape: tuple[int, ...], *parameters: Int64Array) -> None:
    """Refuse parameters that would widen an array of `shape` instead of broadcasting to it."""
    for parameter in parameters:
        if np.broadcast_shapes(shape, parameter.shape) != shape:
            raise ValueError(f"an array of {parameter.shape} does not broadcast to {shape}")


def _require_range(lower: int, upper: int) -> None:
    """Refuse an empty range."""
    if lower > upper:
        raise ValueError(f"range {lower}..{upper} is empty")
