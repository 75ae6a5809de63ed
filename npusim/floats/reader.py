"""From a float graph to a :class:`FloatNetwork`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.floats.chains import Chain, follow
from npusim.floats.concern import Concern
from npusim.floats.layers import Weighted, diagonal
from npusim.floats.network import Activation, FloatKind, FloatLayer, FloatNetwork
from npusim.graph import Array, Graph, Node
from npusim.program import Window
from npusim.program.lowering.floats import (
    Affine,
    Refusal,
    Role,
    fold_float_graph,
    keeps_order,
    means_the_same_everywhere,
    read_average,
    read_maximum,
    read_parameters,
    read_window,
    reshape_node,
    role_of,
    slice_nodes,
)
from npusim.program.lowering.match import is_match
from npusim.program.lowering.tinpu.chain import node_label
from npusim.program.lowering.tinpu.view import View

__all__ = ["read_float_network"]

OLDEST_OPSET: Final = 13
"""Quantized graphs need sums over axes that are an input."""


def read_float_network(graph: Graph, *, from_floats: bool = True) -> FloatNetwork:
    """Normalize a float graph.

    Parameters
    ----------
    graph
        A graph as read, for a batch of one (or of any number) and otherwise fixed shapes.
    from_floats
        Whether pools, moves and sums of nothing but what the host has computed stay with the host. Otherwise, for formats
        whose functions give codes, they are layers like others.

    Returns
    -------
    FloatNetwork
        With batch norms folded into the layers in front of them, or into the input stage, and activations attached. What is
        not a layer of the NPU is kept as HOST, with a warning that names it.

    Raises
    ------
    UnsupportedError
        If sizes stay open, the model has a batch that is not one, or an operator is unknown to npusim.
    ModelError
        If the graph is quantized already, has no input or contradicts itself.
    """
    if is_match(graph):
        raise ModelError(
            f"{graph.nodes[0]} and the nodes behind it show that the model is quantized already, as PLiNIO, MATCH, DORY and "
            "NEMO do; give the float model it was made from"
        )
    plain = fold_float_graph(graph)
    reading = _Reading(View.of(plain), plain, from_floats)
    for node in plain.nodes:
        if node.outputs not in reading.taken:
            reading.take(node)
    return reading.network()


@dataclass
class _Reading:
    """The state of one walk over the graph; `floats` are tensors of float values: inputs and what the host computes."""

    view: View
    graph: Graph
    from_floats: bool
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
        passed = {*self.graph.inputs, *self.graph.constants}
        outputs = tuple(name for name in self.graph.outputs if name in known)
        for name in self.graph.outputs:
            if name not in known and (name not in passed or not outputs):
                raise ModelError(f"output '{name}' does not depend on the input, so there is nothing to quantize")
            if name not in known:
                message = "this output is an input or a constant of the model, and is left out"
                self.warnings.append(
                    Concern("kept_in_float", "warning", name, message, "take its values from where they come from")
                )
        needed = set(outputs)
        kept: list[FloatLayer] = []
        for layer in reversed(self.layers):
            if layer.output in needed:
                kept.insert(0, layer)
                needed.update(layer.inputs)
        stable = all(layer.node is None or means_the_same_everywhere(layer.node) for layer in kept)
        if not stable and self.graph.opset < OLDEST_OPSET:
            raise UnsupportedError(f"the model has opset {self.graph.opset}; export it with opset {OLDEST_OPSET} or later")
        inputs = {name: self.view.shape(name) for name in self.graph.inputs}
        opset = 17 if stable else self.graph.opset
        return FloatNetwork(inputs, outputs, tuple(kept), self.constants, tuple(self.warnings), opset)

    def take(self, node: Node) -> None:
        """Append the layer or layers that start at a node."""
        variable = tuple(name for name in node.inputs if name and name not in self.graph.constants)
        try:
            self._recognise(node, variable)
        except Refusal as refusal:
            self._host(node, variable, str(refusal))

    def _recognise(self, node: Node, variable: Sequence[str]) -> None:
        role = role_of(self.view, node)
        self._check(node, variable, role)
        match role:
            case Role.WEIGHTED:
                self._weighted(node)
            case Role.AVERAGE | Role.SUM:
                average = read_average(self.view, node)
                self.taken.update(part.outputs for part in average.nodes)
                self._pool(node, FloatKind.AVERAGE_POOL, average.window, average.output)
            case Role.MAXIMUM:
                self._pool(node, FloatKind.MAX_POOL, read_maximum(self.view, node), node.outputs[0])
            case Role.JOIN if len(variable) == len(node.inputs):
                shape = self.view.shape(node.outputs[0])
                axis = node.integer("axis", 0) % len(shape)
                self._append(node, FloatKind.CONCAT, variable, node.outputs[0], shape, axis=axis)
            case Role.ADDITION:
                self._addition(node, variable)
            case Role.SPLIT:
                for part, constants in slice_nodes(self.view, node):
                    self.constants.update(constants)
                    self._move(part)
            case Role.RESHAPE | Role.AFFINE | Role.SATURATION:
                self._arithmetic(node, variable[0])
            case Role.MOVE | Role.RENAMING:
                self._move(node)
            case _:
                raise Refusal("no layer type of the NPU computes it")

    def _check(self, node: Node, variable: Sequence[str], role: Role) -> None:
        tensors = [name for name in (*variable, *node.outputs) if name]
        if any(self.graph.types[name].dtype != np.float32 for name in tensors):
            raise Refusal("it is not computed in float32")
        if any(self.view.shape(name)[:1] != (1,) or len(self.view.shape(name)) < 2 for name in tensors):
            raise Refusal("its first axis is not the batch")
        computed = [name in self.floats and name not in self.graph.inputs for name in variable]
        if self.from_floats and all(computed) and role is not Role.WEIGHTED:
            raise Refusal("")

    def _weighted(self, node: Node) -> None:
        parameters = read_parameters(node, self.graph.constants)
        window = read_window(self.view, node, parameters)
        chain = follow(self.view, node.outputs[0])
        folded = parameters.followed_by(chain.affine)
        layer = Weighted(FloatKind(parameters.form), folded.weights, folded.bias, window, folded.group)
        self._chained(node, layer.kind, node.inputs[:1], node.outputs[0], chain, layer)

    def _addition(self, node: Node, variable: Sequence[str]) -> None:
        if self.view.shape(variable[0]) != self.view.shape(variable[1]):
            raise Refusal("its operands have different shapes")
        chain = follow(self.view, node.outputs[0], arithmetic=False)
        self._chained(node, FloatKind.ADD, variable, node.outputs[0], chain)

    def _pool(self, node: Node, kind: FloatKind, window: Window, output: str) -> None:
        """A pool; where axes are dropped, a reshape behind it, unless a global average drops them itself."""
        before, after = self.view.shape(node.inputs[0]), self.view.shape(output)
        if len(before) == len(after) or (kind is FloatKind.AVERAGE_POOL and len(after) == 2):
            self._append(node, kind, node.inputs[:1], output, after, window=window)
            return
        reduced = zip(before[2:], window.kernel_shape, strict=True)
        pooled = (*before[:2], *(1 if size == kernel else size for size, kernel in reduced))
        self._append(node, kind, node.inputs[:1], f"{output}/pooled", pooled, window=window)
        self._reshape(node, f"{output}/pooled", pooled, output)

    def _arithmetic(self, node: Node, source: str) -> None:
        """Arithmetic, an activation or a reshape that follows no layer with weights: the input stage, or a layer of its own."""
        chain = follow(self.view, source, first=node)
        is_input = source in self.graph.inputs and self.view.only_reader(source) is not None
        if not chain.nodes or not (is_input or self._keeps_channels(chain, source)):
            if not keeps_order(self.view, node):
                raise Refusal("no layer type of the NPU computes it")
            self._reshape(node, source, self.view.shape(source), node.outputs[0])
            return
        named = next(part for part in chain.nodes if not keeps_order(self.view, part))
        if is_input:
            layer = Weighted(FloatKind.INPUT, chain.affine.gain, chain.affine.offset)
        else:
            layer = diagonal(chain.affine, len(self.view.shape(source)))
        self._chained(named, layer.kind, (source,), source, chain, layer)

    def _keeps_channels(self, chain: Chain, source: str) -> bool:
        """Whether no reshape in a chain makes features of channels: those are better scaled where they are."""
        return len({len(self.view.shape(name)) > 2 for name in (source, *(part.outputs[0] for part in chain.nodes))}) == 1

    def _chained(
        self, node: Node, kind: FloatKind, inputs: Sequence[str], start: str, chain: Chain, layer: Weighted | None = None
    ) -> None:
        """A layer that takes in the chain behind a tensor; a reshape within the chain comes after it."""
        shape = self.view.shape(start)
        reshaped = self.view.shape(chain.output) != shape
        output = f"{chain.output}/folded" if reshaped else chain.output
        self._append(node, kind, inputs, output, shape, chain.activation, weighted=layer)
        if reshaped:
            self._reshape(chain.nodes[-1], output, shape, chain.output)
        self.taken.update(part.outputs for part in chain.nodes)

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
        output: str,
        shape: tuple[int, ...],
        activation: Activation = Activation.NONE,
        *,
        weighted: Weighted | None = None,
        window: Window | None = None,
        axis: int = 1,
    ) -> None:
        """Append a layer over codes; where an input is float, the stage that turns it into codes comes before."""
        sources = tuple(inputs) if kind is FloatKind.INPUT else tuple(self._codes(name) for name in inputs)
        before = self.view.shape(inputs[0])
        layer = FloatLayer(self._label(node), kind, sources, output, before, shape, activation, window=window, axis=axis)
        if weighted is not None:
            layer = replace(layer, weights=weighted.weights, bias=weighted.bias, window=weighted.window, group=weighted.group)
        self.layers.append(layer)

    def _move(self, moved: Node) -> None:
        """Append a node that moves codes."""
        source, output = moved.inputs[0], moved.outputs[0]
        codes, label = self._codes(source), self._label(moved)
        self._keep_constants(moved)
        made = replace(moved, name=label, inputs=(codes, *moved.inputs[1:]))
        shapes = self.view.shape(source), self.view.shape(output)
        self.layers.append(FloatLayer(label, FloatKind.MOVE, (codes,), output, *shapes, node=made))

    def _reshape(self, node: Node, source: str, before: tuple[int, ...], output: str) -> None:
        codes, label = self._codes(source), self._label(node)
        shape = self.view.shape(output)
        moved, constants = reshape_node(codes, shape, output, label)
        self.constants.update(constants)
        self.layers.append(FloatLayer(label, FloatKind.MOVE, (codes,), output, before, shape, node=moved))

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

    def _keep_constants(self, node: Node) -> None:
        for name in node.inputs:
            if name in self.graph.constants:
                self.constants[name] = self.graph.constants[name]
