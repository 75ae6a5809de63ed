"""Fast kernels tap by tap on activations whose last axis holds the samples (see :mod:`npusim.kernels.samples_last`).

Pools and transposed convolutions: each tap of the kernel is one operation on all positions at which it meets data, so that
padding is never stored.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import numpy as np

from .samples_last import Call, FloatArray, PerAxis, Product

__all__ = ["meets_data", "transposed_views", "valid_range", "window_maximum_calls", "window_sum_calls"]


def transposed_views(
    x: FloatArray,
    w: FloatArray,
    out: FloatArray,
    scratch: FloatArray,
    /,
    *,
    strides: PerAxis,
    dilations: PerAxis,
    pads: PerAxis,
) -> list[Product]:
    """Products of a transposed convolution: each kernel tap with all inputs, added where that tap lands.

    ``out[i * stride + k * dilation - begin] += w[k] @ x[i]``; `out` has to be zero before.

    Parameters
    ----------
    x
        Input ``[*spatial, channels, samples]``, not padded.
    w
        ``[*kernel, out channels, channels]``.
    out
        ``[*spatial, out channels, samples]``.
    scratch
        ``[*spatial of x, out channels, samples]``.
    strides, dilations
        One number for each spatial axis.
    pads
        Begins of all axes (the ends follow from the size of `out`).
    """
    rank = len(strides)
    products: list[Product] = []
    for tap in product(*(range(size) for size in w.shape[:rank])):
        sources, targets = _landing(tap, x.shape, out.shape, strides, dilations, pads)
        if all(part.start < part.stop for part in sources):
            products.append((w[tap], x[sources], scratch[sources], out[targets]))
    return products


def valid_range(count: int, size: int, stride: int, offset: int) -> tuple[int, int]:
    """Indices i of ``0 .. count - 1`` for which ``0 <= i * stride + offset < size``, as (first, one past the last).

    Examples
    --------
    >>> valid_range(4, 7, 2, -1)
    (1, 4)
    """
    first = min(max(0, -(offset // stride)), count)
    last = min(count, (size - 1 - offset) // stride + 1)
    return first, max(first, last)


def _landing(
    tap: PerAxis, counts: PerAxis, sizes: PerAxis, strides: PerAxis, dilations: PerAxis, pads: PerAxis
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Which windows meet data under a tap (or inputs land inside), and the positions they meet."""
    windows, positions = [], []
    for index, count, size, stride, dilation, pad in zip(tap, counts, sizes, strides, dilations, pads, strict=False):
        offset = index * dilation - pad
        first, last = valid_range(count, size, stride, offset)
        windows.append(slice(first, last))
        positions.append(slice(first * stride + offset, max((last - 1) * stride + offset + 1, 0), stride))
    return tuple(windows), tuple(positions)


def window_maximum_calls(
    x: FloatArray, out: FloatArray, /, *, kernel_shape: PerAxis, strides: PerAxis, dilations: PerAxis, pads: PerAxis
) -> list[Call]:
    """The calls for max pooling in which padding never wins: the running maximum over the taps, each where it falls on data.

    Large windows take one axis after the other, the inner one first, which are fewer comparisons.

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
    rank = len(strides)
    axes = [axis for axis in reversed(range(rank)) if kernel_shape[axis] > 1 or strides[axis] > 1 or pads[axis]]
    shapes = [(*x.shape[:axis], *out.shape[axis:]) for axis in axes]
    axis_by_axis = sum((kernel_shape[axis] - 1) * math.prod(shape) for axis, shape in zip(axes, shapes, strict=True))
    if axis_by_axis >= (math.prod(kernel_shape) - 1) * out.size:
        return _maximum_calls(x, out, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads)
    calls: list[Call] = []
    for axis, shape in zip(axes, shapes, strict=True):
        result = out if axis == axes[-1] else np.empty(shape, out.dtype)
        calls += _maximum_calls(
            x,
            result,
            kernel_shape=_only(axis, kernel_shape, 1),
            strides=_only(axis, strides, 1),
            dilations=_only(axis, dilations, 1),
            pads=_only(axis, pads, 0),
        )
        x = result
    return calls


def _only(axis: int, values: PerAxis, neutral: int) -> list[int]:
    """The value of one axis, and on all others one that changes nothing."""
    return [value if index == axis else neutral for index, value in enumerate(values)]


def _maximum_calls(
    x: FloatArray, out: FloatArray, *, kernel_shape: PerAxis, strides: PerAxis, dilations: PerAxis, pads: PerAxis
) -> list[Call]:
    everywhere = tuple(slice(0, size) for size in out.shape[: len(strides)])
    taps = [_landing(tap, out.shape, x.shape, strides, dilations, pads) for tap in product(*(range(k) for k in kernel_shape))]
    # a tap that falls on data for every output comes first, a second one is compared with it
    taps.sort(key=lambda tap: tap[0] != everywhere)
    (target, source), *others = taps
    if target != everywhere:
        calls: list[Call] = [partial(out.fill, -np.inf)]
        others = taps
    elif others and others[0][0] == everywhere:
        calls = [partial(np.maximum, x[source], x[others[0][1]], out=out)]
        others = others[1:]
    else:
        calls = [partial(np.copyto, out, x[source])]
    return [*calls, *(partial(np.maximum, out[target], x[source], out=out[target]) for target, source in others)]


def meets_data(
    counts: PerAxis, sizes: PerAxis, /, *, kernel_shape: PerAxis, strides: PerAxis, dilations: PerAxis, pads: PerAxis
) -> bool:
    """True when one tap of the kernel falls on data for every output, so that no window lies in the padding as a whole.

    Parameters
    ----------
    counts, sizes
        Of outputs and inputs, one number for each spatial axis.
    kernel_shape, strides, dilations
        One number for each spatial axis.
    pads
        Begins of all axes.

    Examples
    --------
    >>> meets_data([4], [4], kernel_shape=[3], strides=[1], dilations=[1], pads=[1])
    True
    >>> meets_data([1], [1], kernel_shape=[2], strides=[1], dilations=[2], pads=[1])
    False
    """
    everywhere = tuple(slice(0, count) for count in counts)
    taps = product(*(range(size) for size in kernel_shape))
    return any(_landing(tap, counts, sizes, strides, dilations, pads)[0] == everywhere for tap in taps)


def window_sum_calls(
    x: FloatArray, out: FloatArray, /, *, kernel_shape: PerAxis, strides: PerAxis, pads: PerAxis
) -> list[Call]:
    """The calls for sums over windows, zeros outside of the input: the accumulator of average pooling.

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
    if tuple(kernel_shape) == x.shape[:rank] and not any(pads) and math.prod(out.shape[:rank]) == 1:
        if x.flags.c_contiguous and out.flags.c_contiguous:
            # the sum of all rows of a matrix is a row of ones times it
            ones = np.ones(math.prod(kernel_shape), x.dtype)
            return [partial(np.dot, ones, x.reshape(ones.size, -1), out.reshape(-1))]
        return [partial(np.add.reduce, x, tuple(range(rank)), None, out.reshape(out.shape[rank:]))]
    calls: list[Call] = [partial(out.fill, 0)]
    for tap in product(*(range(size) for size in kernel_shape)):
        target, source = _landing(tap, out.shape, x.shape, strides, (1,) * rank, pads)
        calls.append(partial(np.add, out[target], x[source], out[target]))
    return calls
