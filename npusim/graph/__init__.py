"""The ONNX graph as plain data, and what is known of its operators."""

from npusim.graph.graph import (
    Array,
    Attribute,
    AttributeReader,
    Dimension,
    Graph,
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
    "Node",
    "Quantization",
    "TensorType",
    "bind_dangling_input",
    "sort_topologically",
]
