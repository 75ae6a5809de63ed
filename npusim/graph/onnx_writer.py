"""Writing ONNX files: protobuf is built here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from npusim.graph.graph import Array, Node
from npusim.graph.model_file import ModelFile
from npusim.graph.onnx_reader import parse_model

__all__ = ["IR_VERSION", "OPSET", "with_producers", "write_model"]

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


def with_producers(model: ModelFile, nodes: Sequence[Node], constants: Mapping[str, Array], wanted: Iterable[str]) -> ModelFile:
    """A copy of a model in which other nodes compute some of its tensors.

    Parameters
    ----------
    model
        The model.
    nodes
        They take the place of the nodes of the model that produce the same tensors; their other results are new.
    constants
        Initializers that they read.
    wanted
        Tensors that are needed beside the outputs; nodes that nothing needs are left out.
    """
    proto = parse_model(model)
    made = {name for node in nodes for name in node.outputs}
    kept = [node for node in proto.graph.node if made.isdisjoint(node.output)] + [_node(node) for node in nodes]
    goals = [*(output.name for output in proto.graph.output), *wanted]
    ordered = _in_order(kept, goals)
    del proto.graph.node[:]
    proto.graph.node.extend(ordered)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    known = {entry.domain for entry in proto.opset_import}
    proto.opset_import.extend(
        helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in nodes} - known - {""})
    )
    # shapes that the file notes may be those of nodes that are gone
    del proto.graph.value_info[:]
    return ModelFile(model.path, bytes(proto.SerializeToString()))


def _in_order(nodes: Sequence[NodeProto], goals: Sequence[str]) -> list[NodeProto]:
    """Those nodes that goals need, each behind what it reads."""
    producers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    found: list[NodeProto] = []
    done: set[int] = set()
    waiting = [(name, False) for name in reversed(goals)]
    while waiting:
        name, entered = waiting.pop()
        index = producers.get(name)
        if index is None or index in done:
            continue
        if entered:
            done.add(index)
            found.append(nodes[index])
        else:
            waiting.append((name, True))
            waiting.extend((source, False) for source in _sources(nodes[index]))
    return found


def _sources(node: NodeProto) -> list[str]:
    """What a node reads, inside of its branches as well."""
    inner = [name for entry in node.attribute if entry.HasField("g") for one in entry.g.node for name in _sources(one)]
    return [*(name for name in node.input if name), *inner]


def _node(node: Node) -> NodeProto:
    proto = helper.make_node(node.op_type, node.inputs, node.outputs, node.name, domain=node.domain or None)
    for name, value in node.attributes.items():
        plain = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        proto.attribute.append(helper.make_attribute(name, list(plain) if isinstance(plain, tuple) else plain))
    return proto
