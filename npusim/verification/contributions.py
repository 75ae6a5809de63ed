"""Which codes and weights make one element of a layer, found by its geometry alone, in Python integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from npusim.engine.reference import unknown_kind
from npusim.graph import Array
from npusim.program import (
    Add,
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerArray,
    IntegerLayer,
    MaxPool,
    TransposedConvolution,
    Window,
)

__all__ = ["Contribution", "contributions_of", "padded_count"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One code that goes into an element.

    Attributes
    ----------
    position
        Where the code is in the layer's input (for ADD in the operand), without the sample axis.
    code
        The code.
    weight
        What it is multiplied with; 1 for sums, None for a maximum.
    operand
        Number of the input it comes from.
    """

    position: tuple[int, ...]
    code: int
    weight: int | None
    operand: int = 0

    @property
    def product(self) -> int:
        """``code * weight``; the code where there is no weight."""
        return self.code * (1 if self.weight is None else self.weight)


def contributions_of(layer: IntegerLayer, inputs: Sequence[Array], index: tuple[int, ...]) -> tuple[Contribution, ...]:
    """List what an element of a layer's accumulator is the sum of, or for MAXPOOL the maximum of.

    Parameters
    ----------
    layer
        The layer.
    inputs
        Codes of its inputs for one sample, without the sample axis.
    index
        Position in the accumulator, without the sample axis.

    Returns
    -------
    tuple of Contribution
        In the order of the weights. Codes in the padding, which are 0, are left out.

    Examples
    --------
    A kernel of 3 with stride 2 and one padded code in front: element 1 reads the codes 1, 2 and 3.
    """
    match layer:
        case Add():
            return tuple(Contribution(index, _code(values, index), 1, operand) for operand, values in enumerate(inputs[:2]))
        case FullyConnected():
            return tuple(_dense(layer.weights, inputs[0], index))
        case AveragePool():
            return tuple(_pooled(_place_of(layer, inputs[0].shape, index), layer.window, inputs[0], 1))
        case MaxPool():
            return tuple(_pooled(index, layer.window, inputs[0], None))
        case TransposedConvolution():
            return tuple(_transposed(layer.weights, layer.window, layer.group, inputs[0], index))
        case Convolution():
            return tuple(_convolved(layer.weights, layer.window, layer.group, inputs[0], index))
        case _:
            raise unknown_kind(layer)


def padded_count(layer: IntegerLayer, contributions: Sequence[Contribution]) -> int:
    """Weights of a convolution or pool that meet padding at an element, given the contributions that do not."""
    if not isinstance(layer, Convolution | AveragePool):
        return 0
    channels = int(layer.weights.shape[1]) if isinstance(layer, Convolution) else 1
    return int(np.prod(layer.window.kernel_shape)) * channels - len(contributions)


def _code(values: Array, position: tuple[int, ...]) -> int:
    return int(values[position])


def _dense(weights: IntegerArray, codes: Array, index: tuple[int, ...]) -> Iterator[Contribution]:
    for feature in range(weights.shape[0]):
        position = (*index[:-1], feature)
        yield Contribution(position, _code(codes, position), int(weights[feature, index[-1]]))


def _pooled(index: tuple[int, ...], window: Window, codes: Array, weight: int | None) -> Iterator[Contribution]:
    channel, *place = index
    for _, position in _seen(window, codes.shape[1:], place):
        where = (channel, *position)
        yield Contribution(where, _code(codes, where), weight)


def _place_of(layer: AveragePool, shape: tuple[int, ...], index: tuple[int, ...]) -> tuple[int, ...]:
    """Channel and window of an element; a graph may have dropped the axes it averaged over."""
    if len(index) == len(shape):
        return index
    rank, window = len(shape) - 1, layer.window
    sizes = [
        (shape[1 + axis] + window.pads[axis] + window.pads[rank + axis] - window.kernel_shape[axis]) // window.strides[axis] + 1
        for axis in range(rank)
    ]
    flat = int(np.ravel_multi_index(index, layer.accumulator_shape[1:]))
    return tuple(int(item) for item in np.unravel_index(flat, (shape[0], *sizes)))


def _convolved(
    weights: IntegerArray, window: Window, group: int, codes: Array, index: tuple[int, ...]
) -> Iterator[Contribution]:
    channel, *place = index
    first = channel // (weights.shape[0] // group) * weights.shape[1]
    seen = list(_seen(window, codes.shape[1:], place))
    for offset in range(weights.shape[1]):
        for tap, position in seen:
            where = (first + offset, *position)
            yield Contribution(where, _code(codes, where), int(weights[(channel, offset, *tap)]))


def _seen(window: Window, shape: tuple[int, ...], place: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each tap of a window that lies inside of the data, and where."""
    for tap in product(*(range(size) for size in window.kernel_shape)):
        position = tuple(
            at * stride - pad + offset * dilation
            for at, stride, pad, offset, dilation in zip(
                place, window.strides, window.pads[: len(shape)], tap, window.dilations, strict=True
            )
        )
        if all(0 <= one < size for one, size in zip(position, shape, strict=True)):
            yield tap, position


def _transposed(
    weights: IntegerArray, window: Window, group: int, codes: Array, index: tuple[int, ...]
) -> Iterator[Contribution]:
    channel, *place = index
    part, offset = divmod(channel, weights.shape[1])
    inputs = weights.shape[0] // group
    seen = list(_reached(window, codes.shape[1:], place))
    for source in range(part * inputs, (part + 1) * inputs):
        for tap, position in seen:
            where = (source, *position)
            yield Contribution(where, _code(codes, where), int(weights[(source, offset, *tap)]))


def _reached(window: Window, shape: tuple[int, ...], place: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each tap through which an input of a transposed convolution reaches a place, and that input's position."""
    for tap in product(*(range(size) for size in window.kernel_shape)):
        steps = [
            divmod(at + pad - offset * dilation, stride)
            for at, stride, pad, offset, dilation in zip(
                place, window.strides, window.pads[: len(shape)], tap, window.dilations, strict=True
            )
        ]
        if all(rest == 0 and 0 <= one < size for (one, rest), size in zip(steps, shape, strict=True)):
            yield tap, tuple(one for one, _ in steps)
