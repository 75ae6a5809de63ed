"""Graphs as plain data, the readers and writers of their files, and what is known of their operators."""

from npusim.graph.graph import (
    Array,
    Attribute,
    AttributeReader,
    Dimension,
    Graph,
    ModelMetadata,
    Node,
    Quantization,
    TensorType,
    bind_dangling_input,
    sort_topologically,
)

__all__ = [
    "Array",
    "Attribute",
    "AttributeReader",
    "Dimension",
    "Graph",
    "ModelMetadata",
    "Node",
    "Quantization",
    "TensorType",
    "bind_dangling_input",
    "sort_topologically",
]
