"""Names that stand for another tensor: Identity and Dropout (which does nothing at inference) are taken out of the graph."""

from __future__ import annotations

from dataclasses import replace

from npusim.graph import Graph, Node

__all__ = ["remove_aliases"]


def remove_aliases(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """Take pure renamings out of a graph.

    Returns
    -------
    (graph, aliases)
        The graph without them, every reader reading the original tensor; and for each name that is gone, the tensor it
        stands for. The graph's `outputs` are the tensors that outputs stand for.
    """
    aliases: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(aliases.get(name, name) for name in node.inputs)
        if _renames_only(node, graph):
            aliases[node.outputs[0]] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    outputs = tuple(aliases.get(name, name) for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs), aliases


def _renames_only(node: Node, graph: Graph) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Cast":
        return graph.types[node.inputs[0]].dtype == graph.types[node.outputs[0]].dtype
    if node.op_type != "Dropout" or any(name for name in node.outputs[1:]):
        return False
    training = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    return len(node.inputs) < 3 or not node.inputs[2] or (training is not None and not training.any())
