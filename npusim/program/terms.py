"""The terms of one element of an accumulator: which of the layer's input codes it reads, and what each is multiplied with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from npusim.errors import InternalMismatchError
from npusim.program.direct import Direct
from npusim.program.layers import (
    Add,
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerLayer,
    MatrixProduct,
    MaxPool,
    TransposedConvolution,
    Window,
)
from npusim.program.requantization import IntegerArray

__all__ = ["Terms", "has_terms", "padded_count", "terms_of"]


@dataclass(frozen=True, slots=True)
class Terms:
    """``accumulator[index] = sum(weights * codes[places])``; of MAXPOOL the maximum of the codes, whose weights are 1.

    Attributes
    ----------
    inputs
        For each product the number of the layer input that it reads.
    places
        For each product the position in that input, flattened.
    weights
        For each product its weight.
    summed
        False for MAXPOOL.
    """

    inputs: IntegerArray
    places: IntegerArray
    weights: IntegerArray
    summed: bool = True


def has_terms(layer: IntegerLayer) -> bool:
    """Whether a layer's results are sums of input codes times constants, or their maximum."""
    return not isinstance(layer, Direct | MatrixProduct)


def terms_of(layer: IntegerLayer, index: Sequence[int], weights: IntegerArray | None = None) -> Terms:
    """The terms of one accumulator element, in the order of the weights; codes in the padding, which are 0, are left out.

    Parameters
    ----------
    layer
        The layer.
    index
        Position in the accumulator of one sample, the batch axis left out.
    weights
        Used instead of the layer's own (one digit of them, for example).
    """
    match layer:
        case Add():
            place = int(np.ravel_multi_index(tuple(index), layer.accumulator_shape[1:]))
            return Terms(np.array([0, 1]), np.array([place, place]), np.array([1, 1]))
        case AveragePool():
            return _pooled(layer, _window_of(layer, index))
        case MaxPool():
            return replace(_pooled(layer, index), summed=False)
        case FullyConnected():
            return _fully_connected(layer, index, layer.weights if weights is None else weights)
        case TransposedConvolution():
            return _transposed(layer, index, layer.weights if weights is None else weights)
        case Convolution():
            return _convolved(layer, index, layer.weights if weights is None else weights)
        case _:
            raise InternalMismatchError(f"layer '{layer.name}' of kind {layer.kind} is not known here; please report this")


def padded_count(layer: IntegerLayer, count: int) -> int:
    """Weights of a convolution or average that meet padding at an element with so many terms."""
    if not isinstance(layer, Convolution | AveragePool):
        return 0
    channels = int(layer.weights.shape[1]) if isinstance(layer, Convolution) else 1
    return math.prod(layer.window.kernel_shape) * channels - count


def _convolved(layer: Convolution, index: Sequence[int], weights: IntegerArray) -> Terms:
    group_channels = weights.shape[1]
    first = index[0] // (weights.shape[0] // layer.group) * group_channels
    positions, taps = _window(layer.window, index[1:], layer.input_shape[2:])
    places = _places(layer, range(first, first + group_channels), positions)
    return _from_parts(places, weights[index[0]].reshape(group_channels, -1)[:, taps])


def _from_parts(places: IntegerArray, weights: IntegerArray) -> Terms:
    return Terms(np.zeros(places.size, np.int64), places.reshape(-1), weights.reshape(-1))


def _places(layer: IntegerLayer, channels: range, positions: IntegerArray) -> IntegerArray:
    """Flattened places [channels, positions] in a channels-first input."""
    area = math.prod(layer.input_shape[2:])
    return np.asarray(channels)[:, None] * area + positions[None, :]


def _fully_connected(layer: FullyConnected, index: Sequence[int], weights: IntegerArray) -> Terms:
    features = weights.shape[0]
    row = int(np.ravel_multi_index(tuple(index[:-1]), layer.accumulator_shape[1:-1])) if len(index) > 1 else 0
    return _from_parts(row * features + np.arange(features), weights[:, index[-1]])


def _pooled(layer: AveragePool | MaxPool, index: Sequence[int]) -> Terms:
    channel, *position = index
    positions, _ = _window(layer.window, position, layer.input_shape[2:])
    places = _places(layer, range(channel, channel + 1), positions)
    return _from_parts(places, np.ones_like(places))


def _window_of(layer: AveragePool, index: Sequence[int]) -> tuple[int, ...]:
    """Channel and window of an element: a graph may have dropped the axes it summed up, so only the flat position tells."""
    window = layer.window
    rank = len(window.kernel_shape)
    sizes = layer.input_shape[2:]
    extents = [size + begin + end for size, begin, end in zip(sizes, window.pads[:rank], window.pads[rank:], strict=True)]
    counts = [
        (extent - size) // stride + 1 for extent, size, stride in zip(extents, window.kernel_shape, window.strides, strict=True)
    ]
    flat = int(np.ravel_multi_index(tuple(index), layer.accumulator_shape[1:]))
    return tuple(int(item) for item in np.unravel_index(flat, (layer.input_shape[1], *counts)))


def _window(window: Window, position: Sequence[int], sizes: Sequence[int]) -> tuple[IntegerArray, IntegerArray]:
    """Flattened input positions that a window meets, and the flattened taps that meet them; padding is left out."""
    rank = len(window.kernel_shape)
    taps = np.indices(window.kernel_shape).reshape(rank, -1)
    origin = np.asarray(position) * np.asarray(window.strides) - np.asarray(window.pads[:rank])
    dilations = np.asarray(window.dilations or (1,) * rank)
    places = origin[:, None] + taps * dilations[:, None]
    inside = ((places >= 0) & (places < np.asarray(sizes)[:, None])).all(axis=0)
    return np.ravel_multi_index(tuple(places[:, inside]), tuple(sizes)), np.flatnonzero(inside)


def _transposed(layer: TransposedConvolution, index: Sequence[int], weights: IntegerArray) -> Terms:
    """An input at i meets the output at o through tap k where ``i * stride + k * dilation - begin == o``."""
    window = layer.window
    rank, sizes = len(window.kernel_shape), layer.input_shape[2:]
    taps = np.indices(window.kernel_shape).reshape(rank, -1)
    strides, begins, dilations = (np.asarray(part)[:, None] for part in (window.strides, window.pads[:rank], window.dilations))
    distance = np.asarray(index[1:])[:, None] + begins - taps * dilations
    places = distance // strides
    met = ((distance % strides == 0) & (places >= 0) & (places < np.asarray(sizes)[:, None])).all(axis=0)
    outputs, inputs = weights.shape[1], layer.input_shape[1] // layer.group
    first = index[0] // outputs * inputs
    positions = np.ravel_multi_index(tuple(places[:, met]), tuple(sizes))
    chosen = weights[first : first + inputs, index[0] % outputs].reshape(inputs, -1)[:, np.flatnonzero(met)]
    return _from_parts(_places(layer, range(first, first + inputs), positions), chosen)
