"""Means of float32 numbers in the order in which ONNX Runtime's CPU kernels add: where sums round, the order shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.geometry import output_sizes, pad_spatial, padded_sizes, tap_slices

__all__ = ["average_planes", "average_windows", "sum_rows"]

Float32Array: TypeAlias = npt.NDArray[np.float32]

LANES: Final = 4
"""Sums that a processor keeps at once."""

MOST_STRIDE: Final = 2
LARGEST_KERNEL: Final = 32
"""Up to these, ONNX Runtime's kernels sum columns first."""


def average_windows(
    x: Float32Array,
    /,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    in_window_order: bool = False,
) -> Float32Array:
    """Means over windows, ``f32(sum / f32(count))``, in one of three orders.

    A window with stride 1 that is the whole plane is summed as :func:`average_planes` does. With two axes or more, a stride
    of 1 or 2 along the last one and no kernel above 32, sums go over the other axes first, then along the last one. Everything
    else is summed as the window is read, the last axis fastest. So is everything by ONNX Runtime's kernel for operator sets
    from 19 on, as was found by comparing with it.

    Parameters
    ----------
    x
        float32 ``[N, C, *spatial]``.
    kernel_shape, strides, pads, ceil_mode, count_include_pad
        As in :func:`npusim.kernels.pooling.average_pool`.
    in_window_order
        Sum as the window is read, in any case.

    Examples
    --------
    ``(2**24 + -2**24) + (1 + 0)``, column by column; row by row, 1 would be lost:

    >>> x = np.array([[[[2.0**24, 1.0, 0.0], [-(2.0**24), 0.0, 0.0]]]], np.float32)
    >>> average_windows(x, kernel_shape=(2, 2), strides=(1, 1), pads=(0, 0, 0, 0)).tolist()
    [[[[0.25, 0.25]]]]
    """
    spatial, axes = x.shape[2:], x.ndim - 2
    if not in_window_order and tuple(kernel_shape) == spatial and not any(pads) and max(strides) == 1:
        return average_planes(x)
    ones = (1,) * axes
    windows = output_sizes(spatial, kernel_shape=kernel_shape, strides=strides, dilations=ones, pads=pads, ceil_mode=ceil_mode)
    sizes = padded_sizes(spatial, windows, kernel_shape=kernel_shape, strides=strides, dilations=ones, pads=pads)
    counted = pads if count_include_pad else (0,) * (2 * axes)
    inside = np.ones([1, 1, *(size + counted[axis] + counted[axis + axes] for axis, size in enumerate(spatial))], np.float32)
    begins = [pads[axis] - counted[axis] for axis in range(axes)]
    data = pad_spatial(x, begins=pads[:axes], sizes=sizes, value=0)
    ones_inside = pad_spatial(inside, begins=begins, sizes=sizes, value=0)
    by_columns = not in_window_order and axes > 1 and strides[-1] <= MOST_STRIDE and max(kernel_shape) <= LARGEST_KERNEL
    function = _column_sums if by_columns else _window_sums
    total, count = (function(part, windows, kernel_shape, strides) for part in (data, ones_inside))
    return np.asarray(total / count)


def _column_sums(x: Float32Array, windows: Sequence[int], kernel_shape: Sequence[int], strides: Sequence[int]) -> Float32Array:
    """Sums over all axes but the last, then along that one."""
    columns = (*windows[:-1], x.shape[-1])
    sums = _window_sums(x, columns, (*kernel_shape[:-1], 1), (*strides[:-1], 1))
    return _window_sums(
        sums, windows, (*(1,) * (len(windows) - 1), kernel_shape[-1]), (*(1,) * (len(windows) - 1), strides[-1])
    )


def _window_sums(x: Float32Array, windows: Sequence[int], kernel_shape: Sequence[int], strides: Sequence[int]) -> Float32Array:
    """Sums in the order of the window."""
    total = np.zeros((*x.shape[:2], *windows), np.float32)
    for region in tap_slices(windows, kernel_shape=kernel_shape, strides=strides, dilations=(1,) * len(windows)):
        total += x[(slice(None), slice(None), *region)]
    return total


def average_planes(x: Float32Array, /) -> Float32Array:
    """Means over all spatial positions: four sums of every fourth number, added crosswise, then the rest one by one.

    ``((s0 + s2) + (s1 + s3)) + rest``, then ``f32(sum / f32(count))``.

    Parameters
    ----------
    x
        float32 ``[N, C, *spatial]``.

    Returns
    -------
    float32 ``[N, C, 1, ...]``.

    Examples
    --------
    >>> average_planes(np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]], np.float32)).tolist()
    [[[3.0]]]
    """
    count = math.prod(x.shape[2:])
    flat = x.reshape(*x.shape[:2], count)
    whole = count // LANES * LANES
    lanes = np.zeros((*x.shape[:2], LANES), np.float32)
    for start in range(0, whole, LANES):
        lanes = lanes + flat[..., start : start + LANES]
    total = (lanes[..., 0] + lanes[..., 2]) + (lanes[..., 1] + lanes[..., 3])
    for place in range(whole, count):
        total = total + flat[..., place]
    return np.asarray(total / np.float32(count)).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


def sum_rows(x: Float32Array, /) -> Float32Array:
    """Sums of rows in the order of ReduceMean: two groups of four lanes side by side, added crosswise, then the rest.

    That is the order where a row begins at a multiple of 16 bytes; elsewhere ONNX Runtime adds the elements before such an
    address last, so that its result depends on where a sample lies. Here it never does.

    Parameters
    ----------
    x
        float32 ``[rows, count]``.

    Examples
    --------
    >>> sum_rows(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)).tolist()
    [15.0]
    """
    count = x.shape[1]
    whole = count // LANES * LANES
    groups = np.zeros((2, len(x), LANES), np.float32)
    for place, start in enumerate(range(0, whole, LANES)):
        last = start + LANES == whole and place % 2 == 0
        if last:
            groups[0] = groups[0] + groups[1]
            groups[1] = 0
        groups[0 if last else place % 2] += x[:, start : start + LANES]
    lanes = groups[0] + groups[1]
    total = (lanes[:, 0] + lanes[:, 2]) + (lanes[:, 1] + lanes[:, 3])
    for place in range(whole, count):
        total = total + x[:, place]
    return np.asarray(total)
