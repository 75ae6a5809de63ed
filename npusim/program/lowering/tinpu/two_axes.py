"""One spatial axis made two: tensors [1, C, L] become [1, C, L, 1], which is what the NPU's layers take.

Every value stays where it is in memory and every sum has the same terms, so that no result changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph import Array, Attribute, Graph, Node, TensorType
from npusim.graph.traits import SampleAxis, Trait, is_a, traits_of

__all__ = ["with_two_axes"]

RANK: Final = 3
"""Axes of a tensor with one spatial axis."""

OLDEST_OPSET: Final = 13
"""Axes of squeezes are an input from here on."""


def with_two_axes(graph: Graph, *, keep_ends: bool, kept: frozenset[str] = frozenset()) -> Graph:
    """The same graph with a second spatial axis of size 1.

    Parameters
    ----------
    graph
        A folded graph with the types of all tensors.
    keep_ends
        Whether inputs and outputs keep their shapes, with an operation beside them that adds or takes away the axis; else they
        have it, too.
    kept
        With `keep_ends`: results of nodes at the inputs that keep their shapes as well, such as those of an input stage.

    Returns
    -------
    Graph
        With the types of its inputs and outputs.

    Raises
    ------
    UnsupportedError
        If nothing has one spatial axis, or an operation on such a tensor is not one that can have another axis.
    """
    if not any(
        is_a(node.op_type, Trait.CONVOLUTION, Trait.WINDOWED) and _rank(graph, node.outputs[0]) == RANK for node in graph.nodes
    ):
        raise UnsupportedError("no layer has one spatial axis")
    if graph.opset < OLDEST_OPSET:
        raise UnsupportedError(f"the model has opset {graph.opset}, wanted {OLDEST_OPSET} or later")
    widening = _Widening(graph)
    for node in graph.nodes:
        widening.nodes.append(node if kept.intersection(node.outputs) else widening.widened(node))
    if keep_ends:
        widening.keep_ends(kept)
    return widening.result(keep_ends=keep_ends)


def _rank(graph: Graph, name: str) -> int:
    """Axes of a tensor that is no constant; 0 for none."""
    return 0 if not name or name in graph.constants else len(graph.types[name].shape or ())


@dataclass
class _Widening:
    """Nodes so far, and the constants that they read in another shape: by what they were, and their new names."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    made: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.names = {*self.graph.constants, *self.graph.types, *(node.name for node in self.graph.nodes)}
        self.constants.update(self.graph.constants)

    def widened(self, node: Node) -> Node:
        """A node for tensors of two spatial axes."""
        reads = [name for name in node.inputs if _rank(self.graph, name) == RANK]
        gives = [name for name in node.outputs if _rank(self.graph, name) == RANK]
        if not reads and not gives:
            return node
        if len(node.outputs) == 1:
            if is_a(node.op_type, Trait.GLOBAL):
                return node
            if is_a(node.op_type, Trait.CONVOLUTION, Trait.WINDOWED):
                return self._windowed(node)
            if is_a(node.op_type, Trait.REDUCES):
                return self._with_axes(node, RANK)
            if is_a(node.op_type, Trait.RESHAPES):
                return self._reshape(node, gives=bool(gives))
            if is_a(node.op_type, Trait.JOINS):
                return replace(node, attributes={**node.attributes, "axis": node.integer("axis", 0) % RANK})
            if traits_of(node.op_type).samples is SampleAxis.PADDED:
                return self._padded(node)
            if is_a(node.op_type, Trait.ELEMENTWISE, Trait.RENAMES):
                return self._elementwise(node)
        raise UnsupportedError(f"{node} is not known to do the same along one more axis")

    def _windowed(self, node: Node) -> Node:
        attributes: dict[str, Attribute] = dict(node.attributes)
        for name, filling in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("output_padding", 0)):
            if (values := node.integers(name)) is not None:
                attributes[name] = (*values, filling)
        if (pads := node.integers("pads")) is not None:
            attributes["pads"] = (pads[0], 0, pads[1], 0)
        if "output_shape" in attributes:
            raise UnsupportedError(f"{node} says what shape it gives")
        inputs = list(node.inputs)
        if is_a(node.op_type, Trait.CONVOLUTION):
            if inputs[1] not in self.graph.constants:
                raise UnsupportedError(f"the weights of {node} are not constant")
            inputs[1] = self._constant(inputs[1], (*self.graph.constants[inputs[1]].shape, 1))
        return replace(node, inputs=tuple(inputs), attributes=attributes)

    def _with_axes(self, node: Node, rank: int) -> Node:
        """A node that works along axes: along both spatial ones, or along none of them."""
        given = node.integers("axes")
        name = node.inputs[1] if len(node.inputs) > 1 else ""
        if given is None and name:
            if name not in self.graph.constants:
                raise UnsupportedError(f"the axes of {node} are not constant")
            given = tuple(int(value) for value in self.graph.constants[name].ravel())
        if given is None:
            raise UnsupportedError(f"{node} works along all axes")
        axes = sorted(axis % rank for axis in given)
        if RANK - 1 not in axes:
            raise UnsupportedError(f"{node} works along other axes than the spatial one")
        return self._along(node, [*axes, RANK])

    def _along(self, node: Node, axes: Sequence[int]) -> Node:
        if "axes" in node.attributes:
            return replace(node, attributes={**node.attributes, "axes": tuple(axes)})
        name = self._new(node.inputs[1], np.array(axes, np.int64))
        return replace(node, inputs=(node.inputs[0], name, *node.inputs[2:]))

    def _padded(self, node: Node) -> Node:
        amounts = self.graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if amounts is None or amounts.size != 2 * RANK:
            raise UnsupportedError(f"{node} does not say what it adds to each axis")
        wider = np.concatenate([amounts[:RANK], [0], amounts[RANK:], [0]]).astype(np.int64)
        return replace(node, inputs=(node.inputs[0], self._new(node.inputs[1], wider), *node.inputs[2:]))

    def _reshape(self, node: Node, *, gives: bool) -> Node:
        if node.op_type == "Flatten":
            if node.integer("axis", 1) != 1:
                raise UnsupportedError(f"{node} does not keep samples apart")
            return node
        if node.op_type in ("Squeeze", "Unsqueeze"):
            return self._with_axes(node, RANK)
        if node.op_type != "Reshape" or node.inputs[1] not in self.graph.constants:
            raise UnsupportedError(f"{node} has a shape that is not constant")
        if not gives:
            return node
        name = self._new(node.inputs[1], np.append(self.graph.constants[node.inputs[1]].ravel(), np.int64(1)))
        return replace(node, inputs=(node.inputs[0], name))

    def _elementwise(self, node: Node) -> Node:
        inputs = []
        for name in node.inputs:
            value = self.graph.constants.get(name)
            if value is not None and value.size > 1:
                inputs.append(self._constant(name, ((1,) * (RANK - value.ndim)) + value.shape + (1,)))
                continue
            if value is None and name and _rank(self.graph, name) != RANK:
                raise UnsupportedError(f"{node} spreads one operand over another")
            # one value for all has its place in any shape, and is written as exporters do
            inputs.append(name if value is None or value.ndim < RANK else self._constant(name, (*value.shape, 1)))
        return replace(node, inputs=tuple(inputs))

    def _constant(self, name: str, shape: tuple[int, ...]) -> str:
        return self._new(name, self.graph.constants[name].reshape(shape))

    def _new(self, name: str, value: Array) -> str:
        key = (name, value.shape)
        if key not in self.made:
            self.made[key] = self._unused(f"{name}/two_axes")
            self.constants[self.made[key]] = value
        return self.made[key]

    def _unused(self, stem: str) -> str:
        name, count = stem, 0
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        return name

    def keep_ends(self, kept: frozenset[str]) -> None:
        """Add the axis behind inputs and what is kept, and take it away in front of outputs."""
        axis = self._unused("npusim_axis")
        self.constants[axis] = np.array([RANK], np.int64)
        narrow = [name for name in (*self.graph.inputs, *sorted(kept)) if _rank(self.graph, name) == RANK]
        for name in narrow:
            readers = [place for place, node in enumerate(self.nodes) if name in node.inputs]
            places = [place for place in readers if not kept.intersection(self.nodes[place].outputs)]
            if places:
                made = self._unused(f"{name}/two_axes")
                for place in places:
                    node = self.nodes[place]
                    self.nodes[place] = replace(node, inputs=tuple(made if one == name else one for one in node.inputs))
                self.nodes.insert(places[0], Node("Unsqueeze", self._unused(f"{name}/add_axis"), (name, axis), (made,)))
        for name in self.graph.outputs:
            if _rank(self.graph, name) == RANK and name not in narrow:
                made = self._unused(f"{name}/two_axes")
                self._rename(name, made, outputs=True)
                self.nodes.append(Node("Squeeze", self._unused(f"{name}/drop_axis"), (made, axis), (name,)))

    def _rename(self, old: str, new: str, *, outputs: bool) -> None:
        for place, node in enumerate(self.nodes):
            inputs = tuple(new if name == old else name for name in node.inputs)
            made = tuple(new if name == old else name for name in node.outputs) if outputs else node.outputs
            self.nodes[place] = replace(node, inputs=inputs, outputs=made)

    def result(self, *, keep_ends: bool) -> Graph:
        """The graph; constants that nothing reads in their old shape any more give their names to the new ones."""
        used = {name for node in self.nodes for name in node.inputs} | set(self.graph.outputs)
        for (name, _), made in self.made.items():
            if name not in used:
                self._rename(made, name, outputs=False)
                self.constants[name] = self.constants.pop(made)
                used.add(name)
        used = {name for node in self.nodes for name in node.inputs} | set(self.graph.outputs)
        types: dict[str, TensorType] = {}
        for name in (*self.graph.inputs, *self.graph.outputs):
            kind = self.graph.types[name]
            if not keep_ends and _rank(self.graph, name) == RANK and kind.shape is not None:
                kind = replace(kind, shape=(*kind.shape, 1))
            types[name] = kind
        constants = {name: value for name, value in self.constants.items() if name in used}
        return Graph(self.graph.opset, self.graph.inputs, self.graph.outputs, tuple(self.nodes), constants, types)
