"""``If`` nodes whose condition is a constant: the branch that is taken stands in the node's place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from npusim.graph.graph import Array

__all__ = ["Evaluate", "take_constant_branches"]

MAXIMUM_ELEMENTS: Final = 4096
"""Largest tensor that a condition is computed from: sizes and what is made of them."""

Evaluate: TypeAlias = Callable[[onnx.NodeProto, Mapping[str, Array]], Sequence[Array] | None]
"""The results of a node from the values of its inputs; None where they cannot be computed."""


def take_constant_branches(proto: onnx.ModelProto, evaluate: Evaluate) -> None:
    """Replace each ``If`` of a constant condition, nested ones too, by the nodes of its branch; others stay as they are.

    Names made inside of a branch are made unique with the name of the first result in front; what it reads from outside, and
    what it hands out, keeps its name.

    Parameters
    ----------
    proto
        The model, whose graph is changed in place. Conditions are constants, or are computed from constants and from sizes that
        the model fixes; an open first axis is the batch, which is one.
    evaluate
        Computes a node.
    """
    graph = proto.graph
    while any(_is_branch(node) for node in graph.node) and (found := _first(proto, evaluate)) is not None:
        index, node, branch = found
        inside = _inlined(node, branch, graph)
        rest = list(graph.node)[index + 1 :]
        del graph.node[index:]
        graph.node.extend([*inside, *rest])


def _is_branch(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "If" and not node.domain and node.input)


def _first(proto: onnx.ModelProto, evaluate: Evaluate) -> tuple[int, onnx.NodeProto, onnx.GraphProto] | None:
    known = _conditions(proto, evaluate)
    for index, node in enumerate(proto.graph.node):
        condition = known.get(node.input[0]) if _is_branch(node) else None
        if condition is None or condition.size != 1:
            continue
        wanted = "then_branch" if bool(condition.reshape(())) else "else_branch"
        branch = next((entry.g for entry in node.attribute if entry.name == wanted), None)
        if branch is not None and len(branch.output) == len(node.output):
            return index, node, branch
    return None


def _conditions(proto: onnx.ModelProto, evaluate: Evaluate) -> dict[str, Array]:
    """The values of the tensors that conditions depend on, as far as they are constant."""
    graph = proto.graph
    needed = _needed(graph)
    known: dict[str, Array] = {}
    for tensor in graph.initializer:
        if tensor.name in needed and math.prod(tensor.dims) <= MAXIMUM_ELEMENTS and not tensor.external_data:
            try:
                known[tensor.name] = numpy_helper.to_array(tensor)
            except (TypeError, ValueError):
                # damaged, which is told where it is read
                continue
    sizes: dict[str, tuple[int, ...]] | None = None
    for node in graph.node:
        if needed.isdisjoint(node.output) or node.domain or any(entry.HasField("g") for entry in node.attribute):
            continue
        if node.op_type in ("Shape", "Size"):
            sizes = _sizes(proto) if sizes is None else sizes
            shape = sizes.get(node.input[0])
            values: Mapping[str, Array] | None = None if shape is None else {node.input[0]: _placeholder(shape)}
        else:
            values = {name: known[name] for name in node.input if name in known}
        if values is None or any(name and name not in values for name in node.input):
            continue
        results = evaluate(node, values)
        if results is not None and all(result.size <= MAXIMUM_ELEMENTS for result in results):
            known.update((name, result) for name, result in zip(node.output, results, strict=False) if name)
    return known


def _placeholder(shape: tuple[int, ...]) -> Array:
    """An array of a shape that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


def _needed(graph: onnx.GraphProto) -> set[str]:
    """The tensors that conditions depend on."""
    producers = {name: node for node in graph.node for name in node.output if name}
    needed: set[str] = set()
    waiting = [node.input[0] for node in graph.node if _is_branch(node)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(producers[name].input if name in producers else ())
    return needed


def _sizes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes that are fixed for one sample."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for info in copy.graph.input:
        dims = info.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    del copy.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = copy.graph
    found = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for info in (*inferred.value_info, *inferred.output, *inferred.input):
        dims = info.type.tensor_type.shape.dim
        if info.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
            found.setdefault(info.name, tuple(dim.dim_value for dim in dims))
    return found


def _inlined(node: onnx.NodeProto, branch: onnx.GraphProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of a branch, and what gives its outputs the names of the node's."""
    prefix = f"{next(name for name in node.output if name)}/"
    own = {tensor.name for tensor in branch.initializer} | {name for part in branch.node for name in part.output if name}
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = prefix + tensor.name
    nodes = [_renamed(part, own, prefix) for part in branch.node]
    for outer, inner in zip(node.output, branch.output, strict=True):
        if outer:
            nodes.append(helper.make_node("Identity", [prefix + inner.name if inner.name in own else inner.name], [outer]))
    return nodes


def _renamed(node: onnx.NodeProto, own: set[str], prefix: str) -> onnx.NodeProto:
    found = onnx.NodeProto()
    found.CopyFrom(node)
    for names in (found.input, found.output):
        names[:] = [prefix + name if name in own else name for name in names]
    for entry in found.attribute:
        if entry.HasField("g"):
            # what an inner branch makes itself hides the outer name
            hidden = {tensor.name for tensor in entry.g.initializer} | {name for part in entry.g.node for name in part.output}
            inner = [_renamed(part, own - hidden, prefix) for part in entry.g.node]
            del entry.g.node[:]
            entry.g.node.extend(inner)
            for output in entry.g.output:
                output.name = prefix + output.name if output.name in own - hidden else output.name
    return found
