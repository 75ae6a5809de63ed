"""Integer layers on buffers: views and weights are arranged once, running a layer is a few NumPy calls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.engine.carriers import Carrier, CarrierChoice, reduced_scale
from npusim.engine.fast.convolution import convolution_calls, transposed_products
from npusim.engine.fast.workspace import Buffer, Workspace
from npusim.errors import InternalMismatchError
from npusim.kernels.samples_last import Call, channel_rows, is_one_block, product_calls, requantize_calls
from npusim.kernels.samples_last_taps import meets_data, window_maximum_calls, window_sum_calls
from npusim.program import IntegerLayer, LayerKind, ShiftFloor, Window

__all__ = [
    "LayerArithmetic",
    "accumulator_calls",
    "arrange",
    "empty_accumulator",
    "layer_calls",
    "maximum_calls",
    "may_pool_first",
    "working_set",
]

FloatArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class LayerArithmetic:
    """A layer's numbers in the element type of its carrier.

    Attributes
    ----------
    weights
        In ONNX layout; folded: times ``scale * 2**-shift``. None without weights.
    bias
        ``[channels]``; folded likewise. None when all zero.
    multiplier
        ``[channels]``, ``scale * 2**-shift``; None when folded or all one.
    floor
        False when no shift is left.
    """

    layer: IntegerLayer
    requantization: ShiftFloor
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
    after = None if folded or bool((multiplier == 1).all()) else multiplier.astype(dtype)
    return LayerArithmetic(
        layer,
        requantization,
        dtype,
        None if weights is None else weights.astype(dtype),
        bias.astype(dtype) if bias.any() else None,
        after,
        bool(shift.any()),
    )


def layer_calls(arithmetic: LayerArithmetic, workspace: Workspace, pool: IntegerLayer | None = None) -> list[Call]:
    """The calls that compute a layer from its input buffers into its output buffer.

    Parameters
    ----------
    arithmetic
        The layer's numbers.
    workspace
        Where its inputs and outputs lie.
    pool
        A max pooling of the layer's output to be computed with it (see :func:`may_pool_first`): into the pool's buffer, past
        the layer's own.
    """
    layer, requantization = arithmetic.layer, arithmetic.requantization
    output = workspace.buffers[layer.output if pool is None else pool.output].inner
    in_place = pool is None and arithmetic.dtype is np.float32 and layer.accumulator_shape == layer.output_shape
    accumulator = output if in_place else empty_accumulator(arithmetic, workspace.samples)
    calls, bias = accumulator_calls(arithmetic, accumulator, workspace, with_bias=True)
    if pool is not None:
        calls += _pool_calls(pool, accumulator, output)
    result = _in_fewest_axes(accumulator if pool is None else output)
    clip = requantization.clip if layer.inner_clip is None else layer.inner_clip
    calls += requantize_calls(
        result,
        bias=_along_channels(bias, result),
        multiplier=_along_channels(arithmetic.multiplier, result),
        floor=arithmetic.floor,
        lower=np.array(clip.lower, arithmetic.dtype),
        upper=np.array(clip.upper, arithmetic.dtype),
    )
    if layer.kind is LayerKind.PWCONVRES:
        outer = [np.array(end, arithmetic.dtype) for end in (requantization.clip.lower, requantization.clip.upper)]
        residual = workspace.buffers[layer.inputs[1]].inner
        calls += [partial(np.add, accumulator, residual, accumulator), partial(accumulator.clip, *outer, accumulator)]
    if not in_place and pool is None:
        calls.append(partial(np.copyto, output, accumulator.reshape(output.shape), casting="same_kind"))
    return calls


def may_pool_first(layer: IntegerLayer, choice: CarrierChoice, pool: IntegerLayer) -> bool:
    """Whether the maximum over windows may be taken of a layer's accumulators instead of its codes.

    Both are the same where larger accumulators never give smaller codes: bias, floor and clip keep the order, and so does a
    multiplier above zero. Every window has to meet data, and fewer accumulators are left to requantize.

    Parameters
    ----------
    layer, choice
        The layer that gives the codes, and its carrier.
    pool
        A max pooling that reads them.
    """
    requantization = layer.requantization
    if requantization is None or layer.inner_clip is not None or layer.accumulator_shape != layer.output_shape:
        return False
    if choice.carrier is Carrier.FLOAT32 and not bool((requantization.scale > 0).all()):
        return False
    if choice.carrier not in (Carrier.FLOAT32, Carrier.FLOAT32_FOLDED):
        return False
    return meets_data(pool.output_shape[2:], pool.input_shape[2:], **_pool_geometry(_window_of(pool)))


def maximum_calls(layer: IntegerLayer, workspace: Workspace) -> list[Call]:
    """The calls that compute a MAXPOOL layer."""
    return _pool_calls(layer, workspace.buffers[layer.inputs[0]].inner, workspace.buffers[layer.output].inner)


def _pool_calls(layer: IntegerLayer, source: FloatArray, output: FloatArray) -> list[Call]:
    return window_maximum_calls(source, output, **_pool_geometry(_window_of(layer)))


def _pool_geometry(window: Window) -> dict[str, tuple[int, ...]]:
    begins = window.pads[: len(window.kernel_shape)]
    return {"kernel_shape": window.kernel_shape, "strides": window.strides, "dilations": window.dilations, "pads": begins}


def accumulator_calls(
    arithmetic: LayerArithmetic, out: FloatArray, workspace: Workspace, *, with_bias: bool
) -> tuple[list[Call], FloatArray | None]:
    """The calls that compute a layer's accumulator (folded: already scaled) into `out`.

    Parameters
    ----------
    arithmetic
        The layer's numbers.
    out
        ``[*spatial, channels, samples]``, written.
    workspace
        Where its inputs lie.
    with_bias
        Whether the bias may be added on the way.

    Returns
    -------
    (calls, bias)
        The calls, and the bias if they do not add it.
    """
    layer, bias = arithmetic.layer, arithmetic.bias
    sources = [workspace.buffers[name] for name in layer.inputs]
    if layer.kind is LayerKind.ADD:
        return [partial(np.add, sources[0].inner, sources[1].inner, out, dtype=out.dtype)], bias
    source, calls = sources[0], list[Call]()
    if arithmetic.dtype is not np.float32:
        source = Buffer.of(layer.input_shape, source.layout, workspace.samples, arithmetic.dtype)
        calls.append(partial(np.copyto, source.whole, sources[0].whole))
    if layer.kind is LayerKind.FC:
        matrix = np.ascontiguousarray(_weights_of(arithmetic).T)
        return [*calls, *product_calls([(matrix, source.inner, out, None)])], bias
    window = _window_of(layer)
    if layer.kind is LayerKind.AVGPOOL:
        sums = out.reshape(_pooled_shape(layer, window, workspace.samples))
        begins = window.pads[: len(window.kernel_shape)]
        geometry = {"kernel_shape": window.kernel_shape, "strides": window.strides, "pads": begins}
        return [*calls, *window_sum_calls(source.inner, sums, **geometry)], bias
    if layer.kind is LayerKind.TCONV:
        products = transposed_products(layer, _weights_of(arithmetic), window, source.inner, out)
        return [*calls, partial(out.fill, 0), *product_calls(products)], bias
    found, left = convolution_calls(layer, _weights_of(arithmetic), source, out, bias if with_bias else None)
    return [*calls, *found], left


def empty_accumulator(arithmetic: LayerArithmetic, samples: int) -> FloatArray:
    """Memory for a layer's accumulators, ``[*spatial, channels, samples]``."""
    shape = arithmetic.layer.accumulator_shape
    return np.empty((*shape[2:], shape[1], samples), arithmetic.dtype)


def _in_fewest_axes(y: FloatArray) -> FloatArray:
    """The same memory in the shape that NumPy runs over in the fewest loops; channels stay the last axis but one."""
    if is_one_block(y):
        return channel_rows(y)
    if y.shape[-1] == 1 and y.flags.c_contiguous:
        return y.reshape(-1, y.shape[-2], 1)
    return y


def _along_channels(values: FloatArray | None, y: FloatArray) -> FloatArray | None:
    """Per-channel values in the shape in which NumPy combines them with `y` fastest.

    Repeated for every sample where a position's channels lie together, so that it runs over both in one loop; repeated for
    every position, too, when there is one sample only.
    """
    if values is None:
        return None
    column = values[:, None]
    if y.ndim == 2:
        return column
    repeated = np.repeat(column, y.shape[-1], axis=1)
    return np.ascontiguousarray(np.broadcast_to(repeated, y.shape)) if y.shape[-1] == 1 else repeated


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
