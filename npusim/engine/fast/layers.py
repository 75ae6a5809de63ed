"""Integer layers bound to buffers: views and weights are arranged once, running a layer is a few NumPy calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.engine.carriers import Carrier, CarrierChoice, reduced_scale
from npusim.engine.fast.convolution import bind_convolution, bind_stages, transposed_products
from npusim.engine.fast.workspace import Buffer, Workspace
from npusim.errors import InternalMismatchError
from npusim.kernels.samples_last import multiply_views, requantize_in_place
from npusim.kernels.samples_last_taps import add_windows, maximum_of_views, maximum_views
from npusim.layer import IntegerLayer, LayerKind, Requantization, Window

__all__ = ["LayerArithmetic", "arrange", "bind_accumulator", "bind_layer", "bind_maximum", "working_set"]

FloatArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class LayerArithmetic:
    """A layer's numbers in the element type of its carrier.

    Attributes
    ----------
    weights
        In ONNX layout; folded: times ``scale * 2**-shift``. None without weights.
    bias
        ``[channels, 1]``; folded likewise. None when all zero.
    multiplier
        ``[channels, 1]``, ``scale * 2**-shift``; None when folded or all one.
    floor
        False when no shift is left.
    """

    layer: IntegerLayer
    requantization: Requantization
    dtype: type[np.float32] | type[np.float64]
    weights: FloatArray | None
    bias: FloatArray | None
    multiplier: FloatArray | None
    floor: bool


def arrange(layer: IntegerLayer, choice: CarrierChoice) -> LayerArithmetic:
    """Convert a layer's parameters for a carrier.

    Every number is exact: an integer below the carrier's limit times a power of two.
    """
    requantization = layer.requantization
    if requantization is None:
        raise InternalMismatchError(f"layer '{layer.name}' does not requantize; please report this")
    dtype = np.float64 if choice.carrier is Carrier.FLOAT64 else np.float32
    scale, shift = reduced_scale(requantization)
    multiplier = np.ldexp(scale.astype(np.float64), -shift)
    bias = requantization.bias.astype(np.float64)
    weights = None if layer.weights is None else layer.weights.astype(np.float64)
    folded = choice.carrier is Carrier.FLOAT32_FOLDED
    if folded and weights is not None:
        weights, bias = weights * _along_outputs(multiplier, layer), bias * multiplier
    after = None if folded or bool((multiplier == 1).all()) else multiplier.astype(dtype)[:, None]
    return LayerArithmetic(
        layer,
        requantization,
        dtype,
        None if weights is None else weights.astype(dtype),
        bias.astype(dtype)[:, None] if bias.any() else None,
        after,
        bool(shift.any()),
    )


def bind_layer(arithmetic: LayerArithmetic, workspace: Workspace) -> Callable[[], None]:
    """A call without arguments that computes a layer from its input buffers into its output buffer."""
    layer, output = arithmetic.layer, workspace.buffers[arithmetic.layer.output]
    accumulator = _accumulator_array(arithmetic, output, workspace)
    accumulate = bind_accumulator(arithmetic, accumulator, workspace)
    requantization, in_place = arithmetic.requantization, np.shares_memory(accumulator, output.inner)
    clip = requantization.clip if layer.inner_clip is None else layer.inner_clip
    lower, upper = (np.array(end, arithmetic.dtype) for end in (clip.lower, clip.upper))
    residual = workspace.buffers[layer.inputs[1]].inner if layer.kind is LayerKind.PWCONVRES else None
    bias, multiplier = (_over_samples(values, workspace.samples) for values in (arithmetic.bias, arithmetic.multiplier))

    def run() -> None:
        accumulate()
        requantize_in_place(
            accumulator,
            bias=bias,
            multiplier=multiplier,
            floor=arithmetic.floor,
            lower=lower,
            upper=upper,
        )
        if residual is not None:
            np.add(accumulator, residual, out=accumulator)
            np.clip(accumulator, requantization.clip.lower, requantization.clip.upper, out=accumulator)
        if not in_place:
            np.copyto(output.inner, accumulator.reshape(output.inner.shape), casting="same_kind")

    return run


def bind_maximum(layer: IntegerLayer, workspace: Workspace) -> Callable[[], None]:
    """A call without arguments that computes a MAXPOOL layer."""
    window, source, output = _window_of(layer), workspace.buffers[layer.inputs[0]].inner, workspace.buffers[layer.output].inner
    whole, pairs = maximum_views(
        source,
        output,
        kernel_shape=window.kernel_shape,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads[: len(window.kernel_shape)],
    )
    return lambda: maximum_of_views(output, whole, pairs)


def bind_accumulator(arithmetic: LayerArithmetic, out: FloatArray, workspace: Workspace) -> Callable[[], None]:
    """A call without arguments that computes a layer's accumulator (folded: already scaled) into `out`."""
    layer, buffers = arithmetic.layer, [workspace.buffers[name] for name in arithmetic.layer.inputs]
    if layer.kind is LayerKind.ADD:
        return lambda: np.copyto(out, np.add(buffers[0].inner, buffers[1].inner, dtype=out.dtype))
    if layer.kind is LayerKind.FC and arithmetic.weights is not None:
        matrix = np.ascontiguousarray(arithmetic.weights.T)
        return _converted(arithmetic, buffers[0].inner, lambda x: bind_stages([([(matrix, x, out, None)], [])]))
    window = _window_of(layer)
    rank = len(window.kernel_shape)
    begins, ends = window.pads[:rank], window.pads[rank:]
    if layer.kind is LayerKind.AVGPOOL:
        sums = out.reshape(_pooled_shape(layer, window, workspace.samples))
        return lambda: add_windows(
            buffers[0].inner, sums, kernel_shape=window.kernel_shape, strides=window.strides, pads=begins
        )
    if layer.kind is LayerKind.TCONV:
        return _converted(arithmetic, buffers[0].inner, lambda x: _transposed(arithmetic, window, x, out))
    padded = buffers[0].padded(begins, ends)
    return _converted(arithmetic, padded, lambda x: bind_convolution(layer, _weights_of(arithmetic), window, x, out))


def _accumulator_array(arithmetic: LayerArithmetic, output: Buffer, workspace: Workspace) -> FloatArray:
    """Where a layer accumulates: its output buffer itself when type and shape allow it."""
    layer = arithmetic.layer
    if arithmetic.dtype is np.float32 and layer.accumulator_shape == layer.output_shape:
        return output.inner
    shape = layer.accumulator_shape
    return np.empty((*shape[2:], shape[1], workspace.samples), arithmetic.dtype)


def _converted(
    arithmetic: LayerArithmetic, x: FloatArray, make: Callable[[FloatArray], Callable[[], None]]
) -> Callable[[], None]:
    """Give a computation its input in the carrier's element type: the buffer itself for float32, a copy for float64."""
    if arithmetic.dtype is np.float32:
        return make(x)
    wide = np.empty(x.shape, np.float64)
    run = make(wide)

    def run_wide() -> None:
        np.copyto(wide, x)
        run()

    return run_wide


def _over_samples(values: FloatArray | None, samples: int) -> FloatArray | None:
    """Per-channel values repeated for every sample: NumPy then runs over channels and samples in one loop."""
    return None if values is None else np.repeat(values, samples, axis=1)


def _transposed(arithmetic: LayerArithmetic, window: Window, x: FloatArray, out: FloatArray) -> Callable[[], None]:
    products = transposed_products(arithmetic.layer, _weights_of(arithmetic), window, x, out)

    def run() -> None:
        out[...] = 0
        multiply_views(products)

    return run


def _weights_of(arithmetic: LayerArithmetic) -> FloatArray:
    if arithmetic.weights is None:
        layer = arithmetic.layer
        raise InternalMismatchError(f"layer '{layer.name}' of kind {layer.kind} has no weights; please report this")
    return arithmetic.weights


def _pooled_shape(layer: IntegerLayer, window: Window, samples: int) -> tuple[int, ...]:
    """Shape of the sums before the graph drops reduced axes: ``[*spatial, channels, samples]``."""
    rank = len(window.kernel_shape)
    sizes = (
        (size + window.pads[axis] + window.pads[axis + rank] - window.kernel_shape[axis]) // window.strides[axis] + 1
        for axis, size in enumerate(layer.input_shape[2:])
    )
    return (*sizes, layer.input_shape[1], samples)


def _along_outputs(values: FloatArray, layer: IntegerLayer) -> FloatArray:
    """Shape per-channel values so that they broadcast against the weights' output channels."""
    if layer.weights is None:
        raise InternalMismatchError(f"layer '{layer.name}' has no weights; please report this")
    if layer.kind is LayerKind.FC:
        return values[None, :]
    rank = layer.weights.ndim - 2
    if layer.kind is LayerKind.TCONV:
        inputs = layer.weights.shape[0] // layer.group
        by_group = values.reshape(layer.group, 1, -1).repeat(inputs, axis=1)
        return by_group.reshape(layer.weights.shape[0], -1, *(1,) * rank)
    return values.reshape(-1, *(1,) * (rank + 1))


def _window_of(layer: IntegerLayer) -> Window:
    if layer.window is None:
        raise InternalMismatchError(f"layer '{layer.name}' of kind {layer.kind} has no window; please report this")
    return layer.window


def working_set(layer: IntegerLayer) -> int:
    """Float32 values that a layer touches for one sample: input, output and scratch."""
    return math.prod(layer.input_shape) + 2 * math.prod(layer.output_shape)
