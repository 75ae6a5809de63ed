"""Integer layers on buffers: views and weights are arranged once, running a layer is a few NumPy calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.engine.carriers import Carrier, CarrierChoice
from npusim.engine.fast.convolution import convolution_calls, transposed_products
from npusim.engine.fast.workspace import Buffer, Workspace
from npusim.kernels.samples_last import Call, channel_rows, is_one_block, product_calls, requantize_calls
from npusim.kernels.samples_last_taps import meets_data, window_maximum_calls, window_sum_calls
from npusim.program import (
    Accumulating,
    Add,
    AveragePool,
    Clip,
    Convolution,
    FloatOperation,
    FullyConnected,
    IntegerLayer,
    MaxPool,
    TransposedConvolution,
    Weighted,
    Window,
)
from npusim.program.accumulation import unknown_kind

__all__ = [
    "LayerArithmetic",
    "accumulator_calls",
    "arrange",
    "arrange_sums",
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
        In ONNX layout; folded: times the multiplier. None without weights.
    bias
        ``[channels]``; folded likewise. None when all zero.
    operations
        What follows before the clip.
    """

    layer: Accumulating
    dtype: type[np.float32] | type[np.float64]
    weights: FloatArray | None
    bias: FloatArray | None
    operations: tuple[FloatOperation, ...]


def arrange(layer: Accumulating, choice: CarrierChoice) -> LayerArithmetic:
    """Convert a layer's parameters for a carrier.

    Every number is exact: an integer below the carrier's limit times a power of two.
    """
    dtype, form = _dtype_of(choice), layer.requantization.form(choice.carrier)
    weights = _converted(layer, dtype)
    if form.factor is not None and isinstance(layer, Weighted) and weights is not None:
        # computed in float64, a part at a time
        np.multiply(layer.weights, _along_outputs(form.factor, layer), out=weights, casting="same_kind")
    return LayerArithmetic(
        layer,
        dtype,
        weights,
        form.bias.astype(dtype) if form.bias.any() else None,
        form.operations,
    )


def arrange_sums(layer: Accumulating, choice: CarrierChoice) -> LayerArithmetic:
    """A layer that stops at its accumulator, in the element type of a carrier."""
    dtype = _dtype_of(choice)
    return LayerArithmetic(layer, dtype, _converted(layer, dtype), None, ())


def _converted(layer: Accumulating, dtype: type[np.float32] | type[np.float64]) -> FloatArray | None:
    """A layer's weights in another element type; a matrix by columns, because its product reads it turned."""
    if not isinstance(layer, Weighted):
        return None
    return layer.weights.astype(dtype, order="F" if isinstance(layer, FullyConnected) else "K")


def _dtype_of(choice: CarrierChoice) -> type[np.float32] | type[np.float64]:
    return np.float64 if choice.carrier is Carrier.FLOAT64 else np.float32


def layer_calls(arithmetic: LayerArithmetic, workspace: Workspace, pool: MaxPool | None = None) -> list[Call]:
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
    layer = arithmetic.layer
    buffer = workspace.buffers[layer.output if pool is None else pool.output]
    output = buffer.inner
    in_place = pool is None and arithmetic.dtype is np.float32 and layer.accumulator_shape == layer.output_shape
    accumulator = output if in_place else empty_accumulator(arithmetic, workspace.samples)
    calls, bias = accumulator_calls(arithmetic, accumulator, workspace, with_bias=True)
    if pool is not None:
        calls += _pool_calls(pool, accumulator, output)
    result = _in_fewest_axes(accumulator if pool is None else output)
    clip = layer.requantization.clip
    added = [] if bias is None else [(np.add, _along_channels(bias, result))]
    operations = [*added, *(_placed(operation, arithmetic.dtype, result) for operation in arithmetic.operations)]
    if in_place and _may_run_over_padding(buffer, operations, clip):
        result = buffer.memory
    calls += requantize_calls(
        result,
        operations=operations,
        lower=np.array(clip.lower, arithmetic.dtype),
        upper=np.array(clip.upper, arithmetic.dtype),
    )
    if layer.residual is not None:
        outer = [np.array(end, arithmetic.dtype) for end in (layer.output_clip.lower, layer.output_clip.upper)]
        residual = workspace.buffers[layer.residual].inner
        calls += [partial(np.add, accumulator, residual, accumulator), partial(accumulator.clip, *outer, accumulator)]
    if not in_place and pool is None:
        calls.append(partial(np.copyto, output, accumulator.reshape(output.shape), casting="same_kind"))
    return calls


def may_pool_first(layer: Accumulating, choice: CarrierChoice, pool: MaxPool) -> bool:
    """Whether the maximum over windows may be taken of a layer's accumulators instead of its codes.

    Both are the same where larger accumulators never give smaller codes: a staircase that rises. Where the multiplier is in
    the weights, what is left of it (bias, rounding and clip) always rises. Every window has to meet data, and fewer
    accumulators are left to requantize.

    Parameters
    ----------
    layer, choice
        The layer that gives the codes, and its carrier.
    pool
        A max pooling that reads them.
    """
    if layer.residual is not None or layer.accumulator_shape != layer.output_shape:
        return False
    if choice.carrier is Carrier.FLOAT32 and not bool((layer.requantization.direction > 0).all()):
        return False
    if choice.carrier not in (Carrier.FLOAT32, Carrier.FLOAT32_FOLDED):
        return False
    return meets_data(pool.output_shape[2:], pool.input_shape[2:], **_pool_geometry(pool.window))


def maximum_calls(layer: MaxPool, workspace: Workspace) -> list[Call]:
    """The calls that compute a MAXPOOL layer."""
    return _pool_calls(layer, workspace.buffers[layer.inputs[0]].inner, workspace.buffers[layer.output].inner)


def _pool_calls(layer: MaxPool, source: FloatArray, output: FloatArray) -> list[Call]:
    return window_maximum_calls(source, output, **_pool_geometry(layer.window))


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
    if isinstance(layer, Add):
        return [partial(np.add, sources[0].inner, sources[1].inner, out, dtype=out.dtype)], bias
    source, calls = sources[0], list[Call]()
    if arithmetic.dtype is not np.float32:
        source = Buffer.of(layer.input_shape, source.layout, workspace.samples, arithmetic.dtype)
        calls.append(partial(np.copyto, source.whole, sources[0].whole))
    match layer, arithmetic.weights:
        case FullyConnected(), np.ndarray() as weights:
            return [*calls, *product_calls([(np.ascontiguousarray(weights.T), source.inner, out, None)])], bias
        case AveragePool(window=window), None:
            sums = out.reshape(_pooled_shape(layer, window, workspace.samples))
            begins = window.pads[: len(window.kernel_shape)]
            geometry = {"kernel_shape": window.kernel_shape, "strides": window.strides, "pads": begins}
            return [*calls, *window_sum_calls(source.inner, sums, **geometry)], bias
        case TransposedConvolution(), np.ndarray() as weights:
            products = transposed_products(layer, weights, source.inner, out)
            return [*calls, partial(out.fill, 0), *product_calls(products)], bias
        case Convolution(), np.ndarray() as weights:
            found, left = convolution_calls(layer, weights, source, out, bias if with_bias else None)
            return [*calls, *found], left
        case _:
            raise unknown_kind(layer)


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


def _may_run_over_padding(buffer: Buffer, operations: Sequence[tuple[np.ufunc, FloatArray | None]], clip: Clip) -> bool:
    """Whether a requantization may run over all of a buffer's memory in one piece, and is faster so.

    The padding stays zero where each operation takes zero to zero and zero is a code. NumPy copies rows that fit into its
    buffer there and back before and after each operation, which takes longer than the padding does.
    """
    if not buffer.layout.is_padded or not clip.lower <= 0 <= clip.upper:
        return False
    if any(operand is not None or function(buffer.memory.dtype.type(0)) != 0 for function, operand in operations):
        return False
    row = math.prod(buffer.inner.shape[-3:])
    return row < np.getbufsize() and buffer.memory.size <= 2 * buffer.inner.size + np.getbufsize()


def _along_channels(values: FloatArray, y: FloatArray) -> FloatArray:
    """Per-channel values in the shape in which NumPy combines them with `y` fastest.

    Repeated for every sample where a position's channels lie together, so that it runs over both in one loop; repeated for
    every position, too, when there is one sample only.
    """
    column = values[:, None]
    if y.ndim == 2:
        return column
    repeated = np.repeat(column, y.shape[-1], axis=1)
    return np.ascontiguousarray(np.broadcast_to(repeated, y.shape)) if y.shape[-1] == 1 else repeated


def _placed(
    operation: FloatOperation, dtype: type[np.float32] | type[np.float64], y: FloatArray
) -> tuple[np.ufunc, FloatArray | None]:
    """An operation's function and its operand in the shape in which NumPy combines it with `y` fastest."""
    if operation.ufunc.nin == 1:
        return operation.ufunc, None
    return operation.ufunc, _along_channels(operation.operand.astype(dtype), y)


def _pooled_shape(layer: IntegerLayer, window: Window, samples: int) -> tuple[int, ...]:
    """Shape of the sums before the graph drops reduced axes: ``[*spatial, channels, samples]``."""
    rank = len(window.kernel_shape)
    sizes = (
        (size + window.pads[axis] + window.pads[axis + rank] - window.kernel_shape[axis]) // window.strides[axis] + 1
        for axis, size in enumerate(layer.input_shape[2:])
    )
    return (*sizes, layer.input_shape[1], samples)


def _along_outputs(values: FloatArray, layer: Weighted) -> FloatArray:
    """Shape per-channel values so that they broadcast against the weights' output channels."""
    if isinstance(layer, FullyConnected):
        return values[None, :]
    rank = layer.weights.ndim - 2
    if isinstance(layer, TransposedConvolution):
        inputs = layer.weights.shape[0] // layer.group
        by_group = values.reshape(layer.group, 1, -1).repeat(inputs, axis=1)
        return by_group.reshape(layer.weights.shape[0], -1, *(1,) * rank)
    return values.reshape(-1, *(1,) * (rank + 1))


def working_set(layer: IntegerLayer) -> int:
    """Float32 values that a layer touches for one sample: input, output and scratch."""
    return math.prod(layer.input_shape) + 2 * math.prod(layer.output_shape)
