"""Recognition of layers with weights: Conv, ConvTranspose, Gemm and MatMul with integers on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from npusim.graph import Array, Node
from npusim.graph.ranges import ValueRange
from npusim.graph.traits import Trait, operators_with
from npusim.kernels.geometry import resolve_pads
from npusim.program.layers import Convolution, FullyConnected, TransposedConvolution, Weighted, Window
from npusim.program.lowering.tinpu.chain import Chain, ChainReader, node_label, read_chain
from npusim.program.lowering.tinpu.view import NotALayer, View, is_integral, per_channel
from npusim.program.requantization import IntegerArray

__all__ = ["WEIGHTED", "infer_weight_bits", "recognise_weighted_layer"]

WEIGHTED: Final = operators_with(Trait.WEIGHTED)
"""Operators that can be layers with weights."""

MAXIMUM_WEIGHT: Final = 255
"""Quantization-aware training leaves the declared range a little; twice the range of 8 bits is simulated and reported, more
is not a weight of the NPU."""

LARGEST_INTEGER: Final = 2**62
"""Accumulators that could pass this are left to the graph's own arithmetic, so that int64 never wraps."""


@dataclass(frozen=True, slots=True)
class _Weighted:
    """What the accumulating node itself says."""

    source: str
    weights: IntegerArray
    bias: Array | None
    channel_axis: int
    window: Window | None = None
    group: int = 1
    transposed: bool = False


def recognise_weighted_layer(
    view: View, node: Node, source_range: ValueRange, read: ChainReader = read_chain
) -> tuple[Weighted, tuple[Node, ...]]:
    """Read a layer with weights that starts at `node`.

    Returns
    -------
    (layer, nodes)
        The layer and all the nodes it stands for.

    Raises
    ------
    NotALayer
        With the reason, when the node or those behind it are no such layer.
    """
    try:
        found = _read_convolution(view, node) if node.op_type.startswith("Conv") else _read_fully_connected(view, node)
        if not source_range.is_codes:
            raise NotALayer(f"its input '{found.source}' is not proven to hold integers")
        shape = view.shape(node.outputs[0])
        bias = None
        if found.bias is not None:
            bias = per_channel(found.bias, shape, found.channel_axis)
            if bias is None or not is_integral(bias):
                raise NotALayer("its bias is not one integer for each channel")
        chain = read(view, node.outputs[0], shape, found.channel_axis, bias=bias)
        _check_width(found, chain, source_range)
    except NotALayer as finding:
        raise NotALayer(finding.reason, (node, *finding.nodes)) from None
    return _layer(view, node, found, chain), (node, *chain.nodes)


def _layer(view: View, node: Node, found: _Weighted, chain: Chain) -> Weighted:
    common: dict[str, Any] = {
        "name": node_label(node),
        "inputs": (found.source,),
        "output": chain.output,
        "input_shape": view.shape(found.source),
        "output_shape": view.shape(chain.output),
        "accumulator_shape": view.shape(node.outputs[0]),
        "channel_axis": found.channel_axis,
        "weights": found.weights,
        "weight_bits": infer_weight_bits(found.weights, chain.requantization.parameters["scale"]),
        "requantization": chain.requantization,
        "taps": chain.taps,
        "nodes": tuple(node_label(part) for part in (node, *chain.nodes)),
    }
    if found.window is None:
        return FullyConnected(**common)
    kind = TransposedConvolution if found.transposed else Convolution
    return kind(**common, window=found.window, group=found.group)


def infer_weight_bits(weights: IntegerArray, scale: IntegerArray) -> int:
    """The bit width a layer's weights were quantized to: 2, 4 or 8, or what they need when that is more.

    A layer's largest weight magnitude tells: post-training quantization uses the narrow range to its end (1, 7 or 127);
    quantization-aware training leaves it slightly (2-bit weights up to 2, 4-bit ones up to 9 were seen). With 8-bit weights
    the NPU's scale is always 1, so any other scale means fewer bits.

    Examples
    --------
    >>> infer_weight_bits(np.array([-9, 4]), np.array([1]))
    4
    >>> infer_weight_bits(np.array([-12, 4]), np.array([1]))
    8
    >>> infer_weight_bits(np.array([-12, 4]), np.array([200]))
    4
    """
    largest = int(np.abs(weights).max(initial=0))
    if largest <= 2:
        return 2
    if largest <= 9 or (largest <= 15 and not np.isin(scale, (0, 1)).all()):
        return 4
    return 8 if weights.min() >= -128 and weights.max() <= 127 else int(largest).bit_length() + 1


def _read_convolution(view: View, node: Node) -> _Weighted:
    transposed = node.op_type == "ConvTranspose"
    weights = _integer_weights(view, node)
    rank = weights.ndim - 2
    group = node.integer("group", 1)
    bias = view.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if bias is None and len(node.inputs) > 2 and node.inputs[2]:
        raise NotALayer("its bias is not a constant")
    window = _window(view, node, weights.shape[2:], rank, transposed)
    shaped = None if bias is None else bias.reshape(-1, *(1,) * rank)
    return _Weighted(node.inputs[0], weights, shaped, 1, window, group, transposed)


def _window(view: View, node: Node, kernel_shape: tuple[int, ...], rank: int, transposed: bool) -> Window:
    def sizes(name: str, default: int) -> tuple[int, ...]:
        return node.integers(name) or (default,) * rank

    strides, dilations, auto_pad = sizes("strides", 1), sizes("dilations", 1), node.text("auto_pad", "NOTSET")
    explicit = node.integers("pads")
    if not transposed:
        begins_and_ends = resolve_pads(
            view.shape(node.inputs[0])[2:],
            kernel_shape=kernel_shape,
            strides=strides,
            dilations=dilations,
            pads=explicit,
            auto_pad=auto_pad,
        )
        if min(begins_and_ends, default=0) < 0:
            raise NotALayer("it crops its input by negative padding")
        return Window(kernel_shape, strides, begins_and_ends, dilations)
    if auto_pad not in ("NOTSET", "VALID") or "output_shape" in node.attributes:
        raise NotALayer("its padding follows from the output's shape, a form no export of the NPU's layers has")
    padding = explicit if explicit is not None and auto_pad == "NOTSET" else (0,) * (2 * rank)
    return Window(kernel_shape, strides, padding, dilations, output_padding=sizes("output_padding", 0))


def _read_fully_connected(view: View, node: Node) -> _Weighted:
    weights = _integer_weights(view, node)
    if weights.ndim != 2:
        raise NotALayer("its weights are not a matrix")
    bias = None
    if node.op_type == "Gemm":
        if node.integer("transA", 0) or node.real("alpha", 1.0) != 1.0:
            raise NotALayer("it transposes or scales its input")
        weights = weights.T.copy() if node.integer("transB", 0) else weights
        bias = view.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if bias is None and len(node.inputs) > 2 and node.inputs[2]:
            raise NotALayer("its bias is not a constant")
        bias = None if bias is None else np.multiply(bias, node.real("beta", 1.0), dtype=bias.dtype)
    rank = len(view.shape(node.inputs[0]))
    if rank < 2:
        raise NotALayer("its input has no batch axis")
    return _Weighted(node.inputs[0], weights, bias, rank - 1)


def _integer_weights(view: View, node: Node) -> IntegerArray:
    if view.constant(node.inputs[0]) is not None:
        raise NotALayer("its first operand is a constant")
    values = view.constant(node.inputs[1])
    if values is None:
        raise NotALayer("its weights are not constant")
    if not is_integral(values):
        raise NotALayer("its weights are not integers: a layer left in float")
    if values.size == 0 or float(np.abs(values.astype(np.float64)).max()) > MAXIMUM_WEIGHT:
        raise NotALayer(f"its weights pass +-{MAXIMUM_WEIGHT}, far beyond 8 bits")
    return values.astype(np.int64)


def _check_width(found: _Weighted, chain: Chain, source_range: ValueRange) -> None:
    requantization = chain.requantization
    terms = found.weights.size // max(1, found.weights.shape[1 if found.window is None else 0])
    if found.transposed:
        terms = found.weights.size
    largest_code = max(abs(int(source_range.lower)), abs(int(source_range.upper)))
    accumulator = terms * int(np.abs(found.weights).max()) * largest_code
    domain = requantization.domain
    if not domain.lower < -accumulator <= accumulator < domain.upper:
        raise NotALayer("its accumulator could pass 62 bits")
