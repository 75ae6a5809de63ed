"""Conversion between element types, with one result on every processor."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["convert"]

Array: TypeAlias = npt.NDArray[Any]


def convert(x: Array, /, *, dtype: npt.DTypeLike) -> Array:
    """Elements in another dtype.

    To a float, values are rounded half to even and become infinite past the largest finite one. Between integers, high bits
    are dropped. To a Boolean, everything but zero is true. From a float to an integer, the fraction is dropped; what does not
    fit is undefined in ONNX and machine-dependent in NumPy, so the rule of x86 processors holds here everywhere: up to 32
    signed bits it is ``int32(trunc(x))``, -2**31 for NaN and for what int32 cannot hold, of which the low bits are taken; for
    wider integers the same with int64 and -2**63.

    Parameters
    ----------
    x
        Any shape; a float, integer or Boolean dtype.
    dtype
        The wanted float, integer or Boolean dtype.

    Examples
    --------
    >>> convert(np.array([2.9, -2.9, 300.0, np.nan]), dtype=np.int8).tolist()
    [2, -2, 44, 0]
    """
    target = np.dtype(dtype)
    with np.errstate(all="ignore"):
        if x.dtype.kind == "f" and target.kind in "iu":
            return _truncate(x.astype(np.float64), target)
        return x.astype(target)


def _truncate(x: npt.NDArray[np.float64], target: np.dtype[Any]) -> Array:
    if target == np.uint64:
        upper = x >= 2.0**63
        low_bits = _signed(np.where(upper, x - 2.0**63, x), np.dtype(np.int64)).astype(np.uint64)
        return low_bits ^ (upper.astype(np.uint64) << np.uint64(63))
    narrow = target.itemsize < 4 or target == np.int32
    return _signed(x, np.dtype(np.int32 if narrow else np.int64)).astype(target)


def _signed(x: npt.NDArray[np.float64], wide: np.dtype[Any]) -> Array:
    limit = 2.0 ** (8 * wide.itemsize - 1)
    fits = (x > -limit - 1) & (x < limit)
    return np.where(fits, x, -limit).astype(wide)
