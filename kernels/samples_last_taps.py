"""Fast kernels tap by tap on activations whose last axis holds the samples (see :mod:`npusim.kernels.samples_last`).

Pools and transposed convolutions: each tap of the kernel is one operation on all positions at which it meets data, so that
padding is never stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from .samples_last import FloatArray, PerAxis, Product

__all__ = ["add_windows", "maximum_of_views", "maximum_views", "transposed_views", "valid_range"]


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


def maximum_views(
    x: FloatArray, out: FloatArray, /, *, kernel_shape: PerAxis, strides: PerAxis, dilations: PerAxis, pads: PerAxis
) -> tuple[FloatArray | None, list[tuple[FloatArray, FloatArray]]]:
    """Views for max pooling in which padding never wins: the running maximum over the taps, each where it falls on data.

    Parameters
    ----------
    x
        Input ``[*spatial, channels, samples]``, not padded.
    out
        ``[*spatial, channels, samples]``.
    kernel_shape, strides, dilations
        One number for each spatial axis.
    pads
        Begins of all axes.

    Returns
    -------
    (whole, pairs)
        A tap that falls on data for every output, None if there is none; and for each other tap the outputs it reaches with the
        inputs it reads there.
    """
    rank = len(strides)
    everywhere = tuple(slice(0, size) for size in out.shape[:rank])
    taps = [_landing(tap, out.shape, x.shape, strides, dilations, pads) for tap in product(*(range(k) for k in kernel_shape))]
    whole = next((source for target, source in taps if target == everywhere), None)
    return None if whole is None else x[whole], [(out[target], x[source]) for target, source in taps if source != whole]


def maximum_of_views(out: FloatArray, whole: FloatArray | None, pairs: Sequence[tuple[FloatArray, FloatArray]], /) -> None:
    """Max pooling on the views of :func:`maximum_views`."""
    if whole is not None and pairs and pairs[0][0].shape == out.shape:
        np.maximum(whole, pairs[0][1], out=out)
        pairs = pairs[1:]
    else:
        out[...] = -np.inf if whole is None else whole
    for part, view in pairs:
        np.maximum(part, view, out=part)


def add_windows(x: FloatArray, out: FloatArray, /, *, kernel_shape: PerAxis, strides: PerAxis, pads: PerAxis) -> None:
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
    if tuple(kernel_shape) == x.shape[:rank] and not any(pads) and math.prod(out.shape[:rank]) == 1:
        np.add.reduce(x, axis=tuple(range(rank)), out=out.reshape(out.shape[rank:]))
        return
    out[...] = 0
    for tap in product(*(range(size) for size in kernel_shape)):
        target, source = _landing(tap, out.shape, x.shape, strides, (1,) * rank, pads)
        part = out[target]
        np.add(part, x[source], out=part)
