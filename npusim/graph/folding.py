"""Constant folding and type inference in one walk: afterwards every remaining node depends on the input and has known types.

Each exporter hides its constants differently (initializers, Constant nodes, chains of Pow, Log and Where); after folding
they are plain arrays. Sizes are checked before anything is computed, so that a damaged or absurd model is refused in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.graph.graph import Array, Dimension, Graph, Node, TensorType
from npusim.graph.operators import evaluate_node, lookup, why_unsupported
from npusim.graph.traits import SampleAxis, Trait, is_a, traits_of
from npusim.kernels.geometry import output_sizes, resolve_pads
from npusim.kernels.transposed_geometry import resolve_transposed

__all__ = ["MAXIMUM_ELEMENTS", "MAXIMUM_MULTIPLY_ACCUMULATES", "Inference", "fold"]

MAXIMUM_ELEMENTS = 2**24
"""Largest tensor of one sample: hundreds of times a microcontroller's memory, yet small enough to be refused in time."""

MAXIMUM_DIMENSIONS = 16
"""Most axes of a tensor. NumPy's iterators end at 32, and windows need three for each spatial axis; networks have up to 6."""

MAXIMUM_FOLDED_BYTES = 2**28
"""Most bytes that constants become when they are folded: a few nodes can ask for any number of large ones."""

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
    for name, given in types.items():
        _check_rank(given, f"tensor '{name}'")
    remaining, origins, expanded = [], dict[str, Node](), 0
    for node in graph.nodes:
        if lookup(node.op_type) is None:
            raise UnsupportedError(f"{node} {why_unsupported(node.op_type)}")
        _check_flags(node)
        for name, kind in zip(node.outputs, infer(node, types, constants, graph.opset), strict=True):
            if name and kind is not None:
                rounded_up = _rounded_up(node, types, kind)
                types[name] = rounded_up or _merge(name, node, kind, graph.types.get(name))
        _check_channels(node, types)
        check_size(node, types)
        _check_geometry(node, types)
        sources = [name for name in node.inputs if name]
        known_values: Mapping[str, Array] = constants
        if is_a(node.op_type, Trait.SHAPE_ONLY):
            known_values = _stand_in(types[sources[0]], sources[0]) if sources[0] in types else {}
        if all(name in known_values for name in sources):
            for name, value in zip(node.outputs, evaluate_node(node, known_values, graph.opset), strict=False):
                if name:
                    value.setflags(write=False)
                    constants[name], origins[name] = value, node
                    types[name] = TensorType(value.dtype, value.shape)
                    expanded += value.nbytes
            if expanded > MAXIMUM_FOLDED_BYTES:
                raise UnsupportedError(
                    f"{node} and the operations before it turn the model's constants into {expanded} bytes, more than the "
                    f"{MAXIMUM_FOLDED_BYTES} that npusim accepts; no microcontroller holds that, so check the model"
                )
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
        if kind is not None:
            _check_rank(kind, f"{node}: tensor '{name}'")
        if kind is not None and kind.is_static and math.prod(kind.static_shape) > MAXIMUM_ELEMENTS:
            raise UnsupportedError(
                f"{node} produces '{name}' of shape {_show(kind.static_shape)}, more than {MAXIMUM_ELEMENTS} elements; "
                "no microcontroller holds that, so check the model"
            )
    _check_window(node, types)
    _check_view(node, types)
    for name in node.outputs:
        sizes = () if name not in types else types[name].shape or ()
        if any(isinstance(size, int) and size < 0 for size in sizes):
            raise ModelError(f"{node} produces '{name}' of shape {_show(sizes)}, and no size is below 0; check the model")


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


def _check_view(node: Node, types: Mapping[str, TensorType]) -> None:
    """Shape inference believes a constant target shape, whatever the input holds."""
    if traits_of(node.op_type).samples is not SampleAxis.RESHAPED:
        return
    source, result = types.get(node.inputs[0]) if node.inputs else None, types.get(node.outputs[0]) if node.outputs else None
    if source is None or result is None or not source.is_static or not result.is_static:
        return
    if math.prod(source.static_shape) != math.prod(result.static_shape):
        raise ModelError(
            f"{node} makes {_show(result.static_shape)} of an input {_show(source.static_shape)}, which has another number of "
            "elements; check the shapes and export the model again"
        )


def _check_rank(kind: TensorType, what: str) -> None:
    if kind.shape is not None and len(kind.shape) > MAXIMUM_DIMENSIONS:
        raise UnsupportedError(
            f"{what} has {len(kind.shape)} dimensions, more than the {MAXIMUM_DIMENSIONS} that npusim accepts; "
            "no network for a microcontroller needs them, so check the model"
        )


_FLAGS: Final = (
    "ceil_mode",
    "count_include_pad",
    "exclude_outside",
    "keepdims",
    "noop_with_empty_axes",
    "storage_order",
    "transA",
    "transB",
)
"""Attributes that are 0 or 1 in every operator that has them; what other numbers mean differs between implementations."""


def _check_flags(node: Node) -> None:
    for name in _FLAGS:
        value = node.attributes.get(name, 0)
        if not isinstance(value, int) or value not in (0, 1):
            raise ModelError(f"{node} has {name} = {str(value)[:40]}, wanted 0 or 1; export the model again")


def _check_geometry(node: Node, types: Mapping[str, TensorType]) -> None:
    """Refuse windows that contradict themselves, which ONNX's own inference lets pass, or takes for others."""
    if not is_a(node.op_type, Trait.WINDOWED) or not all(name in types for name in node.inputs[:2]):
        return
    auto_pad = node.text("auto_pad", "NOTSET")
    if auto_pad in ("VALID", "SAME_UPPER", "SAME_LOWER") and any(node.integers("pads") or ()):
        raise ModelError(
            f"{node} has auto_pad = '{auto_pad}' and pads {_show(node.integers('pads'))}, which contradict each other; "
            "remove one of both and export the model again"
        )
    source, result = types[node.inputs[0]], types.get(node.outputs[0])
    weights = (types[node.inputs[1]].shape or ()) if is_a(node.op_type, Trait.CONVOLUTION) else None
    wanted = _window_counts(node, source, node.integers("kernel_shape") if weights is None else weights[2:])
    if wanted is not None and result is not None and result.is_static and result.static_shape[2:] != wanted:
        raise ModelError(
            f"{node} makes {_show(wanted)} of an input {_show(source.shape)}, but '{node.outputs[0]}' is declared as "
            f"{_show(result.static_shape)}; the model contradicts itself, export it again"
        )


def _window_counts(node: Node, source: TensorType, kernel_shape: Sequence[Dimension] | None) -> tuple[int, ...] | None:
    """Spatial sizes of the result of a convolution or pool; None where they are not known yet.

    Raises
    ------
    ModelError
        If an attribute is out of range or does not fit the input.
    """
    if source.shape is None:
        return None
    window, spatial = TensorType(source.dtype, tuple(kernel_shape or ())), TensorType(source.dtype, source.shape[2:])
    if not window.is_static or not spatial.is_static:
        return None
    sizes, ones = spatial.static_shape, (1,) * len(spatial.static_shape)
    strides, dilations = node.integers("strides") or ones, node.integers("dilations") or ones
    kernel, auto_pad, pads = window.static_shape or ones, node.text("auto_pad", "NOTSET"), node.integers("pads")
    try:
        if node.op_type == "ConvTranspose":
            return tuple(
                resolve_transposed(
                    sizes,
                    kernel_shape=kernel,
                    strides=strides,
                    dilations=dilations,
                    pads=pads,
                    auto_pad=auto_pad,
                    output_padding=node.integers("output_padding"),
                    output_shape=node.integers("output_shape"),
                )[1]
            )
        resolved = resolve_pads(sizes, kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
        ceil_mode = bool(node.integer("ceil_mode", 0))
        return output_sizes(
            sizes, kernel_shape=kernel, strides=strides, dilations=dilations, pads=resolved, ceil_mode=ceil_mode
        )
    except ValueError as error:
        raise ModelError(f"{node} does not fit its input {_show(source.shape)}: {error}; export the model again") from None


def _check_channels(node: Node, types: Mapping[str, TensorType]) -> None:
    """Refuse convolutions whose weights do not fit their input or kernel shape, which ONNX's own inference lets pass."""
    of_weights, of_bias = (3, 8) if node.op_type == "QLinearConv" else (1, 2)
    if not (is_a(node.op_type, Trait.CONVOLUTION) or node.op_type in ("QLinearConv", "ConvInteger")):
        return
    source, weights = types.get(node.inputs[0]), types.get(node.inputs[of_weights])
    if source is None or weights is None:
        return
    if source.shape is None or not weights.is_static or len(source.shape) < 3 or not isinstance(source.shape[1], int):
        return
    shape, channels = weights.static_shape, source.shape[1]
    group = node.integer("group", 1)
    if group < 1 or len(shape) != len(source.shape):
        raise ModelError(
            f"{node} has group {group} and weights {_show(shape)} for an input {_show(source.shape)}, which do not fit"
        )
    wanted = shape[0] if node.op_type == "ConvTranspose" else shape[1] * group
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
    outputs = shape[1] * group if node.op_type == "ConvTranspose" else shape[0]
    bias = types.get(node.inputs[of_bias]) if len(node.inputs) > of_bias and node.op_type != "ConvInteger" else None
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
    result = _window_counts(node, source, node.integers("kernel_shape"))
    return None if result is None or source.shape is None else TensorType(inferred.dtype, (*source.shape[:2], *result))


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
