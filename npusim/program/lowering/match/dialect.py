"""What tells a graph of the family, what of it is rewritten before types are inferred, and which codes its inputs hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from npusim.errors import UsageError
from npusim.graph import Array, Attribute, Graph, Node
from npusim.graph.ranges import ValueRange, range_of_codes, range_of_type

__all__ = [
    "ANNOTATIONS",
    "default_arithmetic",
    "input_range",
    "is_match",
    "is_typed",
    "is_valid_in_integers",
    "noted_codes",
    "plain_graph",
    "weights_of",
    "without_types",
]

ANNOTATIONS: Final = frozenset(("weight_bits", "bias_bits", "mult_bits", "add_bits", "out_bits"))
"""Attributes that the exporters add; ONNX knows none of them."""

_NOTE: Final = re.compile(r"\{'precision': (?P<bits>2|4|8|16), 'signed': (?P<signed>True|False)\}")

_INTEGER_PRODUCTS: Final = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
_PRODUCTS: Final = ("Conv", "MatMul", "Gemm", *_INTEGER_PRODUCTS)
_SCALING: Final = ("Mul", "Add", "Cast", "Identity")
_WHOLE: Final = {
    "Reshape": (1,),
    "Pad": (1, 3),
    "Gather": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "ReduceSum": (1,),
    "ReduceMean": (1,),
    "Slice": (1, 2, 3, 4),
    "Expand": (1,),
    "Tile": (1,),
    "Split": (1,),
}
"""Inputs that hold sizes, axes and positions, not data."""


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
    if node.op_type in _INTEGER_PRODUCTS and any(node.inputs[2:]):
        return False
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


def is_typed(graph: Graph) -> bool:
    """Whether integers stand in integer types, as in MATCH's own test models and PLiNIO's exports for ONNX."""
    weights = [_constant(graph, node.inputs[1]) for node in graph.nodes if node.op_type in _PRODUCTS]
    return any(values is not None and values.dtype.kind in "iu" for values in weights)


def weights_of(graph: Graph) -> dict[str, Array]:
    """Constant weights of products, by the name of the node."""
    found = {
        node.name or node.outputs[0]: _constant(graph, node.inputs[1]) for node in graph.nodes if node.op_type in _PRODUCTS
    }
    return {name: values for name, values in found.items() if values is not None}


def is_valid_in_integers(graph: Graph) -> bool:
    """Whether products are those that ONNX has for integers, so that ONNX itself says what the file means."""
    return any(node.op_type in _INTEGER_PRODUCTS for node in graph.nodes)


def default_arithmetic(graph: Graph) -> str:
    """``"onnx"`` for files that ONNX has a meaning for in integers, ``"match"`` for all others."""
    return "onnx" if is_valid_in_integers(graph) else "match"


def plain_graph(graph: Graph, arithmetic: str) -> Graph:
    """The graph without what ONNX does not know: annotations, and the element types of MATCH's own test models.

    Weights that are stored as uint8 are bytes of int8, unless the file is taken literally.
    """
    if is_typed(graph):
        return without_types(graph, bytes_are_signed=arithmetic != "onnx" or not is_valid_in_integers(graph))
    return replace(graph, nodes=tuple(replace(node, attributes=_known(node)) for node in graph.nodes))


def _known(node: Node) -> dict[str, Attribute]:
    return {name: value for name, value in node.attributes.items() if name not in ANNOTATIONS}


def without_types(graph: Graph, *, bytes_are_signed: bool) -> Graph:
    """The same integers in float64 throughout: what ONNX's type rules refuse is nothing else.

    Casts become other names of the same tensor.
    """
    weights = {node.inputs[1] for node in graph.nodes if node.op_type in _PRODUCTS and len(node.inputs) > 1}
    kept = {node.inputs[at] for node in graph.nodes for at in _WHOLE.get(node.op_type, ()) if at < len(node.inputs)}
    signed = weights if bytes_are_signed else set()
    constants = {
        name: value if name in kept else _plain(value, is_signed=name in signed) for name, value in graph.constants.items()
    }
    types = {name: replace(graph.types[name], dtype=np.dtype(np.float64)) for name in graph.inputs}
    nodes = tuple(_plain_node(node, signed, kept) for node in graph.nodes)
    return replace(graph, nodes=nodes, constants=constants, types=types)


def _plain_node(node: Node, signed: set[str], kept: set[str]) -> Node:
    attributes = _known(node)
    if node.op_type == "Cast":
        return replace(node, op_type="Identity", attributes={})
    value = attributes.get("value")
    if node.op_type == "Constant" and isinstance(value, np.ndarray) and node.outputs[0] not in kept:
        attributes["value"] = _plain(value, is_signed=node.outputs[0] in signed)
    return replace(node, op_type=_INTEGER_PRODUCTS.get(node.op_type, node.op_type), attributes=attributes)


def _plain(value: Array, *, is_signed: bool) -> Array:
    """A constant in float64 where that is exact."""
    if value.dtype.kind not in "iuf" or (value.dtype == np.int64 and value.ndim <= 1 and value.size != 1):
        return value
    signed = value.view(np.int8) if is_signed and value.dtype == np.uint8 else value
    found = signed.astype(np.float64)
    with np.errstate(invalid="ignore"):  # what the type does not hold is found by the comparison
        return found if np.array_equal(found.astype(signed.dtype), signed) else value


def noted_codes(graph: Graph, name: str) -> str | None:
    """The codes of a tensor that PLiNIO has noted in the file's metadata; None where it has not.

    A note is ``{'precision': 8, 'signed': True}`` under the tensor's name.
    """
    found = _NOTE.fullmatch(graph.metadata.custom_metadata_map.get(name, ""))
    return None if found is None else f"{'s' if found['signed'] == 'True' else 'u'}{found['bits']}"


def input_range(graph: Graph, name: str, codes: str | None = None) -> ValueRange:
    """The codes of an input: as asked for, as the file notes, as its type says, or as the clips say: unsigned if from 0.

    Parameters
    ----------
    graph
        The graph.
    name
        Name of the input.
    codes
        ``"u8"``, ``"s8"``, ``"u4"`` ...; None where the file has to tell.
    """
    kind, codes = graph.types[name].dtype, noted_codes(graph, name) if codes is None else codes
    if codes is not None:
        if codes[:1] not in ("u", "s") or codes[1:] not in ("2", "4", "8", "16"):
            raise UsageError(f"there are no codes '{codes}'; wanted u or s and 2, 4, 8 or 16 bits, for example u8")
        bits = int(codes[1:])
        return range_of_codes(0, 2**bits - 1) if codes[0] == "u" else range_of_codes(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if kind.kind in "iu" and kind.itemsize <= 2:
        return range_of_type(kind)
    lows = [node.attributes["min"] for node in graph.nodes if node.op_type == "Clip" and "min" in node.attributes]
    signed = any(isinstance(low, int | float) and -128 <= low < 0 for low in lows)
    return range_of_codes(-128, 127) if signed else range_of_codes(0, 255)
