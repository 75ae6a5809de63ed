"""Matrix products of floats that come out the same on every machine, for every batch, block size and number of threads.

A BLAS product of floats depends in its last bits on the order of the sum, and that order changes with the number of rows, with
threads and with the processor. Here both operands are first cut into digits, small integers times a power of two:

    ``x = sum_i digit_i * 2^(exponent - bits * (i + 1))``,  ``|digit_i| <= 2^bits``

A product of two digit matrices over `length` terms is an integer of at most ``length * 2^(2 * bits) <= 2^53``, so float64 BLAS
computes it exactly in whatever order it likes, and only the few partial products are added with rounding, in a fixed order.
Operands that are small integers need one digit each, hence one product; ordinary float32 data takes two or three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Digits", "chunks", "contract", "digit_bits", "rearrange", "split"]

Float64Array: TypeAlias = npt.NDArray[np.float64]

DIGIT_LIMIT: Final = 21
"""Digits kept of one operand, and the order past which partial products are dropped.

A product of two float32 values that float32 can hold is at least 2^-149 and so at most 405 bits below the product of the two
largest, 2^256; digits of 20 bits, those of 8192 terms, reach that far. Ordinary data ends after two or three digits.
"""


@dataclass(frozen=True, slots=True)
class Digits:
    """An array as a sum of digits.

    Attributes
    ----------
    digits
        Integer-valued float64 arrays of equal shape, most significant first; entries that are not finite are 0.
    exponent
        int32, broadcasts to the array: every ``|x| < 2^exponent`` that shares the entry.
    bits
        Bits of one digit.
    is_finite
        Whether all entries are finite.
    signs
        Gives the array with its finite entries replaced by their signs, which is all that infinities and NaN ask for.
    """

    digits: tuple[Float64Array, ...]
    exponent: npt.NDArray[np.int32]
    bits: int
    is_finite: bool
    signs: Callable[[], Float64Array]


def digit_bits(length: int) -> int:
    """Largest width of a digit for which a sum of `length` products of two digits stays within 2^53.

    Examples
    --------
    >>> digit_bits(512)
    22
    """
    return (53 - (max(length, 1) - 1).bit_length()) // 2


def split(x: npt.NDArray[np.generic], /, *, axes: tuple[int, ...], bits: int) -> Digits:
    """Cut a float array into digits; entries that differ only along `axes` share one exponent.

    Parameters
    ----------
    x
        Any real floating dtype, any shape.
    axes
        Must contain the axis that a product contracts.
    bits
        Width of a digit, see `digit_bits`.

    Examples
    --------
    >>> parts = split(np.array([1.0, -0.25]), axes=(0,), bits=2)
    >>> parts.digits, parts.exponent
    ((array([ 2., -0.]), array([ 0., -2.])), array([1], dtype=int32))
    """
    source: Float64Array = x.astype(np.float64)
    finite = np.isfinite(source)
    is_finite = bool(finite.all())
    values = source if is_finite else np.where(finite, source, 0.0)
    largest = np.max(np.abs(values), axis=axes, keepdims=True, initial=0.0)
    # The floor keeps the factor below finite; it costs no digit that a float64 has.
    exponent = np.maximum(np.frexp(largest)[1], -990).astype(np.int32)
    rest = values * np.ldexp(1.0, bits - exponent)
    digits: list[Float64Array] = []
    while len(digits) < DIGIT_LIMIT:
        digit = np.rint(rest)
        digits.append(digit)
        rest -= digit
        if not rest.any():
            break
        rest *= 2.0**bits
    return Digits(tuple(digits), exponent, bits, is_finite, lambda: np.where(finite, np.sign(source), source))


def rearrange(operand: Digits, function: Callable[[Float64Array], Float64Array]) -> Digits:
    """Apply a function that only moves, repeats or selects entries (and keeps the meaning of the exponents) to all digits."""
    digits = tuple(function(digit) for digit in operand.digits)
    return replace(operand, digits=digits, signs=lambda: function(operand.signs()))


def contract(left: Digits, right: Digits) -> Float64Array:
    """Matrix product of two operands cut with the same number of bits, as `numpy.matmul` stacks them.

    Returns
    -------
    ndarray of float64
        Each entry within a few float64 roundings of the exact sum, and a function of its own row and column alone. Entries
        that meet an infinity or NaN come out as infinity or NaN, as in any order of summation.
    """
    pairs = [(-(i + j), a, b) for i, a in enumerate(left.digits) for j, b in enumerate(right.digits) if i + j < DIGIT_LIMIT]
    # Least significant first: more accurate, and a pair that another sample needs only adds zero here.
    pairs.sort(key=lambda pair: pair[0])
    total: Float64Array = np.zeros(())
    for order, a, b in pairs:
        part = np.matmul(a, b)
        if order:
            part *= 2.0 ** (order * left.bits)
        total = part + total
    result: Float64Array = np.ldexp(total, left.exponent + right.exponent - 2 * left.bits)
    if not (left.is_finite and right.is_finite):
        plain = np.matmul(left.signs(), right.signs())
        result = np.where(np.isfinite(plain), result, plain)
    return result


def chunks(count: int, *, item_bytes: int, budget: int = 1 << 19) -> Iterator[slice]:
    """Slices that cover `count` items so that each holds at most `budget` bytes, or one item.

    Examples
    --------
    >>> list(chunks(5, item_bytes=10, budget=25))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, budget // max(item_bytes, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
