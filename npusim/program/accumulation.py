"""What a layer sums up before it requantizes, in int64: one formula for each kind of layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npusim.errors import InternalMismatchError
from npusim.kernels.integer import (
    accumulate_convolution,
    accumulate_fully_connected,
    accumulate_transposed_convolution,
    window_maximum,
    window_sum,
)
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
)
from npusim.program.requantization import IntegerArray

__all__ = ["accumulate", "maximum_of_windows", "unknown_kind"]


def accumulate(layer: Accumulating, codes: Sequence[IntegerArray], weights: IntegerArray | None = None) -> IntegerArray:
    """The accumulator of a layer before the bias, int64 [samples, *accumulator_shape[1:]].

    Parameters
    ----------
    layer
        The layer.
    codes
        Codes of its inputs, int64, samples on the first axis.
    weights
        Used instead of the layer's own (one digit of them, for example).
    """
    match layer:
        case Add():
            return codes[0] + codes[1]
        case MatrixProduct():
            product: IntegerArray = np.matmul(codes[0], codes[1])
            return product
        case AveragePool(window=window):
            sums = window_sum(codes[0], kernel_shape=window.kernel_shape, strides=window.strides, pads=window.pads)
            return sums.reshape(-1, *layer.accumulator_shape[1:])
        case FullyConnected():
            return accumulate_fully_connected(codes[0], layer.weights if weights is None else weights)
        case Convolution(window=window):
            return accumulate_convolution(
                codes[0],
                layer.weights if weights is None else weights,
                strides=window.strides,
                pads=window.pads,
                dilations=window.dilations,
                group=layer.group,
            )
        case TransposedConvolution(window=window):
            return accumulate_transposed_convolution(
                codes[0],
                layer.weights if weights is None else weights,
                strides=window.strides,
                pads=window.pads,
                dilations=window.dilations,
                group=layer.group,
                output_padding=window.output_padding,
            )
        case _:
            raise unknown_kind(layer)


def maximum_of_windows(layer: MaxPool, codes: IntegerArray) -> IntegerArray:
    """The result of a MAXPOOL layer, int64 [samples, *output_shape[1:]]."""
    window = layer.window
    return window_maximum(
        codes,
        kernel_shape=window.kernel_shape,
        strides=window.strides,
        pads=window.pads,
        dilations=window.dilations,
        ceil_mode=window.ceil_mode,
    )


def unknown_kind(layer: IntegerLayer) -> InternalMismatchError:
    """The error for a class of layers that something does not know."""
    return InternalMismatchError(f"layer '{layer.name}' of kind {layer.kind} is not known here; please report this")
