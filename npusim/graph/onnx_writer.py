"""Writing ONNX files: protobuf is built here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from npusim.graph.graph import Array, Node

__all__ = ["IR_VERSION", "OPSET", "write_model"]

OPSET = 17
"""Operator set of the graphs that the NPU's compilers are known to read."""

IR_VERSION = 8
"""Format version that belongs to opset 17; onnxruntime reads it since 1.11."""


def write_model(
    nodes: Sequence[Node],
    constants: Mapping[str, Array],
    *,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    producer: str = "npusim",
    opset: int = OPSET,
    notes: Mapping[str, str] | None = None,
) -> bytes:
    """Serialize a graph.

    Parameters
    ----------
    nodes
        In topological order.
    constants
        Initializers by name.
    inputs, outputs
        Names and shapes; all are float32.
    producer
        Name of the program, which the file carries.
    opset
        Version of the default operator set.
    notes
        The file's metadata.

    Returns
    -------
    bytes
        A ModelProto; the same graph gives the same bytes.
    """
    graph = helper.make_graph(
        [_node(node) for node in nodes],
        "main_graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, producer_name=producer, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = max(IR_VERSION, helper.find_min_ir_version_for(model.opset_import))
    helper.set_model_props(model, dict(notes or {}))
    return bytes(model.SerializeToString(deterministic=True))


def _node(node: Node) -> NodeProto:
    proto = helper.make_node(node.op_type, node.inputs, node.outputs, node.name)
    for name, value in node.attributes.items():
        plain = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        proto.attribute.append(helper.make_attribute(name, list(plain) if isinstance(plain, tuple) else plain))
    return proto
