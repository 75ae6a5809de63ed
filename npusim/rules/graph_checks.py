"""Findings on the graph itself, before any layer is looked at: open sizes, batch, foreign quantization operators."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.findings import SourcedFinding
from npusim.graph import Graph
from npusim.graph.traits import FOREIGN_QUANTIZATION
from npusim.program.lowering.tinpu.chain import node_label

__all__ = ["batch_findings", "foreign_findings", "graph_findings", "size_findings"]


def graph_findings(graph: Graph) -> Iterator[SourcedFinding]:
    """All findings on a graph."""
    yield from batch_findings(graph)
    yield from size_findings(graph)
    yield from foreign_findings(graph)


def batch_findings(graph: Graph) -> Iterator[SourcedFinding]:
    """Inputs whose first axis is not 1."""
    for name in graph.inputs:
        shape = graph.types[name].shape
        if not shape or shape[0] == 1:
            continue
        fixed = isinstance(shape[0], int)
        message = f"input '{name}' has a batch of {shape[0] if fixed else 'any size'}, wanted 1"
        yield SourcedFinding(
            "batch",
            "error" if fixed else "warning",
            None,
            message,
            "export the model with batch 1",
            {"seen": shape[0], "wanted": 1},
            tensor=name,
        )


def size_findings(graph: Graph) -> Iterator[SourcedFinding]:
    """Inputs with sizes that the model leaves open."""
    for name in graph.inputs:
        shape = graph.types[name].shape
        open_axes = [] if shape is None else [axis for axis, size in enumerate(shape[1:], 1) if not isinstance(size, int)]
        if shape is not None and not open_axes:
            continue
        where = "its rank" if shape is None else f"axis {', '.join(map(str, open_axes))}"
        message = f"input '{name}' leaves {where} open, wanted fixed sizes"
        remedy = "export the model without dynamic axes"
        yield SourcedFinding("dynamic-shape", "error", None, message, remedy, {"axes": open_axes}, tensor=name)


def foreign_findings(graph: Graph) -> Iterator[SourcedFinding]:
    """Nodes of other quantization formats, which are no layers of the NPU."""
    for node in graph.nodes:
        if node.op_type in FOREIGN_QUANTIZATION:
            message = f"{node.op_type} belongs to another quantization format: no layer of the NPU is made of it"
            remedy = "quantize the model with the vendor's wrapper for the NPU instead"
            label = node_label(node)
            yield SourcedFinding("foreign-quantization", "error", label, message, remedy, node=label, tensor=node.outputs[0])
