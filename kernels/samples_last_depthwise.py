"""Fast depthwise convolution on activations whose last axis holds the samples (see :mod:`npusim.kernels.samples_last`).

A product for each output would be a matrix of one row. Along a row of outputs the kernel makes a banded matrix: one product
then gives several neighbours, at the price of multiplying zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .samples_last import FloatArray, PerAxis, Product, product_onto

__all__ = ["BLOCK", "Tap", "add_taps", "banded_weights", "depthwise_taps", "depthwise_views"]

Tap: TypeAlias = tuple[FloatArray, FloatArray]
"""``(view, weights)``: what one kernel tap reads for every output, and its weights for every output of a row."""

BLOCK = 8
"""Outputs of a depthwise row computed by one product: longer blocks waste more multiplications on zeros, shorter ones more
calls."""


def banded_weights(weights: FloatArray, /, *, stride: int, dilation: int, block: int) -> FloatArray:
    """Depthwise weights ``[channels, *kernel]`` as banded matrices ``[*outer kernel, channels, block, reach]``.

    Row i of a matrix holds the inner kernel from column ``i * stride`` on, its taps `dilation` apart, so that one product gives
    `block` neighbouring outputs.

    Examples
    --------
    >>> banded_weights(np.array([[1.0, 2.0]]), stride=1, dilation=1, block=2).tolist()
    [[[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]]
    """
    channels, kernel = weights.shape[0], weights.shape[-1]
    span = (kernel - 1) * dilation + 1
    bands = np.zeros((*weights.shape[1:-1], channels, block, (block - 1) * stride + span), weights.dtype)
    moved = np.moveaxis(weights, 0, -2)
    for row in range(block):
        bands[..., row, row * stride : row * stride + span : dilation] = moved
    return bands


def depthwise_views(
    x: FloatArray,
    bands: FloatArray,
    out: FloatArray,
    scratch: FloatArray,
    /,
    *,
    strides: PerAxis,
    dilations: PerAxis,
    start: int,
) -> list[Product]:
    """Products of a depthwise convolution: one for each channel and block of neighbouring outputs.

    Parameters
    ----------
    x
        Padded input ``[*spatial, channels, samples]``.
    bands
        As from :func:`banded_weights`.
    out, scratch
        ``[*outer, blocks * block, channels, samples]``: the stretch of the inner axis that whole blocks cover.
    strides, dilations
        One number for each spatial axis.
    start
        Output position on the inner axis at which the stretch begins.
    """
    rank = len(strides)
    channels, block, reach = bands.shape[-3:]
    outer, blocks, samples = out.shape[: rank - 1], out.shape[rank - 1] // block, x.shape[-1]
    steps = tuple(step * stride for step, stride in zip(x.strides, strides[:-1], strict=False))
    inner, across, sample = x.strides[rank - 1 :]
    windows = (*steps, inner * block * strides[-1], across, inner, sample)
    result, spare = (_in_blocks(array, rank, block, blocks) for array in (out, scratch))
    products: list[Product] = []
    for position in product(*(range(size) for size in bands.shape[: rank - 1])):
        corner = (*(index * dilation for index, dilation in zip(position, dilations, strict=False)), start * strides[-1])
        view = as_strided(x[corner], (*outer, blocks, channels, reach, samples), windows, writeable=False)
        products.append(product_onto(bands[position], view, result, spare, products))
    return products


def _in_blocks(array: FloatArray, rank: int, block: int, blocks: int) -> FloatArray:
    """View ``[*outer, blocks * block, channels, samples]`` as ``[*outer, blocks, channels, block, samples]``."""
    inner, across, sample = array.strides[rank - 1 :]
    shape = (*array.shape[: rank - 1], blocks, array.shape[rank], block, array.shape[-1])
    return as_strided(array, shape, (*array.strides[: rank - 1], inner * block, across, inner, sample))


def depthwise_taps(
    x: FloatArray, w: FloatArray, length: int, /, *, outer: PerAxis, strides: PerAxis, dilations: PerAxis
) -> list[Tap]:
    """Views for a depthwise convolution of a single sample, tap by tap.

    With one sample a product has one column; multiplying whole rows element by element is faster from some size on.

    Parameters
    ----------
    x
        Padded input ``[*spatial, channels]``.
    w
        ``[channels, *kernel]``.
    length, outer
        Sizes of the output: its inner axis, and the axes before it.
    strides, dilations
        One number for each spatial axis.
    """
    sizes = (*outer, length)
    taps: list[Tap] = []
    for tap in product(*(range(size) for size in w.shape[1:])):
        window = tuple(
            slice(index * dilation, index * dilation + (count - 1) * stride + 1, stride)
            for index, dilation, count, stride in zip(tap, dilations, sizes, strides, strict=True)
        )
        # repeated along the row, so that NumPy runs over positions and channels in one loop
        taps.append((x[window], np.repeat(np.moveaxis(w, 0, -1)[tap][None], length, axis=0)))
    return taps


def add_taps(taps: Sequence[Tap], out: FloatArray, scratch: FloatArray, /) -> None:
    """``out = sum of view * weights`` over the taps; `scratch` has the shape of `out`."""
    for number, (view, weights) in enumerate(taps):
        np.multiply(view, weights, out=scratch if number else out)
        if number:
            np.add(out, scratch, out=out)
