"""Questions that front ends ask of a folded graph: what an operand's codes stand for, windows, biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from npusim.graph import Array, Graph, Node
from npusim.graph.operators import evaluate_node
from npusim.kernels.geometry import resolve_pads
from npusim.kernels.quantization import code_range
from npusim.program.layers import Window
from npusim.program.lowering.affine import AffineTensor, Float32Array, RealFunction
from npusim.program.requantization import IntegerArray

__all__ = ["CODES_OF", "NotAffine", "Scene", "label_of", "window_of"]


CODES_OF: Final = "{}/codes"
"""Name of the codes behind a tensor of real numbers, where the file has no tensor of them."""


class NotAffine(Exception):  # noqa: N818 - a finding that decides between two lowerings, never an error the user sees
    """Raised where a node is not a layer on codes; the text completes "it runs in float because ..."."""


def label_of(node: Node) -> str:
    """A node's name, or its first output where it has none."""
    return node.name or node.outputs[0]


@dataclass(slots=True)
class Scene:
    """A folded graph while it is read, and what is known of its tensors so far.

    Attributes
    ----------
    graph
        Without renamings.
    producers, readers
        Nodes by tensor.
    codes
        Tensors that hold codes, and what they stand for.
    real
        Tensors of real numbers that codes stand for, and those codes.
    """

    graph: Graph
    producers: Mapping[str, Node]
    readers: Mapping[str, list[Node]]
    codes: dict[str, AffineTensor] = field(default_factory=dict)
    real: dict[str, AffineTensor] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> Scene:
        """Prepare the look-ups of a graph."""
        return cls(graph, graph.producers(), graph.consumers())

    def shape(self, name: str) -> tuple[int, ...]:
        """Static shape of a tensor for one sample."""
        return self.graph.types[name].static_shape

    def constant(self, name: str) -> Array | None:
        """The value of a constant tensor, None for any other."""
        return self.graph.constants.get(name)

    def has_one_reader(self, name: str) -> bool:
        """True where one node reads a tensor and nothing else does."""
        return len(self.readers.get(name, ())) == 1 and name not in self.graph.outputs

    def parameters(
        self, node: Node, scale: int, zero_point: int, dtype: np.dtype[np.generic]
    ) -> tuple[Float32Array, IntegerArray]:
        """Scale and zero point among a node's inputs, float32 and int64 ``[1]`` or ``[channels]``.

        Raises
        ------
        NotAffine
            If they are not constant, not positive, or not as many as each other.
        """
        values = self.constant(node.inputs[scale]) if len(node.inputs) > scale else None
        if values is None or values.dtype != np.float32 or values.ndim > 1:
            raise NotAffine("its scale is not a constant float32, one for the tensor or one for each channel")
        if not (np.isfinite(values).all() and bool((values.astype(np.float64) > 0).all())):
            raise NotAffine("a scale is not a positive number")
        named = node.inputs[zero_point] if len(node.inputs) > zero_point else ""
        points = self.constant(named) if named else np.zeros(values.shape, dtype)
        if points is None:
            raise NotAffine("its zero point is not constant")
        flat = points.reshape(-1).astype(np.int64)
        if flat.size == 1 and values.size > 1:
            flat = np.repeat(flat, values.size)
        if flat.size != values.size:
            raise NotAffine("scales and zero points are not as many as each other")
        return values.reshape(-1).astype(np.float32), flat

    def described(self, name: str, node: Node, scale: int, zero_point: int) -> AffineTensor:
        """A variable tensor of codes, by scale and zero point among a node's inputs."""
        dtype = self.graph.types[name].dtype
        values, points = self.parameters(node, scale, zero_point, dtype)
        if values.size != 1:
            raise NotAffine("its data has a scale for each channel")
        return AffineTensor(name, self.shape(name), values, points, *code_range(dtype))

    def source(self, name: str, node: Node, scale: int, zero_point: int) -> AffineTensor:
        """An operand on codes: a variable tensor, whose codes must be held less the same zero point, or a constant.

        Raises
        ------
        NotAffine
            If that does not hold.
        """
        found = self.constant_source(name, node, scale, zero_point)
        if found is not None:
            return found
        tensor = self.described(name, node, scale, zero_point)
        if name in self.graph.inputs:
            self.codes.setdefault(name, tensor)
        held = self.codes.get(name)
        if held is None or not np.array_equal(held.zero_point, tensor.zero_point) or held.lower != tensor.lower:
            raise NotAffine(f"the zero point it gives its operand '{name}' is not the one that the operand was made with")
        return tensor

    def constant_source(
        self, name: str, node: Node, scale: int, zero_point: int, axis: int | None = None
    ) -> AffineTensor | None:
        """A constant operand on codes; None where the tensor is variable."""
        value = self.constant(name)
        if value is None:
            return None
        if value.dtype.kind == "f":
            raise NotAffine(f"its operand '{name}' does not hold codes")
        values, points = self.parameters(node, scale, zero_point, value.dtype)
        axis = axis if values.size > 1 else None
        if values.size > 1 and (axis is None or value.shape[axis] != values.size):
            raise NotAffine(f"the scales of '{name}' do not vary along its output channels")
        codes = value.astype(np.int64)
        return AffineTensor(name, value.shape, values, points, *code_range(value.dtype), axis, codes)

    def dequantized(self, name: str) -> AffineTensor | None:
        """The codes behind a constant that was dequantized; None where it never had codes."""
        node = self.graph.origins.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.integer("block_size", 0):
            return None
        value = self.constant(node.inputs[0])
        if value is None:
            return None
        named = node.integer("axis", 1)
        axis = named % value.ndim if value.ndim and -value.ndim <= named < value.ndim else None
        found = self.constant_source(node.inputs[0], node, 1, 2, axis)
        return None if found is None else AffineTensor(name, *(getattr(found, part) for part in _REST))

    def operand(self, name: str) -> AffineTensor:
        """A float operand as the codes that stand for it.

        Raises
        ------
        NotAffine
            If it has none.
        """
        found = self.real.get(name) or (self.dequantized(name) if self.constant(name) is not None else None)
        if found is None:
            raise NotAffine(f"its operand '{name}' is not dequantized from codes with a constant scale")
        return found

    def function_of(self, name: str, source: str) -> RealFunction:
        """The function of one number that leads from a real tensor to another, element by element.

        Raises
        ------
        NotAffine
            If anything else comes in on the way.
        """
        nodes = self._between(name, source)
        graph = self.graph

        def compute(real: Float32Array) -> Float32Array:
            values: dict[str, Array] = {source: real}
            for node in nodes:
                known = {
                    item: values[item] if item in values else graph.constants[item].reshape(-1)[:1].reshape(())
                    for item in node.inputs
                    if item
                }
                values[node.outputs[0]] = evaluate_node(node, known, graph.opset)[0]
            return np.asarray(values[name], np.float32)

        return compute

    def _between(self, name: str, source: str) -> list[Node]:
        order: list[Node] = []
        waiting, seen = [name], {source}
        while waiting:
            item = waiting.pop()
            if item in seen:
                continue
            seen.add(item)
            node = self.producers.get(item)
            if node is None or not _is_function(node, self.graph):
                raise NotAffine(f"'{item}' is not a function of one tensor, element by element")
            order.append(node)
            waiting.extend(part for part in node.inputs if part and part not in self.graph.constants)
        place = {id(node): number for number, node in enumerate(self.graph.nodes)}
        return sorted(order, key=lambda node: place[id(node)])


_REST = ("shape", "scale", "zero_point", "lower", "upper", "axis", "codes")

FUNCTIONS = frozenset(
    "Abs Add Clip Div Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Log Max Min Mul Neg Reciprocal Relu Selu Sigmoid "
    "Softplus Softsign Sqrt Sub Tanh ThresholdedRelu".split()
)
"""Operators that make one number of one, where their other operands are single constants."""


def _is_function(node: Node, graph: Graph) -> bool:
    constants = [graph.constants[name] for name in node.inputs if name and name in graph.constants]
    shape = graph.types[node.outputs[0]].static_shape
    variable = [name for name in node.inputs if name and name not in graph.constants]
    return (
        node.op_type in FUNCTIONS
        and not node.domain
        and all(value.size == 1 for value in constants)
        and bool(variable)
        and all(graph.types[name].static_shape == shape for name in variable)
    )


def window_of(node: Node, spatial: tuple[int, ...], kernel_shape: tuple[int, ...]) -> Window:
    """The geometry of a convolution or pool, `auto_pad` made explicit.

    Raises
    ------
    NotAffine
        If it crops its input.
    """
    ones = (1,) * len(spatial)
    strides, dilations = node.integers("strides") or ones, node.integers("dilations") or ones
    pads = resolve_pads(
        spatial,
        kernel_shape=kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=node.integers("pads"),
        auto_pad=node.text("auto_pad", "NOTSET"),
    )
    if min(pads, default=0) < 0:
        raise NotAffine("it crops its input by negative padding")
    return Window(kernel_shape, strides, pads, dilations, bool(node.integer("ceil_mode", 0)))
