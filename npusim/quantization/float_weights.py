"""Layers with weights of a float graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.graph import Array, Node
from npusim.kernels.geometry import resolve_pads
from npusim.lowering.view import View, per_channel
from npusim.program import Window
from npusim.quantization.float_network import FloatArray, FloatKind
from npusim.quantization.refusal import Refusal

__all__ = ["Weighted", "diagonal", "read_weighted"]

LARGEST_DIAGONAL = 1024
"""Most features for which arithmetic on each of them becomes a fully connected layer."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """Weights in ONNX layout (LINEAR: ``[in, out]``), a bias for each output, and the geometry."""

    kind: FloatKind
    weights: FloatArray
    bias: FloatArray
    window: Window | None = None
    group: int = 1

    def scaled(self, gain: FloatArray, offset: FloatArray) -> Weighted:
        """The layer with ``gain * y + offset`` behind it folded in."""
        weights = self.weights
        if self.kind is FloatKind.LINEAR:
            folded = weights * gain
        elif self.kind is FloatKind.CONV:
            folded = weights * gain.reshape(-1, *(1,) * (weights.ndim - 1))
        else:
            parts = weights.reshape(self.group, -1, *weights.shape[1:])
            folded = (parts * gain.reshape(self.group, 1, -1, *(1,) * (weights.ndim - 2))).reshape(weights.shape)
        return Weighted(self.kind, folded, self.bias * gain + offset, self.window, self.group)


def read_weighted(view: View, node: Node) -> Weighted:
    """Read a Conv, ConvTranspose, Gemm or MatMul.

    Raises
    ------
    Refusal
        If its weights are not constant or it has another form than the NPU's layers.
    """
    values = view.constant(node.inputs[1])
    if values is None or view.constant(node.inputs[0]) is not None:
        raise Refusal("its weights are not constant")
    weights = values.astype(np.float64)
    if not np.isfinite(weights).all():
        raise Refusal("its weights are not finite")
    if node.op_type in ("Gemm", "MatMul"):
        return _linear(view, node, weights)
    given = view.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if given is None and len(node.inputs) > 2 and node.inputs[2]:
        raise Refusal("its bias is not constant")
    group = node.integer("group", 1)
    transposed = node.op_type == "ConvTranspose"
    outputs = weights.shape[1] * group if transposed else weights.shape[0]
    bias = np.zeros(outputs) if given is None else given.astype(np.float64).reshape(-1)
    kind = FloatKind.CONV_TRANSPOSE if transposed else FloatKind.CONV
    return Weighted(kind, weights, bias, _window(view, node, weights.shape[2:], transposed), group)


def diagonal(affine_gain: FloatArray, affine_offset: FloatArray, rank: int) -> Weighted:
    """Arithmetic on each channel as a layer: depthwise of 1x1, or for features a fully connected one.

    Raises
    ------
    Refusal
        If there are too many features.
    """
    channels = affine_gain.size
    if rank == 2:
        if channels > LARGEST_DIAGONAL:
            raise Refusal(f"as a layer it would have {channels} x {channels} weights")
        return Weighted(FloatKind.LINEAR, np.diag(affine_gain), affine_offset)
    spatial = rank - 2
    window = Window((1,) * spatial, (1,) * spatial, (0,) * (2 * spatial), (1,) * spatial)
    return Weighted(FloatKind.CONV, affine_gain.reshape(-1, *(1,) * (rank - 1)), affine_offset, window, channels)


def _linear(view: View, node: Node, weights: FloatArray) -> Weighted:
    if weights.ndim != 2 or len(view.shape(node.inputs[0])) != 2:
        raise Refusal("it multiplies more than a vector for each sample by a matrix")
    if node.op_type == "MatMul":
        return Weighted(FloatKind.LINEAR, weights, np.zeros(weights.shape[1]))
    if node.integer("transA", 0):
        raise Refusal("it transposes its input")
    matrix = (weights.T if node.integer("transB", 0) else weights) * node.real("alpha", 1.0)
    outputs = matrix.shape[1]
    if len(node.inputs) < 3 or not node.inputs[2]:
        return Weighted(FloatKind.LINEAR, matrix, np.zeros(outputs))
    given = view.constant(node.inputs[2])
    bias = None if given is None else _features(given, outputs)
    if bias is None:
        raise Refusal("its bias is not one constant for each output")
    return Weighted(FloatKind.LINEAR, matrix, bias * node.real("beta", 1.0))


def _features(value: Array, outputs: int) -> FloatArray | None:
    return per_channel(value, (1, outputs), 1)


def _window(view: View, node: Node, kernel_shape: tuple[int, ...], transposed: bool) -> Window:
    rank = len(kernel_shape)
    ones = (1,) * rank
    strides, dilations = node.integers("strides") or ones, node.integers("dilations") or ones
    explicit, auto_pad = node.integers("pads"), node.text("auto_pad", "NOTSET")
    if transposed:
        if auto_pad not in ("NOTSET", "VALID") or "output_shape" in node.attributes:
            raise Refusal("its padding follows from the output's shape")
        pads = explicit if explicit is not None and auto_pad == "NOTSET" else (0,) * (2 * rank)
        extra = node.integers("output_padding") or (0,) * rank
        return Window(kernel_shape, strides, pads, dilations, output_padding=extra)
    pads = resolve_pads(
        view.shape(node.inputs[0])[2:],
        kernel_shape=kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=explicit,
        auto_pad=auto_pad,
    )
    if min(pads, default=0) < 0:
        raise Refusal("it crops its input by negative padding")
    return Window(kernel_shape, strides, pads, dilations)
