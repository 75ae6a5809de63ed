"""What tells a graph of the family, what of it is rewritten before types are inferred, and which codes its inputs hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from npusim.errors import UsageError
from npusim.graph import Array, Attribute, Graph, Node
from npusim.graph.ranges import ValueRange, range_of_codes, range_of_type

__all__ = ["ANNOTATIONS", "input_range", "is_match", "plain_graph"]

ANNOTATIONS: Final = frozenset(("weight_bits", "bias_bits", "mult_bits", "add_bits", "out_bits"))
"""Attributes that the exporters add; ONNX knows none of them."""

_PRODUCTS: Final = ("Conv", "MatMul", "Gemm")
_SCALING: Final = ("Mul", "Add", "Cast", "Identity")
_FLOAT32: Final = np.dtype(np.float32)


def is_match(graph: Graph) -> bool:
    """Whether a graph is one of the family: it is annotated, or a product is scaled, divided by a power of two and clipped.

    Parameters
    ----------
    graph
        A graph as read, constants not folded.
    """
    if any(ANNOTATIONS & set(node.attributes) for node in graph.nodes):
        return True
    readers = graph.consumers()
    return any(_is_divided(graph, readers, node) for node in graph.nodes if node.op_type in _PRODUCTS)


def _is_divided(graph: Graph, readers: dict[str, list[Node]], node: Node) -> bool:
    """Whether integer weights are followed by a scale, a division by a power of two of 2 or more and a clip."""
    weights = _constant(graph, node.inputs[1])
    if weights is None or not weights.size or not np.array_equal(weights, np.rint(weights.astype(np.float64))):
        return False
    seen = [one.op_type for one in _behind(readers, node.outputs[0])]
    return "Div" in seen and "Clip" in seen and "Mul" in seen[: seen.index("Div")]


def _behind(readers: dict[str, list[Node]], tensor: str) -> Iterator[Node]:
    """The nodes of a chain behind a tensor, up to its clip."""
    while len(following := readers.get(tensor, [])) == 1:
        (node,) = following
        if node.op_type not in (*_SCALING, "Div", "Floor", "Clip"):
            return
        yield node
        if node.op_type == "Clip":
            return
        tensor = node.outputs[0]


def _constant(graph: Graph, name: str) -> Array | None:
    if name in graph.constants:
        return graph.constants[name]
    made = next((node for node in graph.nodes if name in node.outputs and node.op_type == "Constant"), None)
    value = None if made is None else made.attributes.get("value")
    return value if isinstance(value, np.ndarray) else None


def plain_graph(graph: Graph) -> Graph:
    """The graph without what ONNX does not know: annotations, and the element types of MATCH's own test models."""
    weights = [_constant(graph, node.inputs[1]) for node in graph.nodes if node.op_type in _PRODUCTS]
    if any(values is not None and values.dtype.kind in "iu" for values in weights):
        return _without_types(graph)
    return replace(graph, nodes=tuple(replace(node, attributes=_known(node)) for node in graph.nodes))


def _known(node: Node) -> dict[str, Attribute]:
    return {name: value for name, value in node.attributes.items() if name not in ANNOTATIONS}


def _without_types(graph: Graph) -> Graph:
    """The same integers in float32 throughout: what ONNX's type rules refuse is nothing else.

    Casts become other names of the same tensor. Weights that are stored as uint8 are bytes of int8. An input of integers is
    read by a cast.
    """
    typed = [name for name in graph.inputs if graph.types[name].dtype.kind in "iu"]
    cast = {name: f"{name}/as_float" for name in typed}
    weights = {node.inputs[1] for node in graph.nodes if node.op_type in _PRODUCTS and len(node.inputs) > 1}
    constants = {name: _plain(value, is_weight=name in weights) for name, value in graph.constants.items()}
    nodes = [Node("Cast", name, (name,), (made,), {"to": 1}) for name, made in cast.items()]
    nodes += [_plain_node(node, cast, weights) for node in graph.nodes]
    types = {name: graph.types[name] for name in graph.inputs}
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types)


def _plain_node(node: Node, cast: dict[str, str], weights: set[str]) -> Node:
    inputs = tuple(cast.get(name, name) for name in node.inputs)
    attributes = _known(node)
    if node.op_type == "Cast":
        return replace(node, op_type="Identity", inputs=inputs, attributes={})
    value = attributes.get("value")
    if node.op_type == "Constant" and isinstance(value, np.ndarray):
        attributes["value"] = _plain(value, is_weight=node.outputs[0] in weights)
    return replace(node, inputs=inputs, attributes=attributes)


def _plain(value: Array, *, is_weight: bool) -> Array:
    """A constant in float32 where that is exact."""
    if value.dtype.kind not in "iu" or (value.dtype == np.int64 and value.ndim <= 1 and value.size != 1):
        return value
    signed = value.view(np.int8) if is_weight and value.dtype == np.uint8 else value
    found = signed.astype(np.float32)
    return found if np.array_equal(found.astype(np.int64), signed.astype(np.int64)) else value


def input_range(graph: Graph, name: str, codes: str | None = None) -> ValueRange:
    """The codes of an input: as asked for, as its element type says, or as the clips say: unsigned where they start at 0.

    Parameters
    ----------
    graph
        The graph.
    name
        Name of the input.
    codes
        ``"u8"``, ``"s8"``, ``"u4"`` ...; None where the file has to tell.
    """
    kind = graph.types[name].dtype
    if codes is not None:
        if codes[:1] not in ("u", "s") or codes[1:] not in ("2", "4", "8", "16"):
            raise UsageError(f"there are no codes '{codes}'; wanted u or s and 2, 4, 8 or 16 bits, for example u8")
        bits = int(codes[1:])
        return range_of_codes(0, 2**bits - 1) if codes[0] == "u" else range_of_codes(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if kind.kind in "iu":
        return range_of_type(kind)
    lows = [node.attributes["min"] for node in graph.nodes if node.op_type == "Clip" and "min" in node.attributes]
    signed = any(isinstance(low, int | float) and -128 <= low < 0 for low in lows)
    return range_of_codes(-128, 127) if signed else range_of_codes(0, 255)
