"""Converting numbers from one dtype to another without changing any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.errors import InputError
from npusim.graph import Array

__all__ = ["convert_exactly", "first_of"]


def convert_exactly(array: Array, dtype: np.dtype[Any], where: str) -> Array:
    """Convert finite numbers to another dtype if every one of them is the same number there.

    Parameters
    ----------
    array
        Integers, or float16, float32 or float64 values that are finite.
    dtype
        The dtype wanted: an integer type, float16, float32 or float64.
    where
        The place that messages name.

    Returns
    -------
    Array
        The same numbers as `dtype` in native byte order; a new array unless nothing had to be changed.

    Raises
    ------
    InputError
        If the dtypes are not numeric, or a value would change: 0.1 of float64 is not a float32, 128 is not an int8.

    Examples
    --------
    >>> convert_exactly(np.array([1.0, -3.0]), np.dtype(np.int8), "x")
    array([ 1, -3], dtype=int8)
    """
    dtype = dtype.newbyteorder("=")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == dtype:
        return array
    for kind in (array.dtype, dtype):
        if kind.kind not in "iuf" or kind.itemsize > 8:
            raise InputError(f"{where}: has dtype {array.dtype}, wanted {dtype}; save numbers of that dtype")
    exact = _integers_held(array, dtype) if dtype.kind in "iu" else _floats_held(array, dtype)
    if not exact.all():
        if dtype.kind == "f":
            remedy = f"if rounding is meant, round when saving: array.astype(numpy.{dtype})"
        else:
            remedy = f"wanted integers from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}: quantize or clip before saving"
        raise InputError(
            f"{where}: {array.size - np.count_nonzero(exact)} of {array.size} values of dtype {array.dtype} are not exactly "
            f"representable in {dtype}, the first {first_of(array, ~exact)}; {remedy}"
        )
    return array.astype(dtype)


def first_of(array: Array, chosen: npt.NDArray[np.bool_], row: int = 0) -> str:
    """The first value where `chosen` is true, and its index, the way messages name them: ``0.1 at index (0, 2)``.

    `row` is the index of the array's first row where it is a part of a larger one.
    """
    index = tuple(int(axis) for axis in np.unravel_index(int(chosen.argmax()), chosen.shape))
    return f"{array[index]} at index {(index[0] + row, *index[1:]) if index else index}"


def _integers_held(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    """Where a number is one of the integers of `dtype`."""
    info = np.iinfo(dtype)
    held: npt.NDArray[np.bool_]
    if array.dtype.kind == "f":
        # The bounds are powers of two, hence exact floats, and 2^63 or 2^64 is excluded rather than 2^63 - 1 included.
        wide = array.astype(np.float64)
        held = (wide == np.floor(wide)) & (wide >= float(info.min)) & (wide < float(info.max + 1))
    else:
        source = np.iinfo(array.dtype)
        held = (array >= max(info.min, source.min)) & (array <= min(info.max, source.max))
    return held


def _floats_held(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    """Where a number survives the way to `dtype` and back."""
    with np.errstate(over="ignore"):
        rounded = array.astype(dtype)
    held: npt.NDArray[np.bool_]
    if array.dtype.kind == "f":
        held = rounded.astype(array.dtype) == array
    else:
        # An integer may round up to 2^63 or 2^64, which the way back cannot take.
        returns = np.isfinite(rounded) & (rounded.astype(np.float64) < float(np.iinfo(array.dtype).max + 1))
        held = returns & (np.where(returns, rounded, 0).astype(array.dtype) == array)
    return held
