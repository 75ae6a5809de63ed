"""What a file of the family says of how it was made: damages of exporters, and what it leaves open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.graph import Graph
from npusim.program.lowering.match.dialect import (
    ANNOTATIONS,
    input_range,
    is_typed,
    is_valid_in_integers,
    noted_codes,
    weights_of,
)

__all__ = ["MatchFacts", "facts_of"]

FIRST_WITHOUT_ATTRIBUTES = 11
"""From this opset on bounds of saturations are inputs, and PLiNIO's annotator ends with an error."""


@dataclass(frozen=True, slots=True)
class MatchFacts:
    """Facts of a graph as read.

    Attributes
    ----------
    bound_input
        The name that nothing produced and that was taken for the input; None where all names were right.
    is_unannotated
        Whether the file is what PLiNIO leaves where its annotator ended with an error.
    wrapped
        Nodes whose signed weights are stored as uint8 in a file that ONNX would read unsigned.
    truncating
        Nodes that divide integers toward zero, by ONNX, where the design floors.
    assumed
        Float inputs whose codes the file does not say, with what was taken.
    """

    bound_input: str | None
    is_unannotated: bool
    wrapped: tuple[str, ...]
    truncating: tuple[str, ...]
    assumed: tuple[tuple[str, str], ...]


def facts_of(graph: Graph) -> MatchFacts:
    """The facts of a graph of the family, as it was read."""
    annotated = any(ANNOTATIONS & set(node.attributes) for node in graph.nodes)
    valid, typed = is_valid_in_integers(graph), is_typed(graph)
    casts = any(node.op_type == "Cast" for node in graph.nodes)
    weights = weights_of(graph) if valid else {}
    wrapped = tuple(name for name, values in weights.items() if values.dtype == np.uint8 and _is_wrapped(values))
    divisions = tuple(node.name or node.outputs[0] for node in graph.nodes if valid and node.op_type == "Div")
    floats = [name for name in graph.inputs if graph.types[name].dtype.kind == "f" and noted_codes(graph, name) is None]
    assumed = tuple((name, "s8" if input_range(graph, name).lower < 0 else "u8") for name in floats)
    unannotated = not annotated and not typed and not casts and graph.opset >= FIRST_WITHOUT_ATTRIBUTES
    return MatchFacts(graph.bound_input, unannotated, wrapped, divisions, assumed)


def _is_wrapped(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
    """Whether bytes are centred as int8 and not as uint8: the signed view is the smaller one."""
    signed = np.abs(values.view(np.int8).astype(np.float64)).mean()
    return bool(signed < values.astype(np.float64).mean())
