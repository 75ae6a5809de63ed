"""Constant folding and type inference in one walk: afterwards every remaining node depends on the input and has known types.

Each exporter hides its constants differently (initializers, Constant nodes, chains of Pow, Log and Where); after folding
they are plain arrays. Sizes are checked before anything is computed, so that a damaged or absurd model is refused in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.graph.graph import Array, Graph, Node, TensorType
from npusim.graph.operators import evaluate_node, lookup, why_unsupported
from npusim.graph.traits import Trait, is_a
from npusim.kernels.geometry import output_sizes, resolve_pads

__all__ = ["MAXIMUM_ELEMENTS", "MAXIMUM_MULTIPLY_ACCUMULATES", "Inference", "fold"]

MAXIMUM_ELEMENTS = 2**24
"""Largest tensor of one sample: hundreds of times a microcontroller's memory, yet small enough to be refused in time."""

MAXIMUM_MULTIPLY_ACCUMULATES = 2**32
"""Most multiply-accumulates of one layer and sample: more would run for longer than anyone waits."""

Inference: TypeAlias = Callable[[Node, Mapping[str, TensorType], Mapping[str, Array], int], tuple[TensorType | None, ...]]
"""How types are inferred: node, known types, known constants, opset -> a type for each output (None where unknown)."""


def fold(graph: Graph, infer: Inference, *, known: Mapping[str, Array], input_types: Mapping[str, TensorType]) -> Graph:
    """Fold constants and infer the type of every tensor.

    Parameters
    ----------
    graph
        A graph as read.
    infer
        The type inference of single nodes.
    known
        Values of graph inputs that are fixed for this plan, because shapes depend on them; usually empty.
    input_types
        Types of the other graph inputs, as static as the caller knows them.

    Returns
    -------
    Graph
        Without the constant nodes; `constants` holds their results, `types` every tensor. Unknown sizes stay unknown.

    Raises
    ------
    ModelError
        If a declared type contradicts the inferred one, or a node its inputs.
    UnsupportedError
        If an operator is not supported or a tensor or layer is absurdly large.
    """
    constants = {**graph.constants, **known}
    types = {name: TensorType(value.dtype, value.shape) for name, value in constants.items()}
    types.update({name: kind for name, kind in input_types.items() if name not in constants})
    remaining, origins = [], dict[str, Node]()
    for node in graph.nodes:
        if lookup(node.op_type) is None:
            raise UnsupportedError(f"{node} {why_unsupported(node.op_type)}")
        for name, kind in zip(node.outputs, infer(node, types, constants, graph.opset), strict=True):
            if name and kind is not None:
                rounded_up = _rounded_up(node, types, kind)
                types[name] = rounded_up or _merge(name, node, kind, graph.types.get(name))
        _check_channels(node, types)
        check_size(node, types)
        sources = [name for name in node.inputs if name]
        known_values = _stand_in(types[sources[0]], sources[0]) if is_a(node.op_type, Trait.SHAPE_ONLY) else constants
        if all(name in known_values for name in sources):
            for name, value in zip(node.outputs, evaluate_node(node, known_values, graph.opset), strict=False):
                if name:
                    value.setflags(write=False)
                    constants[name], origins[name] = value, node
                    types[name] = TensorType(value.dtype, value.shape)
        else:
            remaining.append(node)
    folded = frozenset(constants) - frozenset(graph.constants) - frozenset(known)
    return replace(graph, nodes=tuple(remaining), constants=constants, types=types, folded=folded, origins=origins)


def _stand_in(kind: TensorType, name: str) -> dict[str, Array]:
    """An array of a tensor's shape for operators that read nothing but the shape; it takes no memory."""
    return {name: np.broadcast_to(np.zeros((), kind.dtype), kind.static_shape)} if kind.is_static else {}


def check_size(node: Node, types: Mapping[str, TensorType]) -> None:
    """Refuse a node whose result, padded input or work is far beyond any microcontroller, or whose window fits nowhere.

    Raises
    ------
    ModelError
        If a kernel is larger than the data it slides over.
    UnsupportedError
        Naming the node, the size seen and the largest size accepted.
    """
    for name in node.outputs:
        kind = types.get(name)
        if kind is not None and kind.is_static and math.prod(kind.static_shape) > MAXIMUM_ELEMENTS:
            raise UnsupportedError(
                f"{node} produces '{name}' of shape {_show(kind.static_shape)}, more than {MAXIMUM_ELEMENTS} elements; "
                "no microcontroller holds that, so check the model"
            )
    _check_window(node, types)


def _check_window(node: Node, types: Mapping[str, TensorType]) -> None:
    source, result = types.get(node.inputs[0]) if node.inputs else None, types.get(node.outputs[0]) if node.outputs else None
    if source is None or result is None or not source.is_static or not result.is_static:
        return
    if is_a(node.op_type, Trait.WINDOWED) and min(result.static_shape[1:], default=1) < 1:
        raise ModelError(
            f"{node} makes {_show(result.static_shape)} of an input {_show(source.static_shape)}: its kernel is larger than "
            "the data it slides over; check the shapes and export the model again"
        )
    pads = None if node.op_type == "Pad" else node.integers("pads")
    if pads:
        begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
        extents = [size + begin + end for size, begin, end in zip(source.static_shape[2:], begins, ends, strict=False)]
        padded = math.prod((*source.static_shape[:2], *extents))
        if padded > MAXIMUM_ELEMENTS:
            raise UnsupportedError(
                f"{node} pads its input to {_show(extents)}, more than {MAXIMUM_ELEMENTS} elements; check pads {_show(pads)}"
            )
    work = _multiply_accumulates(node, types, math.prod(source.static_shape), math.prod(result.static_shape))
    if work > MAXIMUM_MULTIPLY_ACCUMULATES:
        raise UnsupportedError(
            f"{node} needs {work} operations a sample, more than the {MAXIMUM_MULTIPLY_ACCUMULATES} that npusim accepts; "
            "check its shapes"
        )


def _check_channels(node: Node, types: Mapping[str, TensorType]) -> None:
    """Refuse convolutions whose weights do not fit their input or kernel shape, which ONNX's own inference lets pass."""
    if not is_a(node.op_type, Trait.CONVOLUTION):
        return
    source, weights = (types[name] for name in node.inputs[:2])
    if source.shape is None or not weights.is_static or len(source.shape) < 3 or not isinstance(source.shape[1], int):
        return
    shape, channels = weights.static_shape, source.shape[1]
    group = node.integer("group", 1)
    if group < 1 or len(shape) != len(source.shape):
        raise ModelError(
            f"{node} has group {group} and weights {_show(shape)} for an input {_show(source.shape)}, which do not fit"
        )
    wanted = shape[1] * group if node.op_type == "Conv" else shape[0]
    if channels != wanted or shape[0] % group:
        raise ModelError(
            f"{node} has weights {_show(shape)} and group {group}, which need {wanted} input channels, but gets {channels}; "
            "export the model again"
        )
    kernel_shape = node.integers("kernel_shape")
    if kernel_shape and tuple(kernel_shape) != shape[2:]:
        raise ModelError(
            f"{node} has kernel_shape {_show(kernel_shape)}, but its weights are {_show(shape)}; the model contradicts itself, "
            "export it again"
        )
    outputs = shape[0] if node.op_type == "Conv" else shape[1] * group
    bias = types.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and bias.is_static and bias.static_shape != (outputs,):
        raise ModelError(f"{node} has a bias of shape {_show(bias.static_shape)}, wanted [{outputs}]; export the model again")


def _rounded_up(node: Node, types: Mapping[str, TensorType], inferred: TensorType) -> TensorType | None:
    """The type of a pool with ceil_mode: ONNX's shape inference before opset 22 counts a window that starts in the end padding.

    No runtime computes such a window, so what exporters declare from that inference is not held against the model.
    """
    if node.op_type not in ("MaxPool", "AveragePool") or not node.integer("ceil_mode", 0):
        return None
    if node.text("auto_pad", "NOTSET") != "NOTSET":
        return None
    source = types[node.inputs[0]]
    if source.shape is None or not TensorType(source.dtype, source.shape[2:]).is_static:
        return None
    sizes = TensorType(source.dtype, source.shape[2:]).static_shape
    ones = (1,) * len(sizes)
    kernel_shape, strides = node.integers("kernel_shape") or ones, node.integers("strides") or ones
    dilations = node.integers("dilations") or ones
    try:
        pads = resolve_pads(
            sizes,
            kernel_shape=kernel_shape,
            strides=strides,
            dilations=dilations,
            pads=node.integers("pads"),
        )
        result = output_sizes(sizes, kernel_shape=kernel_shape, strides=strides, dilations=dilations, pads=pads, ceil_mode=True)
    except ValueError as error:
        raise ModelError(f"{node} does not fit its input {_show(source.shape)}: {error}") from None
    return TensorType(inferred.dtype, (*source.shape[:2], *result))


def _multiply_accumulates(node: Node, types: Mapping[str, TensorType], source: int, result: int) -> int:
    weights = types.get(node.inputs[1]) if len(node.inputs) > 1 else None
    shape = weights.static_shape if weights is not None and weights.is_static else ()
    if node.op_type == "Conv" and len(shape) > 1:
        return result * math.prod(shape[1:])
    if node.op_type == "ConvTranspose" and len(shape) > 1:
        return source * math.prod(shape[1:])
    if node.op_type in ("MatMul", "Gemm") and shape:
        return result * max(shape)
    return result * math.prod(node.integers("kernel_shape") or ())


def _merge(name: str, node: Node, inferred: TensorType, declared: TensorType | None) -> TensorType:
    if declared is None:
        return inferred
    if declared.dtype != inferred.dtype:
        raise ModelError(
            f"tensor '{name}' is declared as {declared.dtype}, but {node} produces {inferred.dtype}; re-export the model"
        )
    if declared.shape is None or inferred.shape is None:
        return inferred if declared.shape is None else declared
    clash = len(declared.shape) != len(inferred.shape) or any(
        isinstance(seen, int) and isinstance(wanted, int) and seen != wanted
        for seen, wanted in zip(inferred.shape, declared.shape, strict=False)
    )
    if clash:
        raise ModelError(
            f"tensor '{name}' is declared with shape {_show(declared.shape)}, but {node} produces {_show(inferred.shape)}; "
            "the model contradicts itself, export it again"
        )
    return inferred


def _show(sizes: object) -> str:
    items = sizes if isinstance(sizes, (tuple, list)) else (sizes,)
    return "[" + ", ".join("?" if item is None else str(item) for item in items) + "]"
