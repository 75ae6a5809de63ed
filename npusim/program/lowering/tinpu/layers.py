"""Recognition of layers with weights: Conv, ConvTranspose, Gemm and MatMul with integers on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.graph import Array, Node
from npusim.graph.ranges import ValueRange
from npusim.graph.traits import Trait, operators_with
from npusim.kernels.geometry import resolve_pads
from npusim.program.layers import Convolution, FullyConnected, TransposedConvolution, Weighted, Window
from npusim.program.lowering.tinpu.chain import MAXIMUM_BIAS, Chain, ChainReader, node_label, read_chain
from npusim.program.lowering.tinpu.unfolding import Unfolded, unfold
from npusim.program.lowering.tinpu.view import NotALayer, View, is_integral, per_channel
from npusim.program.requantization import IntegerArray

__all__ = ["WEIGHTED", "infer_weight_bits", "recognise_weighted_layer"]

WEIGHTED: Final = operators_with(Trait.WEIGHTED)
"""Operators that can be layers with weights."""

MAXIMUM_WEIGHT: Final = 255
"""Quantization-aware training leaves the declared range a little; twice the range of 8 bits is simulated and reported, more
is not a weight of the NPU."""


@dataclass(frozen=True, slots=True)
class _Weighted:
    """What the accumulating node itself says."""

    source: str
    weights: Array
    bias: Array | None
    channel_axis: int
    window: Window | None = None
    group: int = 1
    transposed: bool = False

    def by_output(self) -> Array:
        """The weights as [output channels, weights of one channel]; a view where that is possible."""
        if self.window is None:
            return self.weights.T
        if not self.transposed:
            return self.weights.reshape(self.weights.shape[0], -1)
        grouped = self.weights.reshape(self.group, -1, *self.weights.shape[1:])
        return np.moveaxis(grouped, 2, 1).reshape(self.group * self.weights.shape[1], -1)

    def from_outputs(self, rows: IntegerArray) -> IntegerArray:
        """The inverse of `by_output`, for integers."""
        if self.window is None:
            return np.ascontiguousarray(rows.T)
        if not self.transposed:
            return rows.reshape(self.weights.shape)
        outputs, inputs = self.weights.shape[1], self.weights.shape[0] // self.group
        grouped = rows.reshape(self.group, outputs, inputs, *self.weights.shape[2:])
        return np.ascontiguousarray(np.moveaxis(grouped, 2, 1)).reshape(self.weights.shape)


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
        With the reason, when the node or those behind it are not such a layer.
    """
    try:
        found = _read_convolution(view, node) if node.op_type.startswith("Conv") else _read_fully_connected(view, node)
        shape = view.shape(node.outputs[0])
        if 0 in shape:
            raise NotALayer("its result holds no values")
        bias = np.zeros(shape[found.channel_axis])
        if found.bias is not None:
            given = per_channel(found.bias, shape, found.channel_axis)
            if given is None:
                raise NotALayer("its bias is not one integer for each channel")
            bias = given
        numbers = _integers(found, bias)
        if not source_range.is_codes:
            raise NotALayer(f"its input '{found.source}' is not proven to hold integers")
        chain = _chain(view, node, shape, found, numbers, read)
        weights = found.from_outputs(numbers.weights)
        _check_width(found, weights, chain, source_range)
    except NotALayer as finding:
        raise NotALayer(finding.reason, (node, *finding.nodes)) from None
    return _layer(view, node, found, weights, chain), (node, *chain.nodes)


def _chain(view: View, node: Node, shape: tuple[int, ...], found: _Weighted, numbers: Unfolded, read: ChainReader) -> Chain:
    try:
        return read(view, node.outputs[0], shape, found.channel_axis, unfolded=numbers)
    except NotALayer as finding:
        if not numbers.is_scaled:
            raise
        reason = f"its weights are not integers, and with the scale taken out of them {finding.reason}"
        raise NotALayer(reason, finding.nodes) from None


def _layer(view: View, node: Node, found: _Weighted, weights: IntegerArray, chain: Chain) -> Weighted:
    common: dict[str, Any] = {
        "name": node_label(node),
        "inputs": (found.source,),
        "output": chain.output,
        "input_shape": view.shape(found.source),
        "output_shape": view.shape(chain.output),
        "accumulator_shape": view.shape(node.outputs[0]),
        "channel_axis": found.channel_axis,
        "weights": weights,
        "weight_bits": infer_weight_bits(weights, chain.requantization.parameters["scale"]),
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
    weights = _constant_weights(view, node)
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
    weights = _constant_weights(view, node)
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
        if bias is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused as a bias
                bias = np.multiply(bias, node.real("beta", 1.0), dtype=bias.dtype)
    rank = len(view.shape(node.inputs[0]))
    if rank < 2:
        raise NotALayer("its input has no batch axis")
    return _Weighted(node.inputs[0], weights, bias, rank - 1)


def _constant_weights(view: View, node: Node) -> Array:
    if view.constant(node.inputs[0]) is not None:
        raise NotALayer("its first operand is a constant")
    values = view.constant(node.inputs[1])
    if values is None:
        raise NotALayer("its weights are not constant")
    return values


def _integers(found: _Weighted, bias: npt.NDArray[np.float64]) -> Unfolded:
    """Weights and bias in integers: as written, or what is left of them without the scale that a simplifier has folded in."""
    values = found.by_output()
    largest = float(np.abs(values.astype(np.float64)).max(initial=0))
    if not (np.abs(bias) <= MAXIMUM_BIAS).all():
        raise NotALayer(f"its bias passes +-{MAXIMUM_BIAS}, far beyond 24 bits")
    if values.size and is_integral(values) and largest <= MAXIMUM_WEIGHT and is_integral(bias):
        ones, none = np.ones(bias.size, np.int64), np.zeros(bias.size, np.int64)
        return Unfolded(values.astype(np.int64), bias.astype(np.int64), ones, none, none)
    unfolded = unfold(values.astype(np.float64), bias) if values.size else None
    if unfolded is not None:
        return unfolded
    if not is_integral(values):
        raise NotALayer("its weights are not integers: a layer left in float")
    if not values.size or largest > MAXIMUM_WEIGHT:
        raise NotALayer(f"its weights pass +-{MAXIMUM_WEIGHT}, far beyond 8 bits")
    raise NotALayer("its bias is not one integer for each channel")


def _check_width(found: _Weighted, weights: IntegerArray, chain: Chain, source_range: ValueRange) -> None:
    requantization = chain.requantization
    terms = weights.size // max(1, weights.shape[1 if found.window is None else 0])
    if found.transposed:
        terms = weights.size
    largest_code = max(abs(int(source_range.lower)), abs(int(source_range.upper)))
    accumulator = terms * int(np.abs(weights).max()) * largest_code
    domain = requantization.domain
    if not domain.lower < -accumulator <= accumulator < domain.upper:
        raise NotALayer("its accumulator could pass 62 bits")
