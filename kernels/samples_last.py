"""Fast kernels on activations whose last axis holds the samples: ``[*spatial, channels, samples]``, float32 or float64.

Every weighted layer becomes matrix products with the samples as the long side, which is what BLAS is fastest at whatever
the number of channels: for one output position, the window of the input is a matrix ``[taps * channels, samples]`` that
already lies in memory, so nothing is copied. Pools and requantization are element-wise over contiguous memory.

Float BLAS is exact on integers as long as every partial sum stays below 2**24 (float32) or 2**53 (float64), in whatever
order and with or without fused multiply-add; the caller has proven that before it chose the element type. The simple twins,
which tests compare with, are in :mod:`npusim.kernels.integer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

__all__ = [
    "add_windows",
    "banded_weights",
    "convolve_dense",
    "convolve_depthwise",
    "convolve_transposed",
    "maximum_of_windows",
    "requantize_in_place",
    "row_weights",
    "valid_range",
]

FloatArray: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]

BLOCK = 8
"""Outputs of a depthwise row computed by one product: longer rows waste more multiplications on zeros, shorter ones more
calls."""


def row_weights(weights: FloatArray, /) -> FloatArray:
    """Rearrange convolution weights ``[out, in, *kernel]`` to ``[*outer kernel, out, inner kernel * in]``, C-contiguous.

    Examples
    --------
    >>> row_weights(np.arange(4.0).reshape(1, 2, 2)).tolist()
    [[0.0, 2.0, 1.0, 3.0]]
    """
    rank = weights.ndim - 2
    moved = np.moveaxis(weights, [0, 1], [rank - 1, rank + 1])
    return np.ascontiguousarray(moved.reshape(*moved.shape[: rank - 1], weights.shape[0], -1))


def convolve_dense(
    x: FloatArray, w: FloatArray, out: FloatArray, scratch: FloatArray, /, *, strides: Sequence[int], dilations: Sequence[int]
) -> None:
    """Convolution with all input channels: one matrix product for each output position and kernel row.

    ``out[o] = sum over a of w[a] @ window(x, o, a)``, where a runs over the kernel's outer positions and a window is the inner
    kernel axis together with the channels: consecutive memory, hence a matrix without a copy.

    Parameters
    ----------
    x
        Padded input ``[*spatial, channels, samples]``; samples contiguous, channels and inner axis dense.
    w
        As from :func:`row_weights`.
    out
        ``[*spatial, out channels, samples]``, written.
    scratch
        Of the shape of `out`; used when there is more than one kernel row.
    strides, dilations
        One number for each spatial axis; the inner dilation is 1.
    """
    rank = len(strides)
    outputs, channels, samples = out.shape[:rank], x.shape[rank], x.shape[rank + 1]
    taps = w.shape[-1] // channels
    steps = x.strides[:rank]
    shape = (*outputs, taps * channels, samples)
    windows = (*(step * stride for step, stride in zip(steps, strides, strict=True)), *x.strides[rank:])
    for number, position in enumerate(product(*(range(size) for size in w.shape[: rank - 1]))):
        start = tuple(index * dilation for index, dilation in zip(position, dilations, strict=False))
        view = as_strided(x[start], shape, windows)
        if number == 0:
            np.matmul(w[position], view, out=out)
        else:
            np.matmul(w[position], view, out=scratch)
            np.add(out, scratch, out=out)


def banded_weights(weights: FloatArray, /, *, stride: int, dilation: int, block: int) -> FloatArray:
    """Depthwise weights ``[channels, *kernel]`` as banded matrices ``[*outer kernel, channels, block, reach]``.

    Row i of a matrix holds the inner kernel from column ``i * stride`` on, its taps `dilation` apart, so that one product
    gives `block` neighbouring outputs.

    Examples
    --------
    >>> banded_weights(np.array([[1.0, 2.0]]), stride=1, dilation=1, block=2).tolist()
    [[[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]]
    """
    channels, kernel = weights.shape[0], weights.shape[-1]
    outer = weights.shape[1:-1]
    reach = (block - 1) * stride + (kernel - 1) * dilation + 1
    bands = np.zeros((*outer, channels, block, reach), weights.dtype)
    moved = np.moveaxis(weights, 0, -2)
    for row in range(block):
        start = row * stride
        bands[..., row, start : start + (kernel - 1) * dilation + 1 : dilation] = moved
    return bands


def convolve_depthwise(
    x: FloatArray,
    bands: FloatArray,
    out: FloatArray,
    scratch: FloatArray,
    /,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    start: int,
) -> None:
    """Depthwise convolution of a stretch of the inner axis: one product for each channel and block of outputs.

    Parameters
    ----------
    x
        Padded input ``[*spatial, channels, samples]``.
    bands
        As from :func:`banded_weights`.
    out
        ``[*outer, blocks * block, channels, samples]``: the stretch of the result that whole blocks cover, written.
    scratch
        Of the shape of `out`; used when the kernel has more than one outer position.
    strides, dilations
        One number for each spatial axis.
    start
        Position on the inner axis of the output at which the stretch begins.
    """
    rank = len(strides)
    channels, block, reach = bands.shape[-3:]
    outer, blocks, samples = out.shape[: rank - 1], out.shape[rank - 1] // block, x.shape[-1]
    inner, across = x.strides[rank - 1], x.strides[rank]
    steps = tuple(step * stride for step, stride in zip(x.strides, strides[:-1], strict=False))
    shape = (*outer, blocks, channels, reach, samples)
    windows = (*steps, inner * block * strides[-1], across, inner, x.strides[-1])
    result = as_strided(out, (*outer, blocks, channels, block, samples), _blocked(out, rank, block))
    spare = as_strided(scratch, result.shape, _blocked(scratch, rank, block))
    for number, position in enumerate(product(*(range(size) for size in bands.shape[: rank - 1]))):
        corner = (*(index * dilation for index, dilation in zip(position, dilations, strict=False)), start * strides[-1])
        view = as_strided(x[corner], shape, windows)
        if number == 0:
            np.matmul(bands[position], view, out=result)
        else:
            np.matmul(bands[position], view, out=spare)
            np.add(out, scratch, out=out)


def _blocked(array: FloatArray, rank: int, block: int) -> tuple[int, ...]:
    inner, across, sample = array.strides[rank - 1 :]
    return (*array.strides[: rank - 1], inner * block, across, inner, sample)


def convolve_transposed(
    x: FloatArray,
    w: FloatArray,
    out: FloatArray,
    scratch: FloatArray,
    /,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
) -> None:
    """Transposed convolution: the product of each kernel tap with all inputs, added where that tap lands.

    ``out[i * stride + k * dilation - begin] += w[k] @ x[i]``.

    Parameters
    ----------
    x
        Input ``[*spatial, channels, samples]``, not padded.
    w
        ``[*kernel, out channels, channels]``.
    out
        ``[*spatial, out channels, samples]``, written.
    scratch
        ``[*spatial of x, out channels, samples]``.
    strides, dilations
        One number for each spatial axis.
    pads
        Begins of all axes (the ends follow from the size of `out`).
    """
    rank = len(strides)
    out[...] = 0
    for tap in product(*(range(size) for size in w.shape[:rank])):
        sources, targets = [], []
        for axis in range(rank):
            offset = tap[axis] * dilations[axis] - pads[axis]
            first, last = valid_range(x.shape[axis], out.shape[axis], strides[axis], offset)
            sources.append(slice(first, last))
            targets.append(
                slice(first * strides[axis] + offset, max((last - 1) * strides[axis] + offset + 1, 0), strides[axis])
            )
        if all(part.start < part.stop for part in sources):
            part = scratch[tuple(sources)]
            np.matmul(w[tap], x[tuple(sources)], out=part)
            target = out[tuple(targets)]
            np.add(target, part, out=target)


def valid_range(count: int, size: int, stride: int, offset: int) -> tuple[int, int]:
    """Indices i in ``0 .. count - 1`` for which ``0 <= i * stride + offset < size``, as (first, one past the last).

    Examples
    --------
    >>> valid_range(4, 7, 2, -1)
    (1, 4)
    """
    first = max(0, -(offset // stride))
    last = min(count, (size - 1 - offset) // stride + 1)
    return min(first, count), max(last, min(first, count))


def maximum_of_windows(
    x: FloatArray,
    out: FloatArray,
    /,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
) -> None:
    """Max pooling, padding never wins: the running maximum over the taps, each where it falls on data.

    Parameters
    ----------
    x
        Input ``[*spatial, channels, samples]``, not padded.
    out
        ``[*spatial, channels, samples]``, written.
    kernel_shape, strides, dilations
        One number for each spatial axis.
    pads
        Begins of all axes.
    """
    whole = [slice(0, size) for size in out.shape[: len(strides)]]
    taps = []
    for tap in product(*(range(size) for size in kernel_shape)):
        sources, targets = _tap_slices(tap, x, out, strides, dilations, pads)
        taps.append((targets != whole, tuple(sources), tuple(targets)))
    taps.sort(key=lambda entry: entry[0])
    if taps[0][0]:
        out[...] = -np.inf
    else:
        _, sources_of_first, _ = taps.pop(0)
        np.copyto(out, x[sources_of_first])
    for _, source, target in taps:
        part = out[target]
        np.maximum(part, x[source], out=part)


def _tap_slices(
    tap: Sequence[int], x: FloatArray, out: FloatArray, strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
) -> tuple[list[slice], list[slice]]:
    sources, targets = [], []
    for axis, stride in enumerate(strides):
        offset = tap[axis] * dilations[axis] - pads[axis]
        first, last = valid_range(out.shape[axis], x.shape[axis], stride, offset)
        targets.append(slice(first, last))
        sources.append(slice(first * stride + offset, max((last - 1) * stride + offset + 1, 0), stride))
    return sources, targets


def add_windows(
    x: FloatArray, out: FloatArray, /, *, kernel_shape: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> None:
    """Sum over each window, zeros outside of the input: the accumulator of average pooling.

    Parameters
    ----------
    x
        Input ``[*spatial, channels, samples]``, not padded.
    out
        ``[*spatial, channels, samples]``, written.
    kernel_shape, strides
        One number for each spatial axis.
    pads
        Begins of all axes.
    """
    rank = len(strides)
    if tuple(kernel_shape) == x.shape[:rank] and not any(pads):
        np.add.reduce(x, axis=tuple(range(rank)), out=out.reshape(out.shape[rank:]))
        return
    out[...] = 0
    for tap in product(*(range(size) for size in kernel_shape)):
        sources, targets = _tap_slices(tap, x, out, strides, (1,) * rank, pads)
        part = out[tuple(targets)]
        np.add(part, x[tuple(sources)], out=part)


def requantize_in_place(
    y: FloatArray, /, *, bias: FloatArray | None, multiplier: FloatArray | None, floor: bool, lower: float, upper: float
) -> None:
    """``y = clip(floor((y + bias) * multiplier), lower, upper)`` in place; None leaves an operation out.

    Parameters
    ----------
    y
        Accumulators ``[*spatial, channels, samples]``; already times the multiplier where that was folded into the weights.
    bias, multiplier
        ``[channels, 1]`` each.
    floor
        False where all values are integers anyway.
    lower, upper
        Ends of the codes.
    """
    if bias is not None:
        np.add(y, bias, out=y)
    if multiplier is not None:
        np.multiply(y, multiplier, out=y)
    if floor:
        np.floor(y, out=y)
    np.clip(y, lower, upper, out=y)
