"""Sums of products as matrix products: what a layer's weights meet, laid out as columns.

A convolution, a transposed one and a fully connected layer all become ``rows @ matrix`` for each group: a row for each sample
and output position, a column for each weight of an output channel. Quantization then knows only matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from npusim.floats.network import FloatArray, FloatKind, FloatLayer
from npusim.program import Window

__all__ = ["accumulate", "from_matrix", "row_blocks", "sum_windows", "to_matrix", "window_elements"]

BLOCK_ELEMENTS = 2**22
"""Largest block of rows, in elements."""


def to_matrix(layer: FloatLayer, weights: FloatArray) -> FloatArray:
    """Weights in ONNX layout as float64 [group, K, out / group]; those of a transposed convolution are mirrored."""
    if layer.kind is FloatKind.LINEAR:
        return weights[np.newaxis]
    if layer.kind is FloatKind.CONV_TRANSPOSE:
        inner = weights.reshape(layer.group, -1, *weights.shape[1:])
        mirrored = np.flip(inner, axis=tuple(range(3, inner.ndim)))
        swapped = _turned(mirrored)
        outputs = swapped.shape[1]
        return _turned(swapped.reshape(layer.group, outputs, -1))
    outputs = weights.shape[0] // layer.group
    return _turned(weights.reshape(layer.group, outputs, -1))


def from_matrix(layer: FloatLayer, matrix: FloatArray) -> FloatArray:
    """The inverse of :func:`to_matrix`."""
    shape = layer.parameters[0].shape
    if layer.kind is FloatKind.LINEAR:
        only: FloatArray = matrix[0]
        return only
    swapped = np.swapaxes(matrix, 1, 2)
    if layer.kind is FloatKind.CONV_TRANSPOSE:
        inner = swapped.reshape(layer.group, shape[1], shape[0] // layer.group, *shape[2:])
        mirrored: FloatArray = np.flip(np.swapaxes(inner, 1, 2), axis=tuple(range(3, inner.ndim)))
        return mirrored.reshape(shape)
    return swapped.reshape(shape)


def row_blocks(layer: FloatLayer, values: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Blocks of samples and their rows, float64 [group, samples * positions, K]."""
    samples = values.shape[0]
    positions = math.prod(layer.output_shape[2:])
    width = positions * math.prod(layer.parameters[0].shape[1:]) * (1 if layer.kind is FloatKind.LINEAR else layer.group)
    step = max(1, BLOCK_ELEMENTS // max(1, width))
    for start in range(0, samples, step):
        part = slice(start, min(start + step, samples))
        yield part, _rows(layer, values[part])


def accumulate(layer: FloatLayer, values: FloatArray, matrix: FloatArray) -> FloatArray:
    """Sums of products [N, out, *spatial] of an input [N, in, *spatial] and a matrix from :func:`to_matrix`."""
    outputs = matrix.shape[0] * matrix.shape[2]
    result = np.empty((values.shape[0], outputs, *layer.output_shape[2:]))
    for part, rows in row_blocks(layer, values):
        product = rows @ matrix
        count = part.stop - part.start
        # [group, samples, positions, out / group] -> [samples, group, out / group, positions]
        spread = product.reshape(matrix.shape[0], count, -1, matrix.shape[2]).transpose(1, 0, 3, 2)
        result[part] = spread.reshape(count, outputs, *layer.output_shape[2:])
    return result


def sum_windows(values: FloatArray, window: Window) -> FloatArray:
    """The sum of each window of a zero-padded input."""
    views = _windows(_pad(values, window.pads), window.kernel_shape, window.strides, window.dilations)
    total: FloatArray = views.sum(axis=tuple(range(values.ndim, views.ndim)))
    return total


def window_elements(values: FloatArray, window: Window) -> FloatArray:
    """What each window of one zero-padded sample [1, C, *spatial] holds: [C, windows, elements of the kernel]."""
    views = _windows(_pad(values, window.pads), window.kernel_shape, window.strides, window.dilations)
    return views.reshape(values.shape[1], -1, math.prod(window.kernel_shape))


def _turned(matrix: FloatArray) -> FloatArray:
    turned: FloatArray = np.swapaxes(matrix, 1, 2)
    return turned


def _rows(layer: FloatLayer, values: FloatArray) -> FloatArray:
    if layer.kind is FloatKind.LINEAR:
        return values[np.newaxis]
    window = layer.geometry
    if layer.kind is FloatKind.CONV_TRANSPOSE:
        padded, strides = _spread(values, window, layer.output_shape[2:]), (1,) * (values.ndim - 2)
    else:
        padded, strides = _pad(values, window.pads), window.strides
    views = _windows(padded, window.kernel_shape, strides, window.dilations)
    count, channels, spatial = values.shape[0], values.shape[1], values.ndim - 2
    grouped = views.reshape(count, layer.group, channels // layer.group, *views.shape[2:])
    order = (1, 0, *range(3, 3 + spatial), 2, *range(3 + spatial, 3 + 2 * spatial))
    inner = channels // layer.group * math.prod(window.kernel_shape)
    return np.ascontiguousarray(grouped.transpose(order)).reshape(layer.group, -1, inner)


def _pad(values: FloatArray, pads: Sequence[int]) -> FloatArray:
    spatial = values.ndim - 2
    if not any(pads):
        return values
    return np.pad(values, ((0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)))


def _windows(
    padded: FloatArray, kernel_shape: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> npt.NDArray[np.float64]:
    """A view [N, C, *output, *kernel] on a padded input."""
    reach = tuple((size - 1) * step + 1 for size, step in zip(kernel_shape, dilations, strict=True))
    axes = tuple(range(2, padded.ndim))
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    steps = tuple(slice(None, None, step) for step in strides)
    taps = tuple(slice(None, None, step) for step in dilations)
    return views[(slice(None), slice(None), *steps, *taps)]


def _spread(values: FloatArray, window: Window, sizes: Sequence[int]) -> FloatArray:
    """The input of a transposed convolution with zeros between its values, padded so that a plain convolution follows."""
    spatial = values.ndim - 2
    spread_sizes = [(size - 1) * step + 1 for size, step in zip(values.shape[2:], window.strides, strict=True)]
    reach = [(size - 1) * step for size, step in zip(window.kernel_shape, window.dilations, strict=True)]
    begins = [far - pad for far, pad in zip(reach, window.pads[:spatial], strict=True)]
    wanted = [size + far for size, far in zip(sizes, reach, strict=True)]
    result = np.zeros((*values.shape[:2], *wanted))
    source, target = [slice(None), slice(None)], [slice(None), slice(None)]
    for begin, size, step, end in zip(begins, spread_sizes, window.strides, wanted, strict=True):
        first = max(0, -(begin // step)) if begin < 0 else 0
        count = len(range(begin + first * step, min(end, begin + size), step))
        source.append(slice(first, first + count))
        target.append(slice(begin + first * step, begin + first * step + count * step, step))
    result[tuple(target)] = values[tuple(source)]
    return result
