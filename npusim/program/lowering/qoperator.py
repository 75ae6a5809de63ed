"""QOperator models: one node on codes for each layer, of ONNX and of com.microsoft, into the affine form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from npusim.graph import Node
from npusim.kernels.transcendental import sigmoid
from npusim.program.lowering.affine import (
    AffineForm,
    AffineTensor,
    AverageForm,
    ConcatenationForm,
    Float32Array,
    FunctionForm,
    MatrixProductForm,
    ProductForm,
    SoftmaxForm,
    SumForm,
    WeightedForm,
)
from npusim.program.lowering.operands import NotAffine, Scene, label_of, window_of

__all__ = ["FUSED_OPERATORS", "read_fused"]

FLAT_SOFTMAX: Final = 12
"""Up to this opset a softmax goes over all axes from the named one on."""


def read_fused(scene: Scene, node: Node) -> AffineForm:
    """Read an operator on codes.

    Raises
    ------
    NotAffine
        If it is not one of :data:`FUSED_OPERATORS`, or not in a form that a layer computes; it then runs as its operator says.
    """
    if node.op_type not in FUSED_OPERATORS:
        raise NotAffine("it is not an operator on codes")
    form = FUSED_OPERATORS[node.op_type](scene, node)
    scene.codes[node.outputs[0]] = form.result
    return form


def _fields(scene: Scene, node: Node, scale: int, zero_point: int) -> dict[str, Any]:
    if len(node.inputs) <= scale or not node.inputs[scale]:
        raise NotAffine("it gives real numbers, not codes")
    result = scene.described(node.outputs[0], node, scale, zero_point)
    return {"name": label_of(node), "nodes": (label_of(node),), "result": result, "fused": True}


def _weights(scene: Scene, node: Node, place: int, axis: int) -> AffineTensor:
    found = scene.constant_source(node.inputs[place], node, place + 1, place + 2, axis)
    if found is None:
        raise NotAffine("its weights are not constant")
    return found


def transposed(weights: AffineTensor) -> AffineTensor:
    """A matrix with its axes exchanged."""
    if weights.codes is None or weights.codes.ndim != 2:
        raise NotAffine("its weights are not a matrix")
    axis = None if weights.axis is None else 1 - weights.axis
    codes = np.ascontiguousarray(weights.codes.T)
    return replace(weights, shape=codes.shape, axis=axis, codes=codes)


def _bias(scene: Scene, node: Node, place: int) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    if len(node.inputs) <= place or not node.inputs[place]:
        return None
    value = scene.constant(node.inputs[place])
    if value is None:
        raise NotAffine("its bias is not constant")
    return value.reshape(-1).astype(np.int64)


def _convolution(scene: Scene, node: Node) -> AffineForm:
    source, weights = scene.source(node.inputs[0], node, 1, 2), _weights(scene, node, 3, 0)
    window = window_of(node, source.shape[2:], weights.shape[2:])
    bias, group = _bias(scene, node, 8), node.integer("group", 1)
    fields = _fields(scene, node, 6, 7)
    return WeightedForm(**fields, source=source, weights=weights, bias=bias, window=window, group=group)


def _gemm(scene: Scene, node: Node) -> AffineForm:
    if node.integer("transA", 0) or node.real("alpha", 1.0) != 1.0:
        raise NotAffine("it transposes or scales its input")
    source, turned = scene.source(node.inputs[0], node, 1, 2), node.integer("transB", 0)
    weights = _weights(scene, node, 3, 0 if turned else 1)
    fields = _fields(scene, node, 7, 8)
    return WeightedForm(**fields, source=source, weights=transposed(weights) if turned else weights, bias=_bias(scene, node, 6))


def _matrix_product(scene: Scene, node: Node) -> AffineForm:
    first, fields = scene.source(node.inputs[0], node, 1, 2), _fields(scene, node, 6, 7)
    if scene.constant(node.inputs[3]) is None:
        if len(first.shape) != len(scene.shape(node.inputs[3])) or first.codes is not None:
            raise NotAffine("its operands are not of one rank")
        return MatrixProductForm(**fields, first=first, second=scene.source(node.inputs[3], node, 4, 5))
    weights = _weights(scene, node, 3, len(scene.shape(node.inputs[3])) - 1)
    if first.codes is not None or len(weights.shape) != 2:
        raise NotAffine("its weights are not a matrix, or its first operand is constant")
    return WeightedForm(**fields, source=first, weights=weights)


def _pair(kind: type[SumForm] | type[ProductForm]) -> Callable[[Scene, Node], AffineForm]:
    def read(scene: Scene, node: Node) -> AffineForm:
        first, second = scene.source(node.inputs[0], node, 1, 2), scene.source(node.inputs[3], node, 4, 5)
        if first.codes is not None and second.codes is not None:
            raise NotAffine("both of its operands are constant")
        return kind(**_fields(scene, node, 6, 7), first=first, second=second)

    return read


def _average(scene: Scene, node: Node) -> AffineForm:
    source = scene.source(node.inputs[0], node, 1, 2)
    kernel_shape = node.integers("kernel_shape")
    if kernel_shape is None:
        raise NotAffine("it has no kernel_shape")
    window = window_of(node, source.shape[2:], kernel_shape)
    included = bool(node.integer("count_include_pad", 0))
    return AverageForm(**_fields(scene, node, 3, 4), source=source, window=window, count_include_pad=included)


def _plane_average(scene: Scene, node: Node) -> AffineForm:
    return AverageForm(**_fields(scene, node, 3, 4), source=scene.source(node.inputs[0], node, 1, 2))


def _leaky_relu(scene: Scene, node: Node) -> AffineForm:
    slope = np.float32(node.real("alpha", 0.01))

    def function(real: Float32Array) -> Float32Array:
        return np.where(real < 0, real * slope, real)

    source = scene.source(node.inputs[0], node, 1, 2)
    return FunctionForm(**_fields(scene, node, 3, 4), source=source, label=f"LeakyRelu({slope:.4g})", function=function)


def _sigmoid(scene: Scene, node: Node) -> AffineForm:
    source = scene.source(node.inputs[0], node, 1, 2)
    return FunctionForm(**_fields(scene, node, 3, 4), source=source, label="Sigmoid", function=sigmoid)


def _softmax(scene: Scene, node: Node) -> AffineForm:
    source = scene.source(node.inputs[0], node, 1, 2)
    flat = node.integer("opset", scene.graph.opset) <= FLAT_SOFTMAX
    axis = node.integer("axis", -1) % len(source.shape)
    return SoftmaxForm(**_fields(scene, node, 3, 4), source=source, axis=axis, flat=flat)


def _concatenation(scene: Scene, node: Node) -> AffineForm:
    places = range(2, len(node.inputs), 3)
    sources = tuple(scene.source(node.inputs[place], node, place + 1, place + 2) for place in places)
    if any(source.codes is not None for source in sources):
        raise NotAffine("an operand is constant")
    axis = node.integer("axis", 0) % len(sources[0].shape)
    return ConcatenationForm(**_fields(scene, node, 0, 1), sources=sources, axis=axis)


FUSED_OPERATORS: Final[Mapping[str, Callable[[Scene, Node], AffineForm]]] = MappingProxyType(
    {
        "QGemm": _gemm,
        "QLinearAdd": _pair(SumForm),
        "QLinearAveragePool": _average,
        "QLinearConcat": _concatenation,
        "QLinearConv": _convolution,
        "QLinearGlobalAveragePool": _plane_average,
        "QLinearLeakyRelu": _leaky_relu,
        "QLinearMatMul": _matrix_product,
        "QLinearMul": _pair(ProductForm),
        "QLinearSigmoid": _sigmoid,
        "QLinearSoftmax": _softmax,
    }
)
"""How each operator is read."""
