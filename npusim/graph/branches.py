"""``If`` nodes whose condition is a constant: the branch that is taken stands in the node's place."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

__all__ = ["take_constant_branches"]


def take_constant_branches(graph: onnx.GraphProto) -> None:
    """Replace each ``If`` of a constant condition, nested ones too, by the nodes of its branch; others stay as they are.

    Names made inside of a branch are made unique with the name of the first result in front; what it reads from outside, and
    what it hands out, keeps its name.

    Parameters
    ----------
    graph
        Changed in place. Conditions are initializers or the results of Constant nodes.
    """
    while (found := _first(graph)) is not None:
        index, node, branch = found
        inside = _inlined(node, branch, graph)
        rest = list(graph.node)[index + 1 :]
        del graph.node[index:]
        graph.node.extend([*inside, *rest])


def _first(graph: onnx.GraphProto) -> tuple[int, onnx.NodeProto, onnx.GraphProto] | None:
    known = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.BOOL}
    for index, node in enumerate(graph.node):
        if node.op_type == "Constant" and not node.domain:
            known.update((node.output[0], entry.t) for entry in node.attribute if entry.name == "value")
        if node.op_type == "If" and not node.domain and node.input[0] in known:
            condition = numpy_helper.to_array(known[node.input[0]])
            wanted = "then_branch" if condition.size == 1 and bool(condition.reshape(())) else "else_branch"
            branch = next((entry.g for entry in node.attribute if entry.name == wanted), None)
            if branch is not None and condition.size == 1 and len(branch.output) == len(node.output):
                return index, node, branch
    return None


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
