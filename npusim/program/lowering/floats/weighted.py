"""Layers with weights of a float graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from npusim.graph import Array, Node
from npusim.kernels.geometry import resolve_pads
from npusim.program.layers import Window
from npusim.program.lowering.floats.affine import Affine, FloatArray
from npusim.program.lowering.floats.refusal import Refusal
from npusim.program.lowering.tinpu.view import View, per_channel

__all__ = ["Parameters", "WeightForm", "along_outputs", "read_parameters", "read_window"]


class WeightForm(StrEnum):
    """How weights are laid out.

    CONV ``[out, in / group, *kernel]``, CONV_TRANSPOSE ``[in, out / group, *kernel]``, LINEAR ``[in, out]``.
    """

    CONV = "conv"
    CONV_TRANSPOSE = "conv_transpose"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True)
class Parameters:
    """Weights, a bias for each output, and the groups of a convolution."""

    form: WeightForm
    weights: FloatArray
    bias: FloatArray
    group: int = 1

    def followed_by(self, affine: Affine) -> Parameters:
        """The layer with ``gain * y + offset`` behind it folded in."""
        return Parameters(self.form, self.scaled(affine.gain), self.bias * affine.gain + affine.offset, self.group)

    def scaled(self, factors: FloatArray) -> FloatArray:
        """The weights, those of each output channel times its factor."""
        weights = self.weights
        if self.form is WeightForm.LINEAR:
            return weights * factors
        if self.form is WeightForm.CONV:
            return weights * factors.reshape(-1, *(1,) * (weights.ndim - 1))
        parts = weights.reshape(self.group, -1, *weights.shape[1:])
        return (parts * factors.reshape(self.group, 1, -1, *(1,) * (weights.ndim - 2))).reshape(weights.shape)

    @property
    def matrix(self) -> FloatArray:
        """The weights of each output in a row, ``[outputs, values]``."""
        weights = self.weights
        if self.form is WeightForm.LINEAR:
            return weights.T
        if self.form is WeightForm.CONV:
            return weights.reshape(len(weights), -1)
        split = weights.reshape(self.group, weights.shape[0] // self.group, *weights.shape[1:])
        return np.moveaxis(split, 2, 1).reshape(self.group * weights.shape[1], -1)


def read_parameters(node: Node, constants: Mapping[str, Array]) -> Parameters:
    """Weights and bias of a Conv, ConvTranspose, Gemm or MatMul.

    Raises
    ------
    Refusal
        If they are not constant, not finite, or not a matrix where one is wanted.
    """
    values = constants.get(node.inputs[1])
    if values is None or node.inputs[0] in constants:
        raise Refusal("its weights are not constant")
    weights = values.astype(np.float64)
    if not np.isfinite(weights).all():
        raise Refusal("its weights are not finite")
    given = None
    if len(node.inputs) > 2 and node.inputs[2]:
        given = constants.get(node.inputs[2])
        if given is None:
            raise Refusal("its bias is not constant")
    if node.op_type in ("Gemm", "MatMul"):
        return _linear(node, weights, given)
    group = node.integer("group", 1)
    form = WeightForm.CONV_TRANSPOSE if node.op_type == "ConvTranspose" else WeightForm.CONV
    outputs = weights.shape[1] * group if form is WeightForm.CONV_TRANSPOSE else weights.shape[0]
    bias = np.zeros(outputs) if given is None else given.astype(np.float64).reshape(-1)
    return Parameters(form, weights, bias, group)


def _linear(node: Node, weights: FloatArray, given: Array | None) -> Parameters:
    if weights.ndim != 2:
        raise Refusal("it multiplies more than a vector for each sample by a matrix")
    if node.op_type == "MatMul":
        return Parameters(WeightForm.LINEAR, weights, np.zeros(weights.shape[1]))
    if node.integer("transA", 0):
        raise Refusal("it transposes its input")
    matrix = (weights.T if node.integer("transB", 0) else weights) * node.real("alpha", 1.0)
    outputs = matrix.shape[1]
    if given is None:
        return Parameters(WeightForm.LINEAR, matrix, np.zeros(outputs))
    bias = per_channel(given, (1, outputs), 1)
    if bias is None:
        raise Refusal("its bias is not one constant for each output")
    return Parameters(WeightForm.LINEAR, matrix, bias * node.real("beta", 1.0))


def along_outputs(node: Node, values: FloatArray, rank: int) -> FloatArray:
    """Values of each output channel, shaped so that they broadcast along that axis of the weights as a node has them."""
    if node.op_type == "ConvTranspose" and node.integer("group", 1) > 1:
        return np.ones((1,) * rank)
    last = node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.integer("transB", 0))
    axis = 1 if last or node.op_type == "ConvTranspose" else 0
    return values.reshape(*(1,) * axis, -1, *(1,) * (rank - 1 - axis))


def read_window(view: View, node: Node, parameters: Parameters) -> Window | None:
    """The window of a layer with weights that the NPU can have; None for a fully connected one.

    Raises
    ------
    Refusal
        If it has another form than the NPU's layers.
    """
    source = view.shape(node.inputs[0])
    if parameters.form is WeightForm.LINEAR:
        if len(source) != 2:
            raise Refusal("it multiplies more than a vector for each sample by a matrix")
        return None
    kernel_shape = parameters.weights.shape[2:]
    rank = len(kernel_shape)
    ones = (1,) * rank
    strides, dilations = node.integers("strides") or ones, node.integers("dilations") or ones
    explicit, auto_pad = node.integers("pads"), node.text("auto_pad", "NOTSET")
    if parameters.form is WeightForm.CONV_TRANSPOSE:
        if auto_pad not in ("NOTSET", "VALID") or "output_shape" in node.attributes:
            raise Refusal("its padding follows from the output's shape")
        pads = explicit if explicit is not None and auto_pad == "NOTSET" else (0,) * (2 * rank)
        extra = node.integers("output_padding") or (0,) * rank
        return Window(kernel_shape, strides, pads, dilations, output_padding=extra)
    pads = resolve_pads(
        source[2:],
        kernel_shape=kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=explicit,
        auto_pad=auto_pad,
    )
    if min(pads, default=0) < 0:
        raise Refusal("it crops its input by negative padding")
    return Window(kernel_shape, strides, pads, dilations)
