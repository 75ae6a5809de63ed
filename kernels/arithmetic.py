"""Element-wise arithmetic whose result NumPy leaves open, or computes otherwise than ONNX says.

Zero signs and NaN follow one rule on every processor here; NumPy's own minimum and maximum leave the sign of zero to the
instruction set, and its integer division rounds down.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .casting import convert

__all__ = ["clip", "maximum", "minimum", "power", "truncated_divide"]

Array: TypeAlias = npt.NDArray[Any]


def minimum(a: Array, b: Array, /) -> Array:
    """Element-wise ``a if a < b else b``, NaN where either operand is NaN.

    Parameters
    ----------
    a, b
        Arrays of one dtype that broadcast to each other.

    Returns
    -------
    numpy.ndarray
        Broadcast shape, same dtype. Of two equal operands (+0 and -0) the second one is returned.

    Examples
    --------
    >>> minimum(np.array([1, 5]), np.array([3, 3])).tolist()
    [1, 3]
    """
    return np.where((a < b) | (a != a), a, b)


def maximum(a: Array, b: Array, /) -> Array:
    """Element-wise ``a if a > b else b``, NaN where either operand is NaN; otherwise as :func:`minimum`.

    Examples
    --------
    >>> maximum(np.array([1, 5]), np.array([3, 3])).tolist()
    [3, 5]
    """
    return np.where((a > b) | (a != a), a, b)


def clip(x: Array, low: Array, high: Array, /) -> Array:
    """Limit to an interval: ``low`` where ``x < low``, then ``high`` where that is ``> high``.

    A value equal to a bound keeps its own zero sign, NaN stays NaN, and when the bounds are crossed everything becomes `high`.

    Parameters
    ----------
    x
        Any shape.
    low, high
        Bounds of the same dtype, shape ``[]``.

    Examples
    --------
    >>> clip(np.array([-3, 7, 300]), np.array(0), np.array(255)).tolist()
    [0, 7, 255]
    """
    raised = np.where(x < low, low, x)
    return np.where(raised > high, high, raised)


def truncated_divide(a: Array, b: Array, /) -> Array:
    """Integer quotient rounded toward zero, ``trunc(a / b)``, wrapping around for the lowest integer divided by -1.

    Parameters
    ----------
    a, b
        Arrays of one integer dtype that broadcast to each other.

    Raises
    ------
    ZeroDivisionError
        If a divisor is zero.

    Examples
    --------
    >>> truncated_divide(np.array([7, -7]), np.array([2, 2])).tolist()
    [3, -3]
    """
    if np.any(b == 0):
        raise ZeroDivisionError("an integer is divided by zero")
    with np.errstate(over="ignore"):
        quotient, remainder = np.divmod(a, b)
        rounded_down = (remainder != 0) & ((a < 0) != (b < 0))
        return np.asarray(quotient + rounded_down.astype(quotient.dtype))


def power(base: Array, exponent: Array, /) -> Array:
    """``base ** exponent`` in the dtype of the base.

    A float base is raised in float64 and rounded once. An integer base wraps around in its dtype; with a negative exponent
    the result is truncated toward zero, with a float exponent it is computed in float64 and truncated.

    Parameters
    ----------
    base, exponent
        Arrays that broadcast to each other; their dtypes may differ.

    Raises
    ------
    ZeroDivisionError
        If an integer zero is raised to a negative integer.

    Examples
    --------
    >>> power(np.array([2, -2, 3], np.int8), np.array([3, 3, -1])).tolist()
    [8, -8, 0]
    """
    if base.dtype.kind in "iu" and exponent.dtype.kind in "iu":
        return _integer_power(base, exponent)
    with np.errstate(all="ignore"):
        return convert(np.asarray(np.power(base.astype(np.float64), exponent.astype(np.float64))), dtype=base.dtype)


def _integer_power(base: Array, exponent: Array) -> Array:
    base, exponent = np.broadcast_arrays(base, exponent)
    negative = exponent < 0
    if np.any(negative & (base == 0)):
        raise ZeroDivisionError("the integer 0 is raised to a negative power")
    # modulo 2**64 signed and unsigned products are the same bits, and every narrower dtype is a part of them
    wide = np.power(base.astype(np.uint64), np.where(negative, 0, exponent).astype(np.uint64))
    of_minus_one = np.where(exponent % 2 != 0, -1, 1)
    inverse = np.where(base == 1, 1, np.where(base == -1, of_minus_one, 0))
    return np.where(negative, inverse.astype(base.dtype), wide.astype(base.dtype))
