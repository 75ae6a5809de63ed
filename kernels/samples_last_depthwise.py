"""Fast depthwise convolution on activations whose last axis holds the samples (see :mod:`npusim.kernels.samples_last`).

A product for each output would be a matrix of one row. Rows of outputs together are a banded matrix times the rows of inputs
that they read: one product gives them all, at the price of multiplying zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .samples_last import Call, FloatArray, PerAxis, Product

__all__ = [
    "Band",
    "band_cost",
    "band_matrix",
    "band_views",
    "bands",
    "best_rows",
    "is_evenly_spaced",
    "single_tap_calls",
    "tap_calls",
]

MOST_ROWS = 32
"""Most output rows in a band that are worth trying."""


@dataclass(frozen=True, slots=True)
class Band:
    """Output rows that are computed together, and the input rows that they read.

    Attributes
    ----------
    start, rows
        First output row, and how many.
    first, height
        First input row, and how many; padding is left out.
    shift
        Where the window of output row `start` begins, counted from input row `first` (negative: in the padding).
    """

    start: int
    rows: int
    first: int
    height: int
    shift: int


def bands(rows: int, size: int, taps: int, count: int, /, *, stride: int, dilation: int, pad: int) -> Iterator[Band]:
    """Cut an axis of outputs into bands.

    Parameters
    ----------
    rows
        Output rows of a band; the last one may have fewer.
    size, taps, count
        Input rows, kernel rows, output rows.
    stride, dilation, pad
        Of that axis; the pad before it, negative where the input begins before the first window.

    Examples
    --------
    Four outputs of a kernel of three taps, two at a time; the window of the first begins in the padding:

    >>> list(bands(2, 4, 3, 4, stride=1, dilation=1, pad=1))  # doctest: +NORMALIZE_WHITESPACE
    [Band(start=0, rows=2, first=0, height=3, shift=-1),
     Band(start=2, rows=2, first=1, height=3, shift=0)]
    """
    for start in range(0, count, rows):
        here = min(rows, count - start)
        begin = start * stride - pad
        end = begin + (here - 1) * stride + (taps - 1) * dilation + 1
        first = min(max(begin, 0), size)
        yield Band(start, here, first, max(min(end, size) - first, 0), begin - first)


def band_cost(found: Sequence[Band], inner_in: int, inner_out: int, /) -> int:
    """What the products of bands cost, in multiplications of one channel and sample.

    Small matrices waste a part of what a processor can do: a product of ``m x k`` takes the time of ``(m + 6) * (k + 4)``
    multiplications at full speed (measured on small matrices with both vector widths).
    """
    return sum((band.rows * inner_out + 6) * (band.height * inner_in + 4) for band in found)


def best_rows(
    sizes: PerAxis, kernel: PerAxis, counts: PerAxis, /, *, strides: PerAxis, dilations: PerAxis, pads: PerAxis
) -> tuple[int, int]:
    """How many rows a band should have, and what it costs (:func:`band_cost`).

    Parameters
    ----------
    sizes, kernel, counts
        Of input, kernel and output, one number for each spatial axis.
    strides, dilations, pads
        One number for each spatial axis; pads before.
    """
    geometry = {"stride": strides[0], "dilation": dilations[0], "pad": pads[0]}
    inner_in, inner_out = math.prod(sizes[1:]), math.prod(counts[1:])

    def cost(rows: int) -> int:
        return band_cost(list(bands(rows, sizes[0], kernel[0], counts[0], **geometry)), inner_in, inner_out)

    best = min(range(1, min(counts[0], MOST_ROWS) + 1), key=cost)
    return best, cost(best)


def band_matrix(
    weights: FloatArray,
    band: Band,
    sizes: PerAxis,
    counts: PerAxis,
    /,
    *,
    strides: PerAxis,
    dilations: PerAxis,
    pads: PerAxis,
) -> FloatArray:
    """Depthwise weights ``[channels, *kernel]`` as matrices ``[channels, rows * inner out, height * inner in]`` of a band.

    Parameters
    ----------
    weights
        Weights.
    band
        The rows of the first axis.
    sizes, counts
        Of input and output, one number for each spatial axis.
    strides, dilations, pads
        One number for each spatial axis; pads before.

    Examples
    --------
    Two outputs of a kernel of two taps, the first of which begins in the padding:

    >>> band_matrix(np.array([[1.0, 2.0]]), Band(0, 2, 0, 2, -1), [2], [2], strides=[1], dilations=[1], pads=[1]).tolist()
    [[[2.0, 0.0], [1.0, 2.0]]]
    """
    outputs, inputs = (band.rows, *counts[1:]), (band.height, *sizes[1:])
    begins = (-band.shift, *pads[1:])
    matrix = np.zeros((weights.shape[0], *outputs, *inputs), weights.dtype)
    for tap in product(*(range(size) for size in weights.shape[1:])):
        places = []
        for axis, index in enumerate(tap):
            rows = np.arange(outputs[axis])
            read = rows * strides[axis] + index * dilations[axis] - begins[axis]
            meets = (read >= 0) & (read < inputs[axis])
            places.append((rows[meets], read[meets]))
        targets, sources = (np.ix_(*axes) for axes in zip(*places, strict=True))
        where: tuple[Any, ...] = (slice(None), *targets, *sources)
        own: tuple[Any, ...] = (slice(None), *tap)
        matrix[where] = weights[own].reshape(-1, *(1,) * len(places))
    return matrix.reshape(weights.shape[0], math.prod(outputs), math.prod(inputs))


def band_views(
    x: FloatArray,
    weights: FloatArray,
    out: FloatArray,
    /,
    *,
    rows: int,
    strides: PerAxis,
    dilations: PerAxis,
    pads: PerAxis,
) -> list[Product]:
    """Products of a depthwise convolution: one matrix for each channel and band of output rows.

    Bands of the same shape are one product. Padding is never read: what a window would find there is left out of its matrix.

    Parameters
    ----------
    x
        Input ``[*spatial, channels, samples]`` whose positions are evenly spaced in memory, in order.
    weights
        ``[channels, *kernel]``.
    out
        ``[*spatial, channels, samples]``, positions evenly spaced likewise.
    rows
        Output rows of a band.
    strides, dilations, pads
        One number for each spatial axis; pads before, negative where the input begins before the first window.
    """
    rank = len(strides)
    sizes, counts, (channels, samples) = x.shape[:rank], out.shape[:rank], x.shape[rank:]
    inner_in, inner_out = math.prod(sizes[1:]), math.prod(counts[1:])
    for array in (x, out):
        if not is_evenly_spaced(array):
            raise ValueError(
                f"positions of shape {array.shape[:rank]} with strides {array.strides[:rank]} are not evenly spaced"
            )
    geometry = {"stride": strides[0], "dilation": dilations[0], "pad": pads[0]}
    found = bands(rows, sizes[0], weights.shape[1], counts[0], **geometry)
    products: list[Product] = []
    for _, same in groupby(found, key=lambda band: (band.rows, band.height, band.shift)):
        alike = list(same)
        band = alike[0]
        matrix = band_matrix(weights, band, sizes, counts, strides=strides, dilations=dilations, pads=pads)
        between = alike[1].first - band.first if len(alike) > 1 else 0
        view = as_strided(
            x[band.first :] if band.height else x,
            (len(alike), channels, band.height * inner_in, samples),
            (between * x.strides[0], x.strides[rank], x.strides[rank - 1], x.strides[rank + 1]),
            writeable=False,
        )
        result = as_strided(
            out[band.start :],
            (len(alike), channels, band.rows * inner_out, samples),
            (rows * out.strides[0], out.strides[rank], out.strides[rank - 1], out.strides[rank + 1]),
        )
        products.append((matrix, view, result, None))
    return products


def is_evenly_spaced(x: FloatArray, /) -> bool:
    """True when stepping through the positions of ``[*spatial, channels, samples]`` is stepping through memory evenly.

    Examples
    --------
    >>> is_evenly_spaced(np.zeros((4, 6, 3, 5))), is_evenly_spaced(np.zeros((4, 6, 3, 5))[:, 1:5])
    (True, False)
    """
    sizes, steps = x.shape[:-2], x.strides[:-2]
    expected = [steps[-1] * math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    return all(size == 1 or step == wanted for size, step, wanted in zip(sizes, steps, expected, strict=True))


def tap_calls(
    x: FloatArray, w: FloatArray, out: FloatArray, scratch: FloatArray, /, *, strides: PerAxis, dilations: PerAxis
) -> list[Call]:
    """The calls of a depthwise convolution tap by tap, element by element.

    Along wide rows a band would be mostly zeros.

    Parameters
    ----------
    x
        Padded input ``[*spatial, channels, samples]``.
    w
        ``[channels, *kernel]``.
    out, scratch
        ``[*spatial, channels, samples]``.
    strides, dilations
        One number for each spatial axis.
    """
    calls: list[Call] = []
    for tap in product(*(range(size) for size in w.shape[1:])):
        window = tuple(
            slice(index * dilation, index * dilation + (count - 1) * stride + 1, stride)
            for index, dilation, count, stride in zip(tap, dilations, out.shape, strides, strict=False)
        )
        own: tuple[Any, ...] = (slice(None), *tap, None)
        factors = w[own]
        calls.append(partial(np.multiply, x[window], factors, scratch if calls else out))
        if len(calls) > 1:
            calls.append(partial(np.add, out, scratch, out))
    return calls


def single_tap_calls(x: FloatArray, w: FloatArray, out: FloatArray, /, *, strides: PerAxis, dilations: PerAxis) -> list[Call]:
    """The call of a depthwise convolution of one sample: all taps in one pass, ``out += window * weight`` for each.

    A product would have one column. Without strides a row of positions and their channels is one run through memory, for which
    the weights are repeated. The sums are those of :func:`tap_calls`, in another order at most.

    Parameters
    ----------
    x, w, out
        As for :func:`tap_calls`, with one sample; positions of the last axis and their channels lie side by side.
    strides, dilations
        One number for each spatial axis.
    """
    rank = len(strides)
    moves = (step * dilation for step, dilation in zip(x.strides, dilations, strict=False))
    steps = (step * stride for step, stride in zip(x.strides, strides, strict=False))
    shape = (*w.shape[1:], *out.shape[: rank + 1])
    windows = as_strided(x, shape, (*moves, *steps, x.strides[rank]), writeable=False)
    weights, result = np.moveaxis(w, 0, -1), out[..., 0]
    columns, dense = out.shape[rank], x.itemsize * out.shape[rank]
    if strides[-1] == 1 and x.strides[rank - 1] == out.strides[rank - 1] == dense:
        row = (out.shape[rank - 1] * columns,)
        windows = as_strided(windows, (*shape[:-2], *row), (*windows.strides[:-2], x.itemsize), writeable=False)
        result = as_strided(out, (*out.shape[: rank - 1], *row), (*out.strides[: rank - 1], out.itemsize))
        weights = np.tile(weights, out.shape[rank - 1])
    taps, places, ending = range(rank), range(rank, rank + result.ndim - 1), [2 * rank]
    operands = windows, [*taps, *places, *ending], np.ascontiguousarray(weights), [*taps, *ending]
    return [partial(np.einsum, *operands, [*places, *ending], out=result)]
