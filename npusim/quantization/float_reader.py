"""From a float ONNX graph to a :class:`FloatNetwork`: the only place of quantization that knows ONNX patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.graph import Array, Graph, Node
from npusim.lowering.chain import node_label
from npusim.lowering.view import View
from npusim.program import Window
from npusim.quantization.affine import Affine, read_activation, read_affine
from npusim.quantization.concern import Concern
from npusim.quantization.float_graph import fold_float_graph
from npusim.quantization.float_network import Activation, FloatKind, FloatLayer, FloatNetwork
from npusim.quantization.float_weights import Weighted, diagonal, read_weighted
from npusim.quantization.float_windows import read_average_pool, read_max_pool
from npusim.quantization.refusal import Refusal

__all__ = ["read_float_network"]

_WEIGHTED: Final = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
_AVERAGES: Final = frozenset(("AveragePool", "GlobalAveragePool", "ReduceMean"))
_MAXIMA: Final = frozenset(("MaxPool", "GlobalMaxPool"))
_RESHAPES: Final = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze"))
_MOVES: Final = frozenset(("Transpose", "Slice", "Gather", "Tile", "Expand", "DepthToSpace", "SpaceToDepth"))
_STABLE: Final = frozenset((*_RESHAPES, "Transpose", "Relu", "Sigmoid", "Tanh"))
"""Operators that mean the same in every operator set."""

OLDEST_OPSET: Final = 13
"""Quantized graphs need ReduceSum with its axes as an input."""


def read_float_network(graph: Graph) -> FloatNetwork:
    """Normalize a float graph.

    Parameters
    ----------
    graph
        A graph as read, for a batch of one (or of any number) and otherwise fixed shapes.

    Returns
    -------
    FloatNetwork
        With batch norms folded into the layers in front of them, or into the input stage, and activations attached. What is no
        layer of the NPU is kept as HOST, with a warning that names it.

    Raises
    ------
    UnsupportedError
        If sizes stay open, the model has a batch that is not one, or an operator is unknown to npusim.
    ModelError
        If the graph is quantized already, has no input or contradicts itself.
    """
    plain = fold_float_graph(graph)
    reading = _Reading(View.of(plain), plain)
    for node in plain.nodes:
        if node.outputs not in reading.taken:
            reading.take(node)
    return reading.network()


@dataclass
class _Reading:
    """The state of one walk over the graph; `floats` are tensors of float values: inputs and what the host computes."""

    view: View
    graph: Graph
    layers: list[FloatLayer] = field(default_factory=list)
    taken: set[tuple[str, ...]] = field(default_factory=set)
    warnings: list[Concern] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    staged: dict[str, str] = field(default_factory=dict)
    floats: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.floats.update(self.graph.inputs)

    def network(self) -> FloatNetwork:
        """What was read, without layers that nothing needs."""
        known = {layer.output for layer in self.layers}
        for name in self.graph.outputs:
            if name not in known:
                raise ModelError(f"output '{name}' does not depend on the input, so there is nothing to quantize")
        needed = set(self.graph.outputs)
        kept: list[FloatLayer] = []
        for layer in reversed(self.layers):
            if layer.output in needed:
                kept.insert(0, layer)
                needed.update(layer.inputs)
        stable = all(layer.node is None or layer.node.op_type in _STABLE for layer in kept)
        if not stable and self.graph.opset < OLDEST_OPSET:
            raise UnsupportedError(f"the model has opset {self.graph.opset}; export it with opset {OLDEST_OPSET} or later")
        inputs = {name: self.view.shape(name) for name in self.graph.inputs}
        opset = 17 if stable else self.graph.opset
        return FloatNetwork(inputs, self.graph.outputs, tuple(kept), self.constants, tuple(self.warnings), opset)

    def take(self, node: Node) -> None:
        """Append the layer or layers that start at a node."""
        variable = tuple(name for name in node.inputs if name and name not in self.graph.constants)
        try:
            self._recognise(node, variable)
        except Refusal as refusal:
            self._host(node, variable, str(refusal))

    def _recognise(self, node: Node, variable: Sequence[str]) -> None:
        self._check(node, variable)
        operator, rank = node.op_type, len(self.view.shape(node.outputs[0]))
        if operator in _WEIGHTED:
            self._weighted(node, node.inputs[0], read_weighted(self.view, node))
        elif operator in _AVERAGES:
            self._append(node, FloatKind.AVERAGE_POOL, variable[:1], window=read_average_pool(self.view, node))
        elif operator in _MAXIMA:
            self._append(node, FloatKind.MAX_POOL, variable[:1], window=read_max_pool(self.view, node))
        elif operator == "Concat" and len(variable) == len(node.inputs):
            self._append(node, FloatKind.CONCAT, variable, axis=node.integer("axis", 0) % rank)
        elif operator == "Add" and len(variable) == 2 and rank >= 2:
            if self.view.shape(variable[0]) != self.view.shape(variable[1]):
                raise Refusal("its operands have different shapes")
            activation, last = self._activation(node)
            self._append(node, FloatKind.ADD, variable, output=last.outputs[0], activation=activation)
        elif operator == "Split":
            self._split(node)
        elif operator in _RESHAPES:
            self._move(node, self._reshape(node, variable[0]))
        elif operator in _MOVES or _is_nearest(node) or operator == "Identity":
            self._move(node, node)
        else:
            self._arithmetic(node, variable)

    def _check(self, node: Node, variable: Sequence[str]) -> None:
        tensors = [name for name in (*variable, *node.outputs) if name]
        if any(self.graph.types[name].dtype != np.float32 for name in tensors):
            raise Refusal("it is not computed in float32")
        if any(self.view.shape(name)[:1] != (1,) or len(self.view.shape(name)) < 2 for name in tensors):
            raise Refusal("its first axis is not the batch")
        computed = [name in self.floats and name not in self.graph.inputs for name in variable]
        if all(computed) and node.op_type not in _WEIGHTED:
            raise Refusal("")

    def _weighted(self, node: Node, source: str, found: Weighted) -> None:
        affine, activation, last = self._following(node, found.bias.size)
        folded = found.scaled(affine.gain, affine.offset)
        self._append(node, found.kind, (source,), output=last.outputs[0], activation=activation, weighted=folded)

    def _following(self, node: Node, channels: int) -> tuple[Affine, Activation, Node]:
        """Arithmetic with constants and an activation behind a node that nothing else reads, and the last of their nodes."""
        total = Affine.identity(channels)
        while (following := self.view.only_reader(node.outputs[0])) is not None:
            affine = read_affine(self.view, following)
            if affine is None or affine.gain.size != channels:
                break
            total, node = total.then(affine), following
            self.taken.add(node.outputs)
        activation, last = self._activation(node)
        return total, activation, last

    def _activation(self, node: Node) -> tuple[Activation, Node]:
        following = self.view.only_reader(node.outputs[0])
        found = None if following is None else read_activation(self.view, following)
        if following is None or found is None:
            return Activation.NONE, node
        self.taken.add(following.outputs)
        return found, following

    def _arithmetic(self, node: Node, variable: Sequence[str]) -> None:
        """Arithmetic with constants or an activation that follows no layer: the input stage, or a layer of its own."""
        affine = read_affine(self.view, node) if len(variable) == 1 else None
        alone = read_activation(self.view, node)
        if alone is None and affine is None:
            raise Refusal("no layer type of the NPU computes it")
        shape = self.view.shape(node.outputs[0])
        if len(shape) == 2:
            diagonal(np.ones(shape[1]), np.zeros(shape[1]), 2)
        first = Affine.identity(shape[1]) if affine is None else affine
        if alone is None:
            following, activation, last = self._following(node, shape[1])
        else:
            following, activation, last = Affine.identity(shape[1]), alone, node
        total = first.then(following)
        source = variable[0]
        if source in self.graph.inputs and self.view.only_reader(source) is not None:
            stage = Weighted(FloatKind.INPUT, total.gain, total.offset)
            self._append(node, FloatKind.INPUT, (source,), output=last.outputs[0], activation=activation, weighted=stage)
            return
        layer = diagonal(total.gain, total.offset, len(shape))
        self._append(node, layer.kind, (source,), output=last.outputs[0], activation=activation, weighted=layer)

    def _split(self, node: Node) -> None:
        """Each part as a slice of its own."""
        rank = len(self.view.shape(node.inputs[0]))
        axis, begin = node.integer("axis", 0) % rank, 0
        for output in node.outputs:
            end = begin + self.view.shape(output)[axis]
            names = tuple(self._constant(f"{output}/{part}", np.array([value])) for part, value in _bounds(begin, end, axis))
            self._move(node, Node("Slice", node.name, (node.inputs[0], *names), (output,)))
            begin = end

    def _reshape(self, node: Node, source: str) -> Node:
        shape = np.array(self.view.shape(node.outputs[0]), np.int64)
        return Node("Reshape", node.name, (source, self._constant(f"{node.outputs[0]}/shape", shape)), (node.outputs[0],))

    def _move(self, node: Node, moved: Node) -> None:
        self._append(node, FloatKind.MOVE, moved.inputs[:1], output=moved.outputs[0], moved=moved)

    def _host(self, node: Node, variable: Sequence[str], reason: str) -> None:
        """Keep a node as it is, computed in float."""
        if not variable or len([name for name in node.outputs if name]) != 1:
            raise UnsupportedError(f"{node} has several outputs or none that depend on the input; quantization cannot keep it")
        if reason:
            message = f"{node} is kept in float on the host, because {reason}"
            remedy = "replace it in the model if its time on the host or the conversions around it matter"
            self.warnings.append(Concern("kept_in_float", "warning", node_label(node), message, remedy))
        shapes = self.view.shape(variable[0]), self.view.shape(node.outputs[0])
        named = replace(node, name=self._label(node))
        self._keep_constants(node)
        self.layers.append(FloatLayer(named.name, FloatKind.HOST, tuple(variable), node.outputs[0], *shapes, node=named))
        self.floats.add(node.outputs[0])

    def _append(
        self,
        node: Node,
        kind: FloatKind,
        inputs: Sequence[str],
        *,
        output: str = "",
        activation: Activation = Activation.NONE,
        weighted: Weighted | None = None,
        window: Window | None = None,
        axis: int = 1,
        moved: Node | None = None,
    ) -> None:
        """Append a layer over codes; where an input is float, the stage that turns it into codes comes before."""
        sources = tuple(inputs) if kind is FloatKind.INPUT else tuple(self._codes(name) for name in inputs)
        result = output or node.outputs[0]
        shapes = self.view.shape(inputs[0]), self.view.shape(result)
        label = self._label(node)
        if moved is not None:
            self._keep_constants(moved)
            moved = replace(moved, name=label, inputs=(*sources, *moved.inputs[1:]))
        layer = FloatLayer(label, kind, sources, result, *shapes, activation, window=window, axis=axis, node=moved)
        if weighted is not None:
            layer = replace(layer, weights=weighted.weights, bias=weighted.bias, window=weighted.window, group=weighted.group)
        self.layers.append(layer)

    def _codes(self, name: str) -> str:
        """The tensor of codes for a tensor; for a float one it is made when it is first asked for."""
        if name not in self.floats:
            return name
        if name not in self.staged:
            shape = self.view.shape(name)
            self.staged[name] = f"{name}/codes"
            one = Affine.identity(shape[1])
            stage = FloatLayer(f"{name}/quantize", FloatKind.INPUT, (name,), self.staged[name], shape, shape)
            self.layers.append(replace(stage, weights=one.gain, bias=one.offset))
        return self.staged[name]

    def _label(self, node: Node) -> str:
        label = node_label(node)
        while label in self.labels:
            label += "_"
        self.labels.add(label)
        return label

    def _constant(self, name: str, value: Array) -> str:
        self.constants[name] = value
        return name

    def _keep_constants(self, node: Node) -> None:
        for name in node.inputs:
            if name in self.graph.constants:
                self.constants[name] = self.graph.constants[name]


def _bounds(begin: int, end: int, axis: int) -> tuple[tuple[str, int], ...]:
    return (("starts", begin), ("ends", end), ("axes", axis))


def _is_nearest(node: Node) -> bool:
    return node.op_type == "Resize" and node.text("mode", "nearest") == "nearest"
