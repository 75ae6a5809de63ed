"""A float graph made ready for reading: constants folded, shapes fixed, renamings taken out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.graph import Graph, Node, TensorType
from npusim.graph.folding import fold
from npusim.graph.onnx_reader import infer_node
from npusim.program.lowering.aliases import remove_aliases
from npusim.program.lowering.floats.roles import computes_in_integers

__all__ = ["fold_float_graph"]


def fold_float_graph(graph: Graph) -> Graph:
    """Fold the constants of a float graph for a batch of one, and take pure renamings out.

    Raises
    ------
    UnsupportedError
        If sizes stay open, the model has a batch that is not one, or an operator is unknown to npusim.
    ModelError
        If the graph is quantized already, has no input or contradicts itself.
    """
    if not graph.inputs:
        raise ModelError("the model has no input, so there is nothing to quantize for")
    folded = fold(graph, infer_node, known={}, input_types={name: _input_type(graph, name) for name in graph.inputs})
    for node in folded.nodes:
        if any(name and (name not in folded.types or not folded.types[name].is_static) for name in node.outputs):
            raise UnsupportedError(f"the shape of what {node} gives is not fixed; export the model with fixed shapes")
        if computes_in_integers(node):
            raise ModelError(f"{node} shows that the model is quantized already; give the float model it was made from")
    return _keep_output_names(folded)


def _input_type(graph: Graph, name: str) -> TensorType:
    declared = graph.types[name]
    shape = declared.shape
    if declared.dtype != np.float32 or shape is None or len(shape) < 2:
        raise UnsupportedError(f"input '{name}' is {declared.dtype} {shape}, wanted float32 with samples on the first axis")
    sizes = (shape[0] if isinstance(shape[0], int) else 1, *shape[1:])
    if sizes[0] != 1 or any(not isinstance(size, int) for size in sizes):
        raise UnsupportedError(f"input '{name}' has the shape {shape}, wanted a batch of 1 and fixed sizes; export it so")
    return TensorType(declared.dtype, sizes)


def _keep_output_names(graph: Graph) -> Graph:
    """The graph without pure renamings; where an output was one, the tensor it stands for takes the output's name."""
    plain, _ = remove_aliases(graph)
    new: dict[str, str] = {}
    extra = []
    for name, target in zip(graph.outputs, plain.outputs, strict=True):
        if name != target and (target in plain.inputs or target in new or target in graph.outputs):
            extra.append(Node("Identity", "", (target,), (name,)))
        elif name != target:
            new[target] = name
    nodes = tuple(
        replace(
            node,
            inputs=tuple(new.get(name, name) for name in node.inputs),
            outputs=tuple(new.get(name, name) for name in node.outputs),
        )
        for node in plain.nodes
    )
    return replace(plain, nodes=(*nodes, *extra), outputs=graph.outputs)
