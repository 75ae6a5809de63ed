"""A graph that can be rewritten: nodes and constants are replaced one at a time, and a frozen graph is made of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from npusim.graph import Array, Attribute, Graph, Node, TensorType, sort_topologically

__all__ = ["Draft", "Refusal"]


class Refusal(Exception):  # noqa: N818 - a finding that leaves a layer as it is, never an error the user sees
    """Why a repair cannot be made; the message completes "not repaired: ..."."""


@dataclass
class Draft:
    """A folded graph under repair.

    Attributes
    ----------
    graph
        The graph that it started from.
    nodes, constants
        What stands in it now.
    """

    graph: Graph
    nodes: list[Node]
    constants: dict[str, Array]
    names: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, graph: Graph) -> Draft:
        """Start from a folded graph."""
        names = {name for node in graph.nodes for name in (*node.inputs, *node.outputs)} | set(graph.constants)
        return cls(graph, list(graph.nodes), dict(graph.constants), names | {node.name for node in graph.nodes})

    def producer(self, tensor: str) -> Node | None:
        """The node that makes a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if tensor in node.outputs), None)

    def readers(self, tensor: str) -> list[Node]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.inputs]

    def only_reader(self, tensor: str) -> Node | None:
        """The only node that reads a tensor that is not an output of the model."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.graph.outputs else None

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape that a tensor had before the repair."""
        return self.graph.types[tensor].static_shape

    def constant(self, stem: str, value: Array) -> str:
        """Add a constant under a new name."""
        name = self.new_name(stem)
        self.constants[name] = value
        return name

    def new_name(self, stem: str) -> str:
        """A name that nothing has yet."""
        name, count = stem, 0
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        return name

    def change(
        self,
        node: Node,
        *,
        inputs: tuple[str, ...] | None = None,
        outputs: tuple[str, ...] | None = None,
        attributes: Mapping[str, Attribute] | None = None,
        op_type: str | None = None,
    ) -> Node:
        """Put another node in the place of one; what is not given stays."""
        changed = replace(
            node,
            op_type=op_type or node.op_type,
            inputs=node.inputs if inputs is None else inputs,
            outputs=node.outputs if outputs is None else outputs,
            attributes=node.attributes if attributes is None else attributes,
        )
        self.nodes[self.index(node)] = changed
        return changed

    def current(self, node: Node) -> Node:
        """What stands in the place of a node now."""
        return next(item for item in self.nodes if item.outputs == node.outputs)

    def index(self, node: Node) -> int:
        """Where a node stands."""
        return next(place for place, item in enumerate(self.nodes) if item is node)

    def set_constant(self, node: Node, position: int, value: Array) -> Node:
        """Give a node another constant at an input; other nodes that share the old one keep it."""
        label = node.name or node.outputs[0]
        name = self.constant(f"{label}/npusim_{position}", value)
        inputs = list(node.inputs)
        inputs[position] = name
        return self.change(node, inputs=tuple(inputs))

    def finish(self) -> Graph:
        """The graph as it is now; types other than those of its inputs and outputs have to be inferred again."""
        used = {name for node in self.nodes for name in node.inputs} | set(self.graph.outputs)
        constants = {name: value for name, value in self.constants.items() if name in used}
        ends = {*self.graph.inputs, *self.graph.outputs}
        types: dict[str, TensorType] = {name: kind for name, kind in self.graph.types.items() if name in ends}
        known = {*self.graph.inputs, *constants}
        nodes = sort_topologically(self.nodes, known, self.graph.outputs)
        return Graph(self.graph.opset, self.graph.inputs, self.graph.outputs, nodes, constants, types)
