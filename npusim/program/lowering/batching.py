"""How samples on the first axis can go through a graph that was exported for a batch of one.

Stacking samples must not change any of them: every operation has to treat the first axis as samples and nothing else.
Constants that mention the batch (a Reshape to ``[1, 64]``) are generalised here; a graph with an operation that mixes
samples is run sample by sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from npusim.graph import Array, Graph, Node, TensorType
from npusim.graph.traits import SampleAxis, Trait, is_a, traits_of
from npusim.program.program import Batching

__all__ = ["generalise_batch"]

_DEFAULT_AXIS: Final = {"Softmax": -1, "LogSoftmax": -1, "QuantizeLinear": 1, "DequantizeLinear": 1}


def generalise_batch(graph: Graph) -> tuple[Graph, Batching]:
    """Decide how samples go through a graph, and free its constants from the batch of one.

    Parameters
    ----------
    graph
        A folded graph with static types.

    Returns
    -------
    (graph, batching)
        The graph, for STACKED with generalised constants.
    """
    shapes = [graph.types[name].static_shape for name in graph.inputs]
    if not shapes or any(len(shape) == 0 or shape[0] != 1 for shape in shapes):
        return graph, Batching.FIXED
    extra: dict[str, Array] = {}
    nodes = []
    for node in graph.nodes:
        general = _generalise(node, graph, extra)
        if general is None:
            return graph, Batching.SINGLE
        nodes.append(general)
    if any(name in graph.constants or graph.types[name].static_shape[:1] != (1,) for name in graph.outputs):
        return graph, Batching.SINGLE
    types = {name: TensorType(value.dtype, value.shape) for name, value in extra.items()}
    constants = {**graph.constants, **extra}
    return replace(graph, nodes=tuple(nodes), constants=constants, types={**graph.types, **types}), Batching.STACKED


def _generalise(node: Node, graph: Graph, extra: dict[str, Array]) -> Node | None:
    """The node in a form that takes any number of samples; None when it mixes them."""
    variable = [name for name in node.inputs if name and name not in graph.constants]
    shapes = {name: graph.types[name].static_shape for name in node.inputs if name}
    result = graph.types[next(name for name in node.outputs if name)].static_shape
    if any(shapes[name][:1] != (1,) for name in variable) or result[:1] != (1,):
        return None
    samples = traits_of(node.op_type).samples
    if is_a(node.op_type, Trait.WINDOWED) and any(node.outputs[1:]):
        # the places of maxima count from the first sample
        return None
    if samples is SampleAxis.BROADCAST:
        return node if _broadcasts_within_samples(variable, shapes, graph.constants, len(result)) else None
    if samples is SampleAxis.PRODUCT:
        return node if _multiplies_within_samples(node, variable, shapes) else None
    if samples is SampleAxis.FIRST:
        return node if variable == [node.inputs[0]] else None
    if samples is SampleAxis.NAMED:
        return _along_axis(node, variable, shapes, graph.opset)
    if samples is SampleAxis.RESHAPED:
        return _reshape(node, variable, result, extra)
    if samples is SampleAxis.PERMUTED:
        order = node.integers("perm")
        return node if order and order[0] == 0 else None
    return _rest(node, variable, shapes, graph, extra)


def _broadcasts_within_samples(
    variable: list[str], shapes: Mapping[str, tuple[int, ...]], constants: Mapping[str, Array], rank: int
) -> bool:
    if any(len(shapes[name]) != rank for name in variable):
        return False
    return all(len(shape) < rank or shape[0] == 1 for name, shape in shapes.items() if name in constants)


def _multiplies_within_samples(node: Node, variable: list[str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    first = node.inputs[0]
    if node.op_type == "Gemm":
        bias = shapes[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else (1,)
        return variable == [first] and not node.integer("transA", 0) and (len(bias) < 2 or bias[0] == 1)
    if variable == [first]:
        return len(shapes[node.inputs[1]]) == 2 and len(shapes[first]) >= 2
    return len(variable) == 2 and len(shapes[variable[0]]) == len(shapes[variable[1]]) >= 3


def _along_axis(node: Node, variable: list[str], shapes: Mapping[str, tuple[int, ...]], opset: int) -> Node | None:
    default = 1 if opset < 13 and node.op_type.endswith("Softmax") else _DEFAULT_AXIS.get(node.op_type, 0)
    rank = len(shapes[node.inputs[0]])
    axis = node.integer("axis", default)
    if rank == 0 or axis % rank == 0:
        return None
    allowed = list(node.inputs) if is_a(node.op_type, Trait.JOINS) else [node.inputs[0]]
    return node if variable == allowed else None


def _reshape(node: Node, variable: list[str], result: tuple[int, ...], extra: dict[str, Array]) -> Node | None:
    if variable != [node.inputs[0]] or 0 in result:
        return None
    reshape = replace(node, op_type="Reshape", inputs=(node.inputs[0], ""), attributes={})
    return _with_constant(reshape, 1, np.array([-1, *result[1:]], np.int64), extra)


def _rest(
    node: Node, variable: list[str], shapes: Mapping[str, tuple[int, ...]], graph: Graph, extra: dict[str, Array]
) -> Node | None:
    if not node.inputs or variable != [node.inputs[0]]:
        return None
    rank = len(shapes[node.inputs[0]])
    samples = traits_of(node.op_type).samples
    if samples in (SampleAxis.REDUCED, SampleAxis.SLICED):
        axes = _integers(node, graph, 1 if samples is SampleAxis.REDUCED else 3, "axes")
        return node if axes and all(axis % rank != 0 for axis in axes) else None
    if samples is SampleAxis.PADDED:
        pads = _integers(node, graph, 1, "pads")
        return node if pads and len(pads) == 2 * rank and pads[0] == 0 == pads[rank] else None
    if samples is SampleAxis.REPEATED:
        sizes = _integers(node, graph, 1, "shape")
        return node if sizes and (len(sizes) < rank or (len(sizes) == rank and sizes[0] == 1)) else None
    if samples is SampleAxis.RESIZED:
        return _resize(node, graph, rank, extra)
    return None


def _resize(node: Node, graph: Graph, rank: int, extra: dict[str, Array]) -> Node | None:
    if "axes" in node.attributes or node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    position = 3 if len(node.inputs) > 3 and node.inputs[3] else (1 if graph.opset < 11 else 2)
    sizes = graph.constants.get(node.inputs[position])
    if sizes is None or sizes.size != rank or sizes.reshape(-1)[0] != 1:
        return None
    if position != 3:
        return node
    general = _with_constant(node, position, np.asarray(sizes).reshape(-1)[1:], extra)
    return replace(general, attributes={**node.attributes, "axes": tuple(range(1, rank))})


def _integers(node: Node, graph: Graph, position: int, attribute: str) -> tuple[int, ...] | None:
    value = node.integers(attribute)
    if value is None and len(node.inputs) > position and node.inputs[position]:
        constant = graph.constants.get(node.inputs[position])
        return None if constant is None else tuple(int(item) for item in constant.reshape(-1))
    return value


def _with_constant(node: Node, position: int, value: Array, extra: dict[str, Array]) -> Node:
    name = f"{node.outputs[0]}/any_batch"
    extra[name] = value
    inputs = list(node.inputs)
    inputs[position] = name
    return replace(node, inputs=tuple(inputs))
