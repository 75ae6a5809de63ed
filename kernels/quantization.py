"""Linear quantization between floats and integer codes, as ONNX QuantizeLinear and DequantizeLinear define it.

Scale and zero point hold for the whole tensor (one element), for each index of one axis (1-D), or for each block of consecutive
indices along one axis (as many axes as the data).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["NARROW_BITS", "code_range", "dequantize", "quantize"]

Array: TypeAlias = npt.NDArray[np.generic]
ScalarT = TypeVar("ScalarT", bound=np.generic)

NARROW_BITS: Final[Mapping[str, tuple[int, bool]]] = MappingProxyType(
    {"int4": (4, True), "uint4": (4, False), "int2": (2, True), "uint2": (2, False)}
)
"""Bits and signedness of the integer dtypes that NumPy itself does not know, by name."""


def code_range(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """Smallest and largest code of an integer dtype.

    Raises
    ------
    ValueError
        If the dtype holds no integers.

    Examples
    --------
    >>> code_range(np.dtype(np.int8))
    (-128, 127)
    """
    if dtype.name in NARROW_BITS:
        bits, signed = NARROW_BITS[dtype.name]
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not np.issubdtype(dtype, np.integer):
        raise ValueError(f"codes of dtype {dtype} are not implemented, wanted an integer dtype")
    limits = np.iinfo(dtype.name)
    return int(limits.min), int(limits.max)


def quantize(
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    /,
    *,
    dtype: np.dtype[np.generic],
    precision: np.dtype[np.generic] | None = None,
    axis: int = 1,
    block_size: int = 0,
) -> Array:
    """Codes of real values: ``clip(round_half_even(x / scale) + zero_point, lowest, highest)``.

    Parameters
    ----------
    x
        Real values, float or integer.
    scale
        Float, per tensor, per axis or per block.
    zero_point
        Same shape as `scale`; None means 0.
    dtype
        Integer dtype of the codes.
    precision
        Dtype the quotient is rounded to before it is rounded to an integer; None means the dtype of `scale`.
    axis
        Axis that `scale` varies on.
    block_size
        Indices of `axis` that share a scale; 0 where scales are not per block.

    Returns
    -------
    ndarray
        Codes of `dtype`; NaN gives the lowest code.

    Raises
    ------
    ValueError
        If shapes do not fit or `dtype` holds no integers.

    Examples
    --------
    >>> quantize(np.array([0.5, 1.5, 99.0]), np.array(1.0), dtype=np.dtype(np.int8))
    array([ 0,  2, 99], dtype=int8)
    """
    lowest, highest = code_range(dtype)
    wanted = scale.dtype if precision is None else precision
    with np.errstate(all="ignore"):
        quotient = np.divide(x.astype(wanted), _spread(scale.astype(wanted), x, axis=axis, block_size=block_size))
        codes = np.rint(quotient).astype(np.float64)
        if zero_point is not None:
            codes += _spread(zero_point.astype(np.float64), x, axis=axis, block_size=block_size)
        codes = np.where(np.isnan(codes), lowest, np.clip(codes, lowest, highest))
        return codes.astype(np.int64).astype(dtype)


def dequantize(
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    /,
    *,
    dtype: np.dtype[np.generic],
    axis: int = 1,
    block_size: int = 0,
) -> Array:
    """Real values of codes: ``float(x - zero_point) * scale``, the difference exact.

    Parameters
    ----------
    x
        Integer codes.
    scale, zero_point, axis, block_size
        As in `quantize`.
    dtype
        Float dtype of the result, which the product is rounded to once.

    Returns
    -------
    ndarray
        Values of `dtype`.

    Raises
    ------
    ValueError
        If shapes do not fit or `x` does not hold integers.

    Examples
    --------
    >>> dequantize(np.array([0, 255], dtype=np.uint8), np.array(0.5), np.array(128, dtype=np.uint8), dtype=np.dtype(float))
    array([-64. ,  63.5])
    """
    code_range(x.dtype)
    difference = x.astype(np.int64)
    if zero_point is not None:
        difference = difference - _spread(zero_point.astype(np.int64), x, axis=axis, block_size=block_size)
    wide = np.result_type(dtype, np.float32)
    with np.errstate(all="ignore"):
        y = difference.astype(wide) * _spread(scale.astype(wide), x, axis=axis, block_size=block_size)
        return np.asarray(y).astype(dtype)


def _spread(values: npt.NDArray[ScalarT], x: Array, /, *, axis: int, block_size: int) -> npt.NDArray[ScalarT]:
    """Make per-tensor, per-axis or per-block values broadcast to `x`."""
    if values.size == 1 and values.ndim < 2:
        return values.reshape(())
    if not -x.ndim <= axis < x.ndim:
        # A vector has no axis 1, the default, yet its only axis is meant.
        if x.ndim != 1 or axis != 1:
            raise ValueError(f"axis {axis} does not exist in data of shape {x.shape}")
        axis = 0
    axis %= x.ndim
    if values.ndim == 1 and values.shape[0] == x.shape[axis]:
        return values.reshape(-1, *(1,) * (x.ndim - axis - 1))
    if block_size > 0 and values.ndim == x.ndim:
        spread = np.repeat(values, block_size, axis=axis)
        short = spread.shape[axis] - x.shape[axis]
        if spread.shape[:axis] + spread.shape[axis + 1 :] == x.shape[:axis] + x.shape[axis + 1 :] and 0 <= short < block_size:
            return spread[(slice(None),) * axis + (slice(x.shape[axis]),)]
    where = f"axis {axis}, block size {block_size}"
    raise ValueError(f"a scale or zero point of shape {values.shape} does not fit data of shape {x.shape} on {where}")
