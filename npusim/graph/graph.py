"""The ONNX graph as plain, frozen data: what the reader produces and everything behind it works on.

Nothing here knows protobuf; nothing here knows what an NPU is.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.errors import ModelError, OperatorError

__all__ = [
    "Array",
    "Attribute",
    "AttributeReader",
    "Dimension",
    "Graph",
    "Node",
    "Quantization",
    "TensorType",
    "bind_dangling_input",
    "sort_topologically",
]

Array: TypeAlias = npt.NDArray[np.generic]
Attribute: TypeAlias = int | float | str | Array | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
Dimension: TypeAlias = int | str | None
"""A size, the name of a size that is not fixed, or None where nothing is known."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape of a tensor.

    Attributes
    ----------
    dtype
        NumPy dtype of the elements.
    shape
        Sizes from the outermost axis inwards; None when even the rank is unknown.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[Dimension, ...] | None

    @property
    def is_static(self) -> bool:
        """True when every size is a number."""
        return self.shape is not None and all(isinstance(size, int) for size in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape when it is static; `ValueError` otherwise (callers check `is_static` where that can happen)."""
        if self.shape is None or not self.is_static:
            raise ValueError(f"shape {self.shape} is not static")
        return tuple(size for size in self.shape if isinstance(size, int))


class AttributeReader:
    """Typed access to the attributes of an operator; an attribute of another type is refused with what was seen and wanted."""

    __slots__ = ()
    attributes: Mapping[str, Attribute]

    def integer(self, name: str, default: int) -> int:
        """An integer attribute, or `default` where the node does not give it."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted an integer")
        return value

    def real(self, name: str, default: float) -> float:
        """A float attribute, or `default` where the node does not give it."""
        value = self.attributes.get(name, default)
        if not isinstance(value, (int, float)):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        """A string attribute, or `default` where the node does not give it."""
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted a string")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, or None where the node does not give it."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple) or not all(isinstance(item, int) for item in value):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted a list of integers")
        return tuple(int(item) for item in value)

    def tensor(self, name: str) -> Array | None:
        """A tensor attribute, or None where the node does not give it."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, np.ndarray):
            raise OperatorError(f"attribute '{name}' is {value!r}, wanted a tensor")
        return value


@dataclass(frozen=True, slots=True)
class Node(AttributeReader):
    """One operator call.

    Attributes
    ----------
    op_type
        Operator name, for example ``"Conv"``.
    name
        Name of the node, possibly empty.
    inputs, outputs
        Tensor names; an empty string stands for an optional tensor that is left out.
    attributes
        Attribute values by name; tensors as arrays, strings decoded.
    domain
        Operator set that the name belongs to; empty for ONNX's own.
    """

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    domain: str = ""

    def __str__(self) -> str:
        """Operator, node name and first output, the way error messages name a node."""
        produced = next((name for name in self.outputs if name), "nothing")
        label = f" '{self.name}'" if self.name else ""
        return f"{self.op_type}{label} (producing '{produced}')"


@dataclass(frozen=True, slots=True)
class Quantization:
    """What the codes of a tensor stand for: ``scale * (code - zero_point)``.

    Attributes
    ----------
    scales
        float32 ``[1]``, or one for each index of `axis`.
    zero_points
        int64 in the shape of `scales`.
    axis
        Axis of the scales where there are several.
    """

    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    axis: int = 0


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model file says about itself, with the names of onnxruntime's class; empty where it says nothing.

    Attributes
    ----------
    producer_name
        The program that wrote it.
    graph_name, domain, description, graph_description
        Texts.
    version
        Of the model; 0 where it says none.
    custom_metadata_map
        Texts by name.
    """

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph in topological order: each node's inputs are graph inputs, constants or outputs of earlier nodes.

    Attributes
    ----------
    opset
        Version of the default operator set.
    inputs, outputs
        Tensor names in declared order. An initializer of the same name as an input is that input's default and is not listed.
    nodes
        Operator calls, topologically ordered.
    constants
        Values known without running the graph: initializers, and after folding the outputs of constant nodes.
    types
        Element type and shape of tensors by name: declared ones, and after type inference those of every tensor.
    folded
        Names of the constants that nodes produced, before folding took those nodes out.
    origins
        Those nodes, by the constant they produced.
    format
        ``"onnx"`` or ``"tflite"``: whose operators the nodes are.
    quantization
        Scales and zero points of tensors, where the format keeps them with the tensor.
    bound_input
        The name that nothing produced and that was taken for the one input that nothing read; None where all names were right.
    metadata
        What the file says about itself.
    producer_version
        The version of the program that wrote it; empty where the file does not say.
    """

    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    types: Mapping[str, TensorType]
    folded: frozenset[str] = frozenset()
    origins: Mapping[str, Node] = field(default_factory=dict)
    format: str = "onnx"
    quantization: Mapping[str, Quantization] = field(default_factory=dict)
    bound_input: str | None = None
    metadata: ModelMetadata = field(default_factory=ModelMetadata)
    producer_version: str = ""

    def producers(self) -> dict[str, Node]:
        """The node that produces each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor, in order; a node that reads it twice stands there twice."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name:
                    readers.setdefault(name, []).append(node)
        return readers


def bind_dangling_input(nodes: Sequence[Node], inputs: Sequence[str], known: set[str]) -> tuple[tuple[Node, ...], str | None]:
    """Let the one tensor that nothing produces be the one input that nothing reads: an exporter renamed only one of both.

    PyTorch's names of inner tensors begin with ``onnx::``; anything else is left as it is. Gives the nodes, and the name.
    """
    produced = {*known, *inputs, *(name for node in nodes for name in node.outputs)}
    read = {name for node in nodes for name in node.inputs if name}
    dangling, unread = read - produced, [name for name in inputs if name not in read]
    if len(dangling) != 1 or len(unread) != 1 or not str(next(iter(dangling))).startswith("onnx::"):
        return tuple(nodes), None
    (lost,), (found,) = dangling, unread
    bound = tuple(replace(node, inputs=tuple(found if name == lost else name for name in node.inputs)) for node in nodes)
    return bound, lost


def sort_topologically(nodes: Sequence[Node], known: set[str], outputs: Sequence[str]) -> tuple[Node, ...]:
    """Order nodes so that each stands behind the producers of its inputs; keeps the given order where it is already right.

    Raises
    ------
    ModelError
        If two nodes produce one tensor, a tensor is read that nothing produces, or nodes wait for each other in a cycle.
    """
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.outputs:
            if name in producer or (name and name in known):
                raise ModelError(f"tensor '{name}' is produced twice, the second time by {node}; one producer is wanted")
            if name:
                producer[name] = index
    for name in outputs:
        if name not in producer and name not in known:
            raise ModelError(f"output '{name}' is produced by no node; the model is incomplete, export it again")
    waiting: list[set[int]] = []
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        sources = set()
        for name in node.inputs:
            if name in producer:
                sources.add(producer[name])
            elif name and name not in known:
                raise ModelError(
                    f"{node} reads tensor '{name}', which nothing produces; the model is incomplete, export it again"
                )
        waiting.append(sources)
        for source in sources:
            readers.setdefault(source, []).append(index)
    return _drain(nodes, waiting, readers)


def _drain(nodes: Sequence[Node], waiting: list[set[int]], readers: Mapping[int, list[int]]) -> tuple[Node, ...]:
    ready = [index for index, sources in enumerate(waiting) if not sources]
    ordered = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(nodes[index])
        for reader in readers.get(index, ()):
            waiting[reader].discard(index)
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(ordered) < len(nodes):
        stuck = next(node for node, sources in zip(nodes, waiting, strict=True) if sources)
        raise ModelError(f"the graph has a cycle: {stuck} waits for its own result; a feed-forward graph is needed")
    return tuple(ordered)
