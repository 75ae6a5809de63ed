"""QDQ models: float operators between DequantizeLinear and QuantizeLinear, into the affine form.

Written by onnxruntime.quantization, by torch's FX quantization and by TI's wrappers. Exporters differ in their constants,
which folding has made plain; what is left is an operator whose operands are dequantized and whose result is quantized, perhaps
behind a Relu or Clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from npusim.graph import Node
from npusim.graph.traits import Trait, is_a
from npusim.program.lowering.affine import (
    NO_ACTIVATION,
    Activation,
    AffineForm,
    AffineTensor,
    AverageForm,
    ConcatenationForm,
    Float32Array,
    FunctionForm,
    MatrixProductForm,
    MaximumForm,
    ProductForm,
    SoftmaxForm,
    SumForm,
    WeightedForm,
)
from npusim.program.lowering.operands import NotAffine, Scene, label_of, window_of
from npusim.program.lowering.qoperator import transposed
from npusim.program.requantization import IntegerArray

__all__ = ["LIMITS", "read_maximum", "read_quantized"]

LIMITS: Final = frozenset(("Relu", "Clip"))
"""Activations that saturation at other codes is the same as."""

AVERAGES_IN_WINDOW_ORDER: Final = 19
"""From this operator set on ONNX Runtime has another kernel for AveragePool."""


def read_quantized(scene: Scene, node: Node) -> AffineForm:
    """Read the layer whose result a QuantizeLinear makes codes of.

    Raises
    ------
    NotAffine
        If what is before it is not a layer on codes; it then quantizes floats that the graph computes.
    """
    result = scene.described(node.outputs[0], node, 1, 2)
    name = node.inputs[0]
    if name in scene.real:
        return FunctionForm(
            name=label_of(node),
            nodes=(label_of(node),),
            result=result,
            source=scene.real[name],
            label=FunctionForm.ANOTHER_SCALE,
            function=_same,
        )
    activation, core, nodes = _behind_limits(scene, name)
    reader = OPERATORS.get(core.op_type)
    fields = {
        "name": label_of(core),
        "nodes": tuple(label_of(part) for part in (core, *reversed(nodes), node)),
        "result": result,
        "activation": activation,
    }
    if reader is not None and not core.domain:
        try:
            return reader(scene, core, fields)
        except NotAffine:
            if core.op_type not in ("Add", "Mul"):
                raise
    return _function(scene, name, node, result)


def _same(real: Float32Array) -> Float32Array:
    return real


def _behind_limits(scene: Scene, name: str) -> tuple[Activation, Node, list[Node]]:
    """The operator before the activations in front of a QuantizeLinear, and those activations, the last one first."""
    activation, nodes = NO_ACTIVATION, list[Node]()
    while True:
        node = scene.producers.get(name)
        if node is None:
            raise NotAffine("it quantizes an input")
        if not scene.has_one_reader(name):
            raise NotAffine(f"'{name}' is read in float as well")
        if node.op_type not in LIMITS or node.domain or node.inputs[0] in scene.real:
            return activation, node, nodes
        limits = _limits(scene, node)
        activation = Activation(max(activation.lower, limits.lower), min(activation.upper, limits.upper))
        if activation.lower > activation.upper:
            raise NotAffine("its activations leave no value")
        nodes.append(node)
        name = node.inputs[0]


def _limits(scene: Scene, node: Node) -> Activation:
    if node.op_type == "Relu":
        return Activation(0.0)
    ends = []
    for place, attribute, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        value: Any = node.attributes.get(attribute, default)
        if len(node.inputs) > place and node.inputs[place]:
            constant = scene.constant(node.inputs[place])
            if constant is None or constant.size != 1:
                raise NotAffine("its limits are not constant")
            value = constant.reshape(-1)[0]
        ends.append(float(value))
    return Activation(*ends)


def _function(scene: Scene, name: str, node: Node, result: AffineTensor) -> AffineForm:
    """A function of one tensor of codes, element by element, of whatever operators it is made."""
    sources = _sources(scene, name)
    if len(sources) != 1:
        raise NotAffine("it is not a function of one tensor of codes")
    (source,) = sources
    function = scene.function_of(name, source)
    last = scene.producers[name]
    return FunctionForm(
        name=label_of(last),
        nodes=(label_of(last), label_of(node)),
        result=result,
        source=scene.real[source],
        label=last.op_type,
        function=function,
        is_free=_is_free(scene, name, source),
    )


def _is_free(scene: Scene, name: str, source: str) -> bool:
    """Whether a function is made of operators that IEEE 754 does not define to the last bit."""
    waiting, seen = [name], {source}
    while waiting:
        item = waiting.pop()
        node = scene.producers.get(item)
        if item in seen or node is None:
            continue
        seen.add(item)
        if is_a(node.op_type, Trait.FUNCTION):
            return True
        waiting.extend(node.inputs)
    return False


def _sources(scene: Scene, name: str) -> set[str]:
    """The real tensors that codes stand for, from which others a tensor is computed."""
    found, waiting, seen = set[str](), [name], set[str]()
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        node = scene.producers.get(item)
        if item in scene.real:
            found.add(item)
        elif node is None:
            raise NotAffine(f"'{item}' is not dequantized from codes")
        else:
            waiting.extend(part for part in node.inputs if part and scene.constant(part) is None)
    return found


Fields = dict[str, Any]


def _weights(scene: Scene, name: str, axis: int) -> AffineTensor:
    found = scene.dequantized(name)
    if found is None:
        raise NotAffine("its weights are not dequantized from constant codes")
    if found.axis not in (None, axis):
        raise NotAffine("the scales of its weights do not vary along the output channels")
    return found


def _bias(scene: Scene, node: Node, source: AffineTensor, weights: AffineTensor, channels: int) -> Fields:
    """The bias in integers where the file has it so, and as the float graph adds it."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return {}
    value = scene.constant(node.inputs[2])
    if value is None or value.dtype != np.float32 or value.size not in (1, channels):
        raise NotAffine("its bias is not one constant for each channel")
    real: Float32Array = np.broadcast_to(value.reshape(-1), (channels,))
    return {"bias": _integer_bias(scene, node.inputs[2], source, weights, channels), "real_bias": real}


def _integer_bias(scene: Scene, name: str, source: AffineTensor, weights: AffineTensor, channels: int) -> IntegerArray | None:
    """The codes of a bias, where one of them is one unit of the accumulator."""
    found = scene.dequantized(name)
    if found is None:
        return None
    unit = source.scale * weights.scale
    if not np.allclose(found.scale, unit, rtol=1e-5, atol=0):
        return None
    return np.broadcast_to(found.centred.reshape(-1), (channels,))


def _convolution(scene: Scene, node: Node, fields: Fields) -> AffineForm:
    source, weights = scene.operand(node.inputs[0]), _weights(scene, node.inputs[1], 0)
    window = window_of(node, source.shape[2:], weights.shape[2:])
    bias = _bias(scene, node, source, weights, weights.shape[0])
    group = node.integer("group", 1)
    return WeightedForm(**fields, source=source, weights=weights, window=window, group=group, **bias)


def _gemm(scene: Scene, node: Node, fields: Fields) -> AffineForm:
    if node.integer("transA", 0) or node.real("alpha", 1.0) != 1.0 or node.real("beta", 1.0) != 1.0:
        raise NotAffine("it transposes or scales its input or scales its bias")
    source, turned = scene.operand(node.inputs[0]), node.integer("transB", 0)
    weights = _weights(scene, node.inputs[1], 0 if turned else 1)
    weights = transposed(weights) if turned else weights
    if source.codes is not None:
        raise NotAffine("its first operand is constant")
    return WeightedForm(**fields, source=source, weights=weights, **_bias(scene, node, source, weights, weights.shape[1]))


def _matrix_product(scene: Scene, node: Node, fields: Fields) -> AffineForm:
    first = scene.operand(node.inputs[0])
    if first.codes is not None:
        raise NotAffine("its first operand is constant")
    if scene.constant(node.inputs[1]) is None:
        second = scene.operand(node.inputs[1])
        if len(first.shape) != len(second.shape):
            raise NotAffine("its operands are not of one rank")
        return MatrixProductForm(**fields, first=first, second=second)
    weights = _weights(scene, node.inputs[1], len(scene.shape(node.inputs[1])) - 1)
    if len(weights.shape) != 2:
        raise NotAffine("its weights are not a matrix")
    return WeightedForm(**fields, source=first, weights=weights)


def _pair(kind: type[SumForm] | type[ProductForm]) -> Callable[[Scene, Node, Fields], AffineForm]:
    def read(scene: Scene, node: Node, fields: Fields) -> AffineForm:
        first, second = (scene.operand(name) for name in node.inputs)
        for part in (first, second):
            if part.scale.size != 1:
                raise NotAffine("an operand has a scale for each channel")
        return kind(**fields, first=first, second=second)

    return read


def _average(scene: Scene, node: Node, fields: Fields) -> AffineForm:
    source = scene.operand(node.inputs[0])
    kernel_shape = node.integers("kernel_shape") or ()
    window = window_of(node, source.shape[2:], kernel_shape)
    if any(step != 1 for step in window.dilations):
        raise NotAffine("its windows are dilated")
    included = bool(node.integer("count_include_pad", 0))
    in_order = scene.graph.opset >= AVERAGES_IN_WINDOW_ORDER
    return AverageForm(**fields, source=source, window=window, count_include_pad=included, in_window_order=in_order)


def _plane_average(scene: Scene, node: Node, fields: Fields) -> AffineForm:
    return AverageForm(**fields, source=scene.operand(node.inputs[0]))


def _softmax(scene: Scene, node: Node, fields: Fields) -> AffineForm:
    source = scene.operand(node.inputs[0])
    flat = scene.graph.opset < 13
    axis = node.integer("axis", 1 if flat else -1) % len(source.shape)
    return SoftmaxForm(**fields, source=source, axis=axis, flat=flat)


def _concatenation(scene: Scene, node: Node, fields: Fields) -> AffineForm:
    sources = tuple(scene.operand(name) for name in node.inputs)
    if any(source.codes is not None for source in sources):
        raise NotAffine("an operand is constant")
    return ConcatenationForm(**fields, sources=sources, axis=node.integer("axis", 0) % len(sources[0].shape))


def read_maximum(node: Node, source: AffineTensor, result: AffineTensor) -> MaximumForm:
    """Read a MaxPool on codes, or on real numbers that codes stand for: positive scales keep the order.

    Raises
    ------
    NotAffine
        If it gives the positions of its maxima, too.
    """
    if any(node.outputs[1:]):
        raise NotAffine("it also returns the positions of its maxima")
    window = window_of(node, source.shape[2:], node.integers("kernel_shape") or ())
    return MaximumForm(name=label_of(node), nodes=(label_of(node),), result=result, source=source, window=window, fused=True)


OPERATORS: Final[Mapping[str, Callable[[Scene, Node, Fields], AffineForm]]] = MappingProxyType(
    {
        "Add": _pair(SumForm),
        "AveragePool": _average,
        "Concat": _concatenation,
        "Conv": _convolution,
        "Gemm": _gemm,
        "GlobalAveragePool": _plane_average,
        "MatMul": _matrix_product,
        "Mul": _pair(ProductForm),
        "Softmax": _softmax,
    }
)
"""How each float operator is read; functions of one tensor are read by what they compute."""
