"""Reductions of rows: each takes ``[rows, n]`` and returns ``[rows]``.

:func:`as_rows` brings any set of axes into that form. Since a row is contiguous and each row is reduced by itself, its result
does not depend on how many other rows there are. Floats are accumulated in float64 and rounded once to their own dtype, so a
float32 sum of integers is exact while it stays within 2**24; integers wrap around in their own dtype. Overflow, the logarithm
of zero and the mean of nothing give infinity or NaN; NumPy's warnings about them are the caller's to silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.float_averages import sum_rows

from .arithmetic import truncated_divide

__all__ = [
    "as_rows",
    "log_sum",
    "log_sum_exp",
    "maximum_of",
    "mean",
    "minimum_of",
    "norm",
    "product",
    "sum_of",
    "sum_of_magnitudes",
    "sum_of_squares",
]

Array: TypeAlias = npt.NDArray[Any]


def as_rows(x: Array, /, *, axes: Sequence[int]) -> Array:
    """Bring `axes` together as the last axis of a contiguous two-dimensional array.

    Parameters
    ----------
    x
        Any shape.
    axes
        Distinct axes, none negative; none at all makes every element a row of its own.

    Returns
    -------
    numpy.ndarray
        Shape ``[rows, n]``: rows in the order of the other axes, elements in the order of `axes`.

    Examples
    --------
    >>> as_rows(np.array([[1, 2], [3, 4]]), axes=[0]).tolist()
    [[1, 3], [2, 4]]
    """
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    rows = math.prod(x.shape[axis] for axis in kept)
    n = math.prod(x.shape[axis] for axis in axes)
    return np.ascontiguousarray(x.transpose(*kept, *axes).reshape(rows, n))


def sum_of(x: Array, /) -> Array:
    """Sum of each row; 0 for an empty one.

    Examples
    --------
    >>> sum_of(np.float32([[1, 2], [3, 4]])).tolist()
    [3.0, 7.0]
    """
    wide = _wide(x)
    return _rounded(np.add.reduce(wide, axis=1, dtype=wide.dtype), x)


def mean(x: Array, /) -> Array:
    """Sum of each row, divided by the number of elements; an integer quotient drops its fraction.

    float32 is summed as ONNX Runtime sums (:func:`npusim.kernels.float_averages.sum_rows`), everything else by :func:`sum_of`.

    Raises
    ------
    ZeroDivisionError
        If the rows are empty and the dtype is an integer.

    Examples
    --------
    >>> mean(np.float32([[1, 2], [3, 4]])).tolist()
    [1.5, 3.5]
    """
    total, count = sum_rows(x) if x.dtype == np.float32 else sum_of(x), x.shape[1]
    if x.dtype.kind in "iu":
        return truncated_divide(total, np.asarray(count, x.dtype))
    return np.asarray(np.divide(total, x.dtype.type(count)))


def product(x: Array, /) -> Array:
    """Product of each row; 1 for an empty one.

    Examples
    --------
    >>> product(np.float32([[1, 2], [3, 4]])).tolist()
    [2.0, 12.0]
    """
    wide = _wide(x)
    return _rounded(np.multiply.reduce(wide, axis=1, dtype=wide.dtype), x)


def maximum_of(x: Array, /) -> Array:
    """Largest element of each row, NaN if there is one; for an empty row minus infinity or the dtype's lowest value.

    Examples
    --------
    >>> maximum_of(np.float32([[1, 2], [4, 3]])).tolist()
    [2.0, 4.0]
    """
    return np.asarray(np.maximum.reduce(x, axis=1, initial=_extreme(x.dtype, lowest=True)))


def minimum_of(x: Array, /) -> Array:
    """Smallest element of each row, NaN if there is one; for an empty row infinity or the dtype's highest value.

    Examples
    --------
    >>> minimum_of(np.float32([[1, 2], [4, 3]])).tolist()
    [1.0, 3.0]
    """
    return np.asarray(np.minimum.reduce(x, axis=1, initial=_extreme(x.dtype, lowest=False)))


def sum_of_magnitudes(x: Array, /) -> Array:
    """Sum of ``|x|`` of each row.

    Examples
    --------
    >>> sum_of_magnitudes(np.float32([[1, -2]])).tolist()
    [3.0]
    """
    return sum_of(np.abs(x))


def sum_of_squares(x: Array, /) -> Array:
    """Sum of ``x**2`` of each row.

    Examples
    --------
    >>> sum_of_squares(np.float32([[1, -2]])).tolist()
    [5.0]
    """
    wide = _wide(x)
    return _rounded(np.add.reduce(wide * wide, axis=1, dtype=wide.dtype), x)


def norm(x: Array, /) -> Array:
    """Square root of the sum of squares of each row; float dtypes only.

    Examples
    --------
    >>> norm(np.float32([[3, -4]])).tolist()
    [5.0]
    """
    wide = _wide(x)
    return _rounded(np.sqrt(np.add.reduce(wide * wide, axis=1)), x)


def log_sum(x: Array, /) -> Array:
    """Natural logarithm of the sum of each row; float dtypes only.

    Examples
    --------
    >>> log_sum(np.float32([[0.5, 0.5]])).tolist()
    [0.0]
    """
    return _rounded(np.log(np.add.reduce(_wide(x), axis=1)), x)


def log_sum_exp(x: Array, /) -> Array:
    """``m + ln(sum(exp(x - m)))`` of each row with its maximum `m`, so that nothing overflows; float dtypes only.

    Examples
    --------
    >>> log_sum_exp(np.float32([[1000, -np.inf]])).tolist()
    [1000.0]
    """
    wide = _wide(x)
    highest = maximum_of(wide)
    offset = np.where(np.isfinite(highest), highest, 0.0)
    return _rounded(offset + np.log(np.add.reduce(np.exp(wide - offset[:, np.newaxis]), axis=1)), x)


def _wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _rounded(result: Array, x: Array) -> Array:
    return result.astype(x.dtype)


def _extreme(dtype: np.dtype[Any], *, lowest: bool) -> Any:  # noqa: ANN401 - a scalar of that dtype
    if dtype.kind == "f":
        return dtype.type(-np.inf if lowest else np.inf)
    if dtype.kind == "b":
        return np.bool_(not lowest)
    limits = np.iinfo(dtype)
    return dtype.type(limits.min if lowest else limits.max)
