"""The sums of layers the other way round: values at a layer's results handed back to the inputs that they were made of.

For a layer with weights this is the transposed sum of products, as in the backward pass of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.graph import Array
from npusim.kernels.geometry import tap_slices
from npusim.program.accumulation import unknown_kind
from npusim.program.layers import (
    Accumulating,
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

__all__ = ["back_to_inputs", "back_to_largest"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

Index: TypeAlias = tuple[slice | EllipsisType, ...]
"""Spatial positions, in every sample and channel."""


def back_to_inputs(layer: Accumulating, directions: FloatArray) -> list[tuple[str, FloatArray]]:
    """From the accumulator to the inputs: the transposed sum of products.

    Parameters
    ----------
    layer
        A layer that requantizes.
    directions
        float64 in the shape of the accumulator, samples on the first axis.

    Returns
    -------
    list of (str, float64 array)
        Names of inputs, and what arrives at each in its shape.

    Raises
    ------
    InternalMismatchError
        If the layer is of a kind that has no transposed form.
    """
    source = layer.inputs[0]
    match layer:
        case Add():
            return [(name, directions) for name in layer.inputs]
        case MatrixProduct():
            # either operand may move the product, each as the other one is
            return []
        case FullyConnected():
            return [(source, directions @ layer.weights.astype(np.float64).T)]
        case AveragePool(window=window):
            channels = layer.input_shape[1]
            ones = np.ones((channels, 1, *window.kernel_shape))
            counts = _window_counts(layer, window)
            return [(source, _spread(directions.reshape(-1, channels, *counts), ones, window, channels, layer.input_shape))]
        case TransposedConvolution(window=window):
            weights = layer.weights.astype(np.float64)
            return [(source, _gathered(directions, weights, window, layer.group, layer.input_shape))]
        case Convolution(window=window):
            weights = layer.weights.astype(np.float64)
            return [(source, _spread(directions, weights, window, layer.group, layer.input_shape))]
        case _:
            raise unknown_kind(layer)


def back_to_largest(layer: IntegerLayer, tensors: Mapping[str, Array], directions: FloatArray) -> FloatArray:
    """Back through a maximum pool: to the elements that are the largest of their window.

    Parameters
    ----------
    layer
        The pool.
    tensors
        Codes of its input and of its output, samples on the first axis.
    directions
        float64 in the shape of its output.

    Raises
    ------
    InternalMismatchError
        If the layer is of another kind.
    """
    if not isinstance(layer, MaxPool):
        raise unknown_kind(layer)
    window, sizes = layer.window, layer.input_shape[2:]
    counts, inside = directions.shape[2:], _inside(window, sizes)
    full = np.full((*directions.shape[:2], *_extents(window, counts, sizes)), -np.inf)
    full[inside] = tensors[layer.inputs[0]]
    passed = np.zeros_like(full)
    for region in _regions(window, counts):
        passed[region] += directions * (full[region] == tensors[layer.output])
    return np.asarray(passed[inside])


def _window_counts(layer: IntegerLayer, window: Window) -> list[int]:
    rank = len(window.kernel_shape)
    ends = zip(layer.input_shape[2:], window.pads[:rank], window.pads[rank:], window.kernel_shape, window.strides, strict=True)
    return [(size + begin + end - kernel) // stride + 1 for size, begin, end, kernel, stride in ends]


def _regions(window: Window, counts: Sequence[int]) -> list[Index]:
    """For each tap the padded positions that it reads, window by window."""
    dilations = window.dilations or (1,) * len(window.kernel_shape)
    taps = tap_slices(counts, kernel_shape=window.kernel_shape, strides=window.strides, dilations=dilations)
    return [(..., *tap) for tap in taps]


def _inside(window: Window, sizes: Sequence[int]) -> Index:
    """The padded positions that hold data."""
    return (..., *(slice(begin, begin + size) for begin, size in zip(window.pads, sizes, strict=False)))


def _extents(window: Window, counts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Sizes that hold both the padded data and every tap of every window."""
    begins, dilations = window.pads[: len(sizes)], window.dilations or (1,) * len(sizes)
    parts = zip(begins, sizes, counts, window.kernel_shape, window.strides, dilations, strict=True)
    return [
        max(begin + size, (count - 1) * stride + (kernel - 1) * dilation + 1)
        for begin, size, count, kernel, stride, dilation in parts
    ]


def _spread(directions: FloatArray, weights: FloatArray, window: Window, group: int, input_shape: Sequence[int]) -> FloatArray:
    """Back through a convolution: each window's direction goes to the inputs that it reads."""
    samples, counts, sizes = len(directions), directions.shape[2:], input_shape[2:]
    grouped = directions.reshape(samples, group, -1, math.prod(counts))
    taps = weights.reshape(group, grouped.shape[2], weights.shape[1], -1).transpose(3, 0, 2, 1)
    full = np.zeros((samples, group, weights.shape[1], *_extents(window, counts, sizes)))
    for tap, region in zip(taps, _regions(window, counts), strict=True):
        product = tap * grouped if tap.shape[1:] == (1, 1) else tap @ grouped
        full[region] += product.reshape(samples, group, weights.shape[1], *counts)
    return full[_inside(window, sizes)].reshape(samples, *input_shape[1:])


def _gathered(
    directions: FloatArray, weights: FloatArray, window: Window, group: int, input_shape: Sequence[int]
) -> FloatArray:
    """Back through a transposed convolution: each input collects what it was spread to."""
    samples, sizes, counts = len(directions), directions.shape[2:], input_shape[2:]
    full = np.zeros((samples, directions.shape[1], *_extents(window, counts, sizes)))
    full[_inside(window, sizes)] = directions
    taps = weights.reshape(group, weights.shape[0] // group, weights.shape[1], -1).transpose(3, 0, 1, 2)
    found = np.zeros((samples, group, weights.shape[0] // group, math.prod(counts)))
    for tap, region in zip(taps, _regions(window, counts), strict=True):
        found += tap @ full[region].reshape(samples, group, weights.shape[1], -1)
    return found.reshape(samples, *input_shape[1:])
