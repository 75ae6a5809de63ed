"""Layers on real-valued codes, float64: integers give exactly what the engines give.

A layer can be handed codes with a fractional part, as if the layer before had been float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.convolution import convolve, convolve_transpose
from npusim.kernels.pooling import max_pool
from npusim.program.accumulation import unknown_kind
from npusim.program.layers import (
    Accumulating,
    Add,
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerLayer,
    MaxPool,
    TransposedConvolution,
    Window,
)

__all__ = ["accumulate_real", "real_codes", "requantize_real"]

FloatArray: TypeAlias = npt.NDArray[np.float64]


def real_codes(layer: IntegerLayer, inputs: Sequence[FloatArray]) -> FloatArray:
    """The codes of a layer from real-valued codes of its inputs, samples on the first axis.

    Raises
    ------
    InternalMismatchError
        If the layer is of a kind that has no real-valued form.
    """
    if isinstance(layer, MaxPool):
        return _maximum(layer, inputs[0])
    if not isinstance(layer, Accumulating):
        raise unknown_kind(layer)
    return requantize_real(layer, accumulate_real(layer, inputs), layer.residual_of(inputs))


def accumulate_real(layer: Accumulating, inputs: Sequence[FloatArray], weights: FloatArray | None = None) -> FloatArray:
    """The accumulator of a layer on real-valued codes, float64 ``[samples, *accumulator_shape[1:]]``.

    Parameters
    ----------
    layer
        A layer that requantizes.
    inputs
        Real-valued codes, samples on the first axis.
    weights
        Used instead of the layer's own, in the same shape.
    """
    x = inputs[0]
    match layer:
        case Add():
            return x + inputs[1]
        case FullyConnected():
            own = layer.weights if weights is None else weights
            return _float64(x @ own.astype(np.float64))
        case AveragePool(window=window):
            channels = layer.input_shape[1]
            return _convolve(layer, x, np.ones((channels, 1, *window.kernel_shape)), window, channels)
        case TransposedConvolution(window=window):
            own = layer.weights if weights is None else weights
            return _float64(
                convolve_transpose(
                    x,
                    own.astype(np.float64),
                    None,
                    strides=window.strides,
                    dilations=window.dilations,
                    pads=window.pads,
                    output_shape=layer.accumulator_shape[2:],
                    group=layer.group,
                )
            )
        case Convolution(window=window):
            own = layer.weights if weights is None else weights
            return _convolve(layer, x, own.astype(np.float64), window, layer.group)
        case _:
            raise unknown_kind(layer)


def requantize_real(layer: Accumulating, accumulator: FloatArray, residual: FloatArray | None = None) -> FloatArray:
    """Requantize a real-valued accumulator, float64; on integers exactly the layer's codes."""
    codes, clip = layer.requantization.real_codes(accumulator, layer.channel_axis), layer.output_clip
    if residual is not None:
        codes = np.clip(codes + residual, clip.lower, clip.upper)
    return _float64(codes).reshape(-1, *layer.output_shape[1:])


def _convolve(layer: Accumulating, x: FloatArray, weights: FloatArray, window: Window, group: int) -> FloatArray:
    result = convolve(x, weights, None, strides=window.strides, dilations=window.dilations, pads=window.pads, group=group)
    return _float64(result).reshape(-1, *layer.accumulator_shape[1:])


def _maximum(layer: MaxPool, x: FloatArray) -> FloatArray:
    window = layer.window
    return _float64(
        max_pool(
            x,
            kernel_shape=window.kernel_shape,
            strides=window.strides,
            pads=window.pads,
            dilations=window.dilations,
            ceil_mode=window.ceil_mode,
        )
    )


def _float64(values: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(values, np.float64)
