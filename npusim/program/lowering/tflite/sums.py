"""Layers that sum up: convolutions, FULLY_CONNECTED, pools, MEAN."""

from __future__ import annotations

import math
from operator import lt
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.errors import ModelError, UnsupportedError
from npusim.graph import Node
from npusim.graph.folding import MAXIMUM_ELEMENTS
from npusim.kernels.qlinear import Affine
from npusim.kernels.tflite import Activation, activation_range, mean_multiplier
from npusim.program.direct import Average, Table
from npusim.program.divide import Divide
from npusim.program.fixed_point import FixedPoint
from npusim.program.layers import (
    AveragePool,
    Convolution,
    FullyConnected,
    MaxPool,
    TransposedConvolution,
    Window,
)
from npusim.program.lowering.tflite.walk import Walk
from npusim.program.requantization import Clip, IntegerArray
from npusim.program.runtime_layers import RuntimeMean, WindowMean

__all__ = ["SUMS", "centred_clip", "same_codes"]

WEIGHT_BITS: Final = 8

UINT8_HIGHEST: Final = 255


def centred_clip(node: Node, result: Affine) -> Clip:
    """The range of a fused activation, less the zero point."""
    name = node.text("activation", "NONE")
    if name not in Activation.__members__:
        raise UnsupportedError(f"{node} has the fused activation {name}; runtimes compute NONE, RELU, RELU_N1_TO_1 and RELU6")
    lower, upper = activation_range(Activation[name], result)
    if lower > upper:
        raise ModelError(f"{node} has the activation {name}, which leaves no code of its output; the model is damaged")
    return Clip(lower - result.zero_point, upper - result.zero_point)


def same_codes(walk: Walk, node: Node, names: tuple[str, ...]) -> None:
    """Make sure that tensors share scale and zero point, as runtimes demand it where they only move codes.

    Raises
    ------
    UnsupportedError
        If they do not.
    """
    kinds = {str(walk.graph.types[name].dtype) for name in names}
    coded = [name for name in names if walk.is_coded(name)]
    if len(kinds) > 1 or 0 < len(coded) < len(names):
        raise UnsupportedError(
            f"{node} moves data between tensors of which only some are quantized, of {', '.join(sorted(kinds))}"
        )
    if not coded:
        return
    wanted = walk.affine(coded[0])
    for name in coded[1:]:
        if walk.affine(name) != wanted:
            raise UnsupportedError(
                f"{node} moves codes from '{coded[0]}' to '{name}', which have other scales or zero points; convert the "
                "model again"
            )


def _weights(walk: Walk, node: Node, name: str) -> tuple[IntegerArray, npt.NDArray[np.float32], int]:
    """Constant weights less their zero point, their scales, and the axis of those."""
    value = walk.value(name, node, "its weights")
    coding = walk.graph.quantization.get(name)
    if coding is None or value.dtype.name not in ("int8", "uint8"):
        raise UnsupportedError(f"{node} has weights '{name}' of type {value.dtype}, wanted int8 with scales")
    points = coding.zero_points
    if value.dtype == np.uint8 or points.any():
        raise UnsupportedError(
            f"{node} has weights '{name}' of type {value.dtype} with zero point {int(points.reshape(-1)[0])}, a form of "
            "before 2019; "
            "convert the model to int8"
        )
    return value.astype(np.int64), coding.scales, coding.axis


def _bias(walk: Walk, node: Node, position: int, channels: int) -> IntegerArray:
    if len(node.inputs) <= position or not node.inputs[position]:
        return np.zeros(channels, np.int64)
    value = walk.value(node.inputs[position], node, "its bias")
    if value.dtype.name not in ("int32", "int64") or value.size != channels:
        raise ModelError(f"{node} has a bias of {value.size} {value.dtype}, wanted {channels} int32 or int64")
    return value.astype(np.int64).reshape(-1)


def _scales_along(node: Node, scales: npt.NDArray[np.float32], axis: int, wanted: int) -> npt.NDArray[np.float32]:
    if scales.size > 1 and axis != wanted:
        raise UnsupportedError(f"{node} has scales of its weights along axis {axis}, runtimes want them along axis {wanted}")
    return scales


def same_padding(size: int, kernel: int, stride: int, dilation: int, padding: str) -> tuple[int, int, int]:
    """Padding before and behind, and the number of windows.

    Examples
    --------
    >>> same_padding(8, 3, 2, 1, "SAME"), same_padding(8, 3, 2, 1, "VALID")
    ((0, 1, 4), (0, 0, 3))
    """
    reach = (kernel - 1) * dilation + 1
    if padding == "VALID":
        return 0, 0, (size - reach) // stride + 1 if size >= reach else 0
    windows = -(-size // stride)
    total = max((windows - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2, windows


def _strides(node: Node) -> tuple[int, int]:
    strides = node.integer("stride_h", 0), node.integer("stride_w", 0)
    if min(strides) < 1:
        raise ModelError(f"{node} has strides {strides}, wanted 1 or more")
    return strides


def _window(
    node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...], explicit: tuple[int, ...] | None
) -> tuple[Window, tuple[int, ...]]:
    """Geometry of a convolution or pool, and how many windows there are."""
    strides = _strides(node)
    dilations = node.integer("dilation_h", 1), node.integer("dilation_w", 1)
    if min(dilations) < 1 or min(kernel) < 1:
        raise ModelError(f"{node} has a kernel of {kernel} and dilations {dilations}, wanted 1 or more")
    if explicit is not None:
        # behind SPACE_TO_BATCH_ND: begins and ends of both axes
        ends = [
            (
                explicit[axis],
                explicit[axis + 2],
                (spatial[axis] + explicit[axis] + explicit[axis + 2] - (kernel[axis] - 1) * dilations[axis] - 1)
                // strides[axis]
                + 1,
            )
            for axis in (0, 1)
        ]
    else:
        padding = node.text("padding", "SAME")
        ends = [
            same_padding(size, length, stride, dilation, padding)
            for size, length, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True)
        ]
    begin, end, windows = zip(*ends, strict=True)
    if min(windows) < 1:
        raise ModelError(f"{node} has a kernel of {kernel} on data of {spatial}, which is smaller; the model is damaged")
    padded = tuple(map(sum, zip(spatial, begin, end, strict=True)))
    if math.prod(padded) > MAXIMUM_ELEMENTS:
        raise UnsupportedError(
            f"{node} pads its input to {padded}, more than {MAXIMUM_ELEMENTS} elements; check its dilations {dilations}"
        )
    return Window(kernel, strides, (*begin, *end), dilations), windows


def _image(walk: Walk, node: Node, name: str) -> tuple[int, ...]:
    shape = walk.shape(name)
    if len(shape) != 4:
        raise ModelError(f"{node} works on a tensor with {len(shape)} axes, wanted 4")
    return shape


def convolution(walk: Walk, node: Node) -> None:
    """CONV_2D, with groups where the weights have fewer channels than the data, and DEPTHWISE_CONV_2D."""
    source, (weights, scales, axis) = node.inputs[0], _weights(walk, node, node.inputs[1])
    batch, height, width, channels = _image(walk, node, source)
    if weights.ndim != 4:
        raise ModelError(f"{node} has weights with {weights.ndim} axes, wanted 4")
    depthwise = node.op_type == "DEPTHWISE_CONV_2D"
    if depthwise:
        # [1, height, width, out]
        if weights.shape[0] != 1 or weights.shape[3] % channels:
            raise ModelError(f"{node} has weights {weights.shape} for {channels} channels; they do not fit")
        group, arranged = channels, weights.transpose(3, 0, 1, 2)
    else:
        # [out, height, width, in / group]
        if channels % weights.shape[3] or weights.shape[0] % (channels // weights.shape[3]):
            raise ModelError(f"{node} has weights {weights.shape} for {channels} channels; they do not fit")
        group, arranged = channels // weights.shape[3], weights.transpose(0, 3, 1, 2)
    count, kernel = arranged.shape[0], (arranged.shape[2], arranged.shape[3])
    window, windows = _window(node, (height, width), kernel, node.integers("pads"))
    result = walk.affine(node.outputs[0])
    requantization = walk.arithmetic.weighted(
        walk.affine(source),
        _scales_along(node, scales, axis, 3 if depthwise else 0),
        result,
        _bias(walk, node, 2, count),
        centred_clip(node, result),
        node.op_type,
        grouped=not depthwise and group > 1,
    )
    held = walk.held(source, first=True)
    place = walk.declare(node.outputs[0], (batch, *windows, count), first=True)
    walk.steps.append(
        Convolution(
            **walk.fields(node, (held,), place),
            accumulator_shape=place.held,
            channel_axis=1,
            requantization=requantization,
            taps=(),
            weights=np.ascontiguousarray(arranged),
            weight_bits=WEIGHT_BITS,
            window=window,
            group=group,
        )
    )


def transposed_convolution(walk: Walk, node: Node) -> None:
    """TRANSPOSE_CONV: output shape, weights ``[out, height, width, in]``, data, bias."""
    wanted = walk.whole_numbers(node.inputs[0], node, "the shape of its output")
    source, (weights, scales, axis) = node.inputs[2], _weights(walk, node, node.inputs[1])
    batch, *spatial, channels = _image(walk, node, source)
    if weights.ndim != 4 or weights.shape[3] != channels or len(wanted) != 4 or wanted[3] != weights.shape[0]:
        raise ModelError(f"{node} has weights {weights.shape} and the output {wanted} for {channels} channels; they do not fit")
    strides, kernel, sizes = _strides(node), weights.shape[1:3], wanted[1:3]
    begins, ends, more = [], [], []
    for size, length, stride, out in zip(spatial, kernel, strides, sizes, strict=True):
        before, _, windows = same_padding(out, length, stride, 1, node.text("padding", "SAME"))
        if windows != size:
            raise ModelError(f"{node} makes {out} of {size} with stride {stride}, which does not fit; the model is damaged")
        whole = (size - 1) * stride + length
        begins.append(before)
        ends.append(max(whole - before - out, 0))
        more.append(max(out - (whole - before), 0))
    result = walk.affine(node.outputs[0])
    # XNNPACK wants the output's shape in the file, and with SAME a kernel that is not shorter than the stride
    short = node.text("padding", "SAME") == "SAME" and any(map(lt, kernel, strides))
    requantization = walk.arithmetic.weighted(
        walk.affine(source),
        _scales_along(node, scales, axis, 0),
        result,
        _bias(walk, node, 3, wanted[3]),
        centred_clip(node, result),
        node.op_type,
        delegated=node.inputs[0] in walk.graph.constants and not short,
    )
    held = walk.held(source, first=True)
    place = walk.declare(node.outputs[0], (batch, *sizes, wanted[3]), first=True)
    walk.steps.append(
        TransposedConvolution(
            **walk.fields(node, (held,), place),
            accumulator_shape=place.held,
            channel_axis=1,
            requantization=requantization,
            taps=(),
            weights=np.ascontiguousarray(weights.transpose(3, 0, 1, 2)),
            weight_bits=WEIGHT_BITS,
            window=Window(tuple(kernel), strides, (*begins, *ends), (1, 1), output_padding=tuple(more)),
            group=1,
        )
    )


def fully_connected(walk: Walk, node: Node) -> None:
    """FULLY_CONNECTED: weights ``[out, in]``; the data is taken as rows of `in`."""
    source, (weights, scales, axis) = node.inputs[0], _weights(walk, node, node.inputs[1])
    if node.text("weights_format", "DEFAULT") != "DEFAULT":
        raise UnsupportedError(f"{node} has shuffled weights, which npusim does not read; convert the model again")
    shape = walk.shape(source)
    if weights.ndim != 2 or math.prod(shape) % weights.shape[1]:
        raise ModelError(f"{node} has weights {weights.shape} for data {shape}; they do not fit")
    outputs, inputs = weights.shape
    keeps = bool(node.integer("keep_num_dims", 0))
    if keeps and shape[-1] != inputs:
        raise ModelError(f"{node} has weights {weights.shape} for data {shape}; they do not fit")
    rows = (math.prod(shape) // inputs, inputs)
    result = walk.affine(node.outputs[0])
    requantization = walk.arithmetic.weighted(
        walk.affine(source),
        _scales_along(node, scales, axis, 0),
        result,
        _bias(walk, node, 2, outputs),
        centred_clip(node, result),
        node.op_type,
    )
    held = walk.held(source, first=False)
    entering = shape if keeps else rows
    if entering != shape:
        target = walk.constant(walk.reshape_target(shape, rows), source)
        flat = f"{source}:rows:{node.outputs[0]}"
        walk.host("Reshape", (held, target), flat, "it only gives the same data another shape")
        walk.copy(flat, source, rows)
        held = flat
    place = walk.declare(node.outputs[0], (*entering[:-1], outputs), first=False)
    walk.steps.append(
        FullyConnected(
            **walk.fields(node, (held,), place),
            accumulator_shape=place.held,
            channel_axis=len(entering) - 1,
            requantization=requantization,
            taps=(),
            weights=np.ascontiguousarray(weights.T),
            weight_bits=WEIGHT_BITS,
        )
    )


def pool(walk: Walk, node: Node) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    source, output = node.inputs[0], node.outputs[0]
    batch, height, width, channels = _image(walk, node, source)
    kernel = (node.integer("filter_h", 0), node.integer("filter_w", 0))
    window, windows = _window(node, (height, width), kernel, None)
    same_codes(walk, node, (source, output))
    affine = walk.affine(source)
    clip, whole = centred_clip(node, affine), centred_clip(Node("", "", (), ()), affine)
    held = walk.held(source, first=True)
    place = walk.declare(output, (batch, *windows, channels), first=True)
    common = walk.fields(node, (held,), place)
    if node.op_type == "MAX_POOL_2D":
        if clip == whole:
            walk.steps.append(MaxPool(**common, window=window))
            return
        inner = walk.copy(f"{place.name}:maximum", source, place.shape, first=True)
        walk.steps.append(MaxPool(**walk.fields(node, (held,), inner), window=window))
        values = np.clip(np.arange(whole.lower, whole.upper + 1, dtype=np.int64), clip.lower, clip.upper)
        entering = walk.fields(node, (inner.name,), place)
        walk.steps.append(Table(**entering, label=node.text("activation", "NONE"), lowest=whole.lower, values=values))
        return
    if any(window.pads) or not _covered((height, width), window, windows):
        averaging = WindowMean(window, affine.zero_point, clip)
        walk.steps.append(Average(**common, averaging=averaging))
        return
    count = np.full(channels, math.prod(kernel), np.int64)
    walk.steps.append(
        AveragePool(
            **common,
            accumulator_shape=place.held,
            channel_axis=1,
            requantization=Divide(count, affine.zero_point, clip=clip),
            taps=(),
            window=window,
        )
    )


def _covered(spatial: tuple[int, int], window: Window, windows: tuple[int, ...]) -> bool:
    """Whether no window reaches beyond the data."""
    return all(
        (count - 1) * stride + length <= size
        for size, count, stride, length in zip(spatial, windows, window.strides, window.kernel_shape, strict=True)
    )


def mean(walk: Walk, node: Node) -> None:
    """MEAN over any axes but the first."""
    source, output = node.inputs[0], node.outputs[0]
    shape = walk.shape(source)
    rank = len(shape)
    given = walk.whole_numbers(node.inputs[1], node, "its axes")
    if any(not -rank <= axis < rank for axis in given):
        raise ModelError(f"{node} averages over axes {given} of data with {rank} axes")
    axes = tuple(sorted({axis % rank for axis in given}))
    if 0 in axes:
        raise UnsupportedError(f"{node} averages over the first axis, which counts samples here; export it without")
    count = math.prod(shape[axis] for axis in axes)
    keeps = bool(node.integer("keep_dims", 0))
    left = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keeps or axis not in axes)
    affine, result = walk.affine(source), walk.affine(output)
    whole = Clip(result.lower - result.zero_point, result.upper - result.zero_point)
    summed = rank == 4 and axes == (1, 2)
    held = walk.held(source, first=summed)
    place = walk.declare(output, left, first=summed and keeps)
    common = walk.fields(node, (held,), place)
    # LiteRT's own kernel for images does not round as its general one
    in_rows = summed and keeps and len(given) == len(axes) and walk.arithmetic.optimized and affine.upper <= UINT8_HIGHEST
    if not summed or walk.arithmetic.xnnpack or in_rows:
        held_axes = (2, 3) if summed else axes
        formula = walk.arithmetic.mean(affine, result, count, in_rows=in_rows)
        averaging = RuntimeMean(held_axes, formula, count, affine.zero_point, result.zero_point)
        walk.steps.append(Average(**common, averaging=averaging))
        return
    channels = shape[3]
    multiplier, exponent = mean_multiplier(affine.scale, result.scale, count)
    walk.steps.append(
        AveragePool(
            **common,
            accumulator_shape=place.held,
            channel_axis=1,
            requantization=FixedPoint(
                np.zeros(channels, np.int64),
                np.full(channels, multiplier, np.int64),
                np.full(channels, exponent, np.int64),
                walk.arithmetic.rounding,
                clip=whole,
            ),
            taps=(),
            window=Window(shape[1:3], (1, 1), (0, 0, 0, 0), (1, 1)),
        )
    )


SUMS: Final = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": convolution,
    "TRANSPOSE_CONV": transposed_convolution,
    "FULLY_CONNECTED": fully_connected,
    "AVERAGE_POOL_2D": pool,
    "MAX_POOL_2D": pool,
    "MEAN": mean,
}
"""The operators that sum up, and what lowers them."""
