"""Integer sums and maxima over windows: what the NPU accumulates before it requantizes.

Data is channels first, ``[N, C, *spatial]``, with one or more spatial axes. Geometry is explicit, one integer for each spatial
axis; `pads` holds all begins, then all ends. Padding is the integer 0, because the NPU's zero point is 0. Every kernel walks
over the taps of its window and treats all positions at once; nothing is rearranged, so that each line can be held against its
formula.

Sums are int64 and exact below 2**63: 8-bit weights on 9-bit activations would need 2**47 taps to leave that range.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ._windows import AnyInteger, Index, PerAxis, axes_of, meets_data, met_by, padded_spatially, window_count

__all__ = [
    "accumulate_convolution",
    "accumulate_fully_connected",
    "accumulate_transposed_convolution",
    "window_maximum",
    "window_sum",
]

Int64Array: TypeAlias = npt.NDArray[np.int64]


def accumulate_convolution(
    x: Int64Array, w: Int64Array, /, *, strides: PerAxis, pads: PerAxis, dilations: PerAxis, group: int
) -> Int64Array:
    """Accumulator of a convolution (a cross-correlation: the kernel is not flipped).

    ``acc[n, m, o] = sum over c, k of x[n, g*C/group + c, o*stride + k*dilation - begin] * w[m, c, k]``, where g is the group of
    output channel m, and x is 0 outside of its borders.

    Parameters
    ----------
    x
        Activations, int64 ``[N, C, *spatial]``.
    w
        Weights, int64 ``[M, C/group, *kernel]``.
    strides, dilations
        Steps between windows and between taps, each >= 1.
    pads
        Number of zeros before and after each spatial axis.
    group
        Number of groups; C for a depthwise convolution.

    Returns
    -------
    int64 ``[N, M, *out]`` with ``out = (size + begin + end - dilation*(kernel-1) - 1) // stride + 1``.

    Raises
    ------
    TypeError
        If an array is not int64.
    ValueError
        If data, weights and geometry do not fit each other, or the kernel is larger than the padded data.

    Examples
    --------
    >>> x, w = np.array([[[1, 2, 3, 4]]]), np.array([[[10, 1, 1]]])
    >>> accumulate_convolution(x, w, strides=[1], pads=[1, 1], dilations=[1], group=1)
    array([[[ 3, 15, 27, 34]]])
    """
    _require_int64(x, w)
    out_channels, group_channels, *kernel_shape = w.shape
    axes = axes_of(x, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=dilations)
    counts = [window_count(axis) for axis in axes]
    batch, channels = x.shape[:2]
    if group < 1 or channels != group * group_channels or out_channels % group:
        raise ValueError(f"weights {w.shape} do not fit data {x.shape} in {group} groups")
    padded = padded_spatially(x, pads, 0)
    padded = padded.reshape(batch, group, group_channels, *padded.shape[2:])
    weights = w.reshape(group, out_channels // group, *w.shape[1:])
    acc = np.zeros((batch, group, out_channels // group, *counts), np.int64)
    for tap in np.ndindex(*kernel_shape):
        acc += np.einsum("gmc,ngc...->ngm...", weights[..., *tap], padded[met_by(tap, axes, counts)])
    return acc.reshape(batch, out_channels, *counts)


def accumulate_transposed_convolution(
    x: Int64Array, w: Int64Array, /, *, strides: PerAxis, pads: PerAxis, dilations: PerAxis, group: int, output_padding: PerAxis
) -> Int64Array:
    """Accumulator of a transposed convolution: each input is spread over the outputs that the kernel reaches from it.

    ``acc[n, m, o] = sum over c, i, k with i*stride + k*dilation - begin == o of x[n, c, i] * w[c, m - g*M/group, k]``, with c
    running over the channels of output channel m's group g.

    Parameters
    ----------
    x
        Activations, int64 ``[N, C, *spatial]``.
    w
        Weights, int64 ``[C, M/group, *kernel]``.
    strides, dilations
        Steps between the reach of neighbouring inputs and between taps, each >= 1.
    pads
        Number of positions cut off before and after each spatial axis.
    group
        Number of groups.
    output_padding
        Number of positions added at the end of each spatial axis before the cut.

    Returns
    -------
    int64 ``[N, M, *out]`` with ``out = stride*(size-1) + dilation*(kernel-1) + 1 + output_padding - begin - end``.

    Raises
    ------
    TypeError
        If an array is not int64.
    ValueError
        If data, weights and geometry do not fit each other, or the pads cut everything off.

    Examples
    --------
    >>> x, w = np.array([[[1, 2]]]), np.array([[[10, 1, 3]]])
    >>> accumulate_transposed_convolution(x, w, strides=[2], pads=[0, 0], dilations=[1], group=1, output_padding=[0])
    array([[[10,  1, 23,  2,  6]]])
    """
    _require_int64(x, w)
    batch, channels, *sizes = x.shape
    _, group_out_channels, *kernel_shape = w.shape
    axes = axes_of(x, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=dilations)
    if len(output_padding) != len(axes) or min(output_padding) < 0:
        raise ValueError(f"output_padding {list(output_padding)} is not one integer >= 0 for each of {len(axes)} axes")
    if group < 1 or channels != w.shape[0] or channels % group:
        raise ValueError(f"weights {w.shape} do not fit data {x.shape} in {group} groups")
    full = [(a.size - 1) * a.stride + a.reach + extra for a, extra in zip(axes, output_padding, strict=True)]
    if any(length <= a.begin + a.end for a, length in zip(axes, full, strict=True)):
        raise ValueError(f"pads {list(pads)} leave nothing of a result of {full}")
    grouped = x.reshape(batch, group, channels // group, *sizes)
    weights = w.reshape(group, channels // group, *w.shape[1:])
    acc = np.zeros((batch, group, group_out_channels, *full), np.int64)
    for tap in np.ndindex(*kernel_shape):
        acc[met_by(tap, axes, sizes)] += np.einsum("gcm,ngc...->ngm...", weights[..., *tap], grouped)
    kept: Index = (..., *(slice(a.begin, length - a.end) for a, length in zip(axes, full, strict=True)))
    cut = acc[kept]
    return cut.reshape(batch, group * group_out_channels, *cut.shape[3:])


def accumulate_fully_connected(x: Int64Array, w: Int64Array, /) -> Int64Array:
    """Accumulator of a fully connected layer: ``acc[..., o] = sum over k of x[..., k] * w[k, o]``.

    Parameters
    ----------
    x
        Activations, int64 ``[..., K]``.
    w
        Weights, int64 ``[K, O]``.

    Returns
    -------
    int64 ``[..., O]``.

    Raises
    ------
    TypeError
        If an array is not int64.
    ValueError
        If the weights are not a matrix with one row for each feature of `x`.

    Examples
    --------
    >>> accumulate_fully_connected(np.array([[1, 2]]), np.array([[3, 4, 5], [10, 20, -30]]))
    array([[ 23,  44, -55]])
    """
    _require_int64(x, w)
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"weights {w.shape} do not fit data {x.shape}")
    acc: Int64Array = np.einsum("...k,ko->...o", x, w)
    return acc


def window_sum(x: Int64Array, /, *, kernel_shape: PerAxis, strides: PerAxis, pads: PerAxis) -> Int64Array:
    """Sum over each window, the accumulator of average pooling: ``acc[n, c, o] = sum over k of x[n, c, o*stride + k - begin]``.

    Parameters
    ----------
    x
        Activations, int64 ``[N, C, *spatial]``; 0 outside of its borders.
    kernel_shape, strides
        Size of the window and step between windows, each >= 1.
    pads
        Number of zeros before and after each spatial axis.

    Returns
    -------
    int64 ``[N, C, *out]`` with ``out = (size + begin + end - kernel) // stride + 1``.

    Raises
    ------
    TypeError
        If `x` is not int64.
    ValueError
        If data and geometry do not fit each other, or the window is larger than the padded data.

    Examples
    --------
    >>> window_sum(np.array([[[1, 2, 3, 4]]]), kernel_shape=[2], strides=[2], pads=[1, 1])
    array([[[1, 5, 4]]])
    """
    _require_int64(x)
    axes = axes_of(x, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=[1] * len(kernel_shape))
    counts = [window_count(axis) for axis in axes]
    padded = padded_spatially(x, pads, 0)
    acc = np.zeros((*x.shape[:2], *counts), np.int64)
    for tap in np.ndindex(*kernel_shape):
        acc += padded[met_by(tap, axes, counts)]
    return acc


def window_maximum(
    x: npt.NDArray[AnyInteger],
    /,
    *,
    kernel_shape: PerAxis,
    strides: PerAxis,
    pads: PerAxis,
    dilations: PerAxis,
    ceil_mode: bool,
) -> npt.NDArray[AnyInteger]:
    """Maximum over each window, in which padding never wins.

    ``y[n, c, o] = max over k of x[n, c, o*stride + k*dilation - begin]``, over those k that fall on data.

    Parameters
    ----------
    x
        Codes of any integer dtype, ``[N, C, *spatial]``.
    kernel_shape, strides, dilations
        Size of the window, steps between windows and between taps, each >= 1.
    pads
        Number of positions before and after each spatial axis.
    ceil_mode
        True to keep a last window that reaches past the end padding, unless it starts in that padding: the rule of ONNX.

    Returns
    -------
    The dtype of `x`, ``[N, C, *out]`` with ``out = (size + begin + end - dilation*(kernel-1) - 1) / stride + 1`` rounded down;
    with `ceil_mode` rounded up, less one where the last window is dropped.

    Raises
    ------
    ValueError
        If `x` holds no integers, data and geometry do not fit each other, or a window holds only padding and has no maximum.

    Examples
    --------
    >>> x = np.array([[[-3, -1, -2, -5]]], np.int8)
    >>> window_maximum(x, kernel_shape=[2], strides=[3], pads=[1, 0], dilations=[1], ceil_mode=False)
    array([[[-3, -2]]], dtype=int8)
    """
    lowest = int(np.iinfo(x.dtype).min)
    axes = axes_of(x, kernel_shape=kernel_shape, strides=strides, pads=pads, dilations=dilations)
    counts = [window_count(axis, ceil_mode=ceil_mode) for axis in axes]
    if not all(meets_data(axis, window) for axis, count in zip(axes, counts, strict=True) for window in range(count)):
        raise ValueError(f"a window of {list(kernel_shape)} over data {x.shape} with pads {list(pads)} holds only padding")
    # A window kept by ceil_mode reaches past the end padding by less than a stride.
    padded = padded_spatially(x, [*(a.begin for a in axes), *(a.end + a.stride - 1 for a in axes)], lowest)
    y = np.full((*x.shape[:2], *counts), lowest, x.dtype)
    for tap in np.ndindex(*kernel_shape):
        np.maximum(y, padded[met_by(tap, axes, counts)], out=y)
    return y


def _require_int64(*arrays: Int64Array) -> None:
    """Refuse other dtypes: NumPy would compute in them, and wrap."""
    for array in arrays:
        if array.dtype != np.int64:
            raise TypeError(f"got an array of {array.dtype}, wanted int64")
