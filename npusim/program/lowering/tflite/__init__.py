"""TensorFlow Lite graphs to programs: integer layers in the arithmetic of a runtime; the file's order at the edges."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph import Graph, Node
from npusim.graph.folding import MAXIMUM_MULTIPLY_ACCUMULATES
from npusim.program.layers import IntegerLayer
from npusim.program.lowering.tflite.arithmetic import ARITHMETICS, NotComputed, arithmetic_named
from npusim.program.lowering.tflite.blocks import fold_blocks
from npusim.program.lowering.tflite.elementwise import ELEMENTWISE
from npusim.program.lowering.tflite.moves import MOVES
from npusim.program.lowering.tflite.sums import SUMS
from npusim.program.lowering.tflite.walk import Walk
from npusim.program.program import Batching, Program

__all__ = ["ARITHMETICS", "lower_tflite"]

HOST_OPSET: Final = 17
"""The version of ONNX's operators that host operations are."""

_OPERATORS: Final = {**SUMS, **ELEMENTWISE, **MOVES}
_BLOCKS: Final = frozenset(("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"))
_CHANNELS_FIRST: Final = frozenset(
    "CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV AVERAGE_POOL_2D MAX_POOL_2D RESIZE_NEAREST_NEIGHBOR PAD PADV2 QUANTIZE MEAN "
    "EXPAND_DIMS SPACE_TO_BATCH_ND".split()
)
"""Operators whose input had best be held with the channels first."""


def lower_tflite(graph: Graph, arithmetic: str | None = None) -> Program:
    """Lower a TensorFlow Lite graph to a program.

    Parameters
    ----------
    graph
        As :func:`~npusim.graph.tflite_reader.read_tflite` gives it.
    arithmetic
        Name in :data:`ARITHMETICS`; None for the default.

    Raises
    ------
    UnsupportedError
        If the model computes in float, uses an operator that npusim does not simulate, or one in a way that no runtime does.
    ModelError
        If shapes contradict each other.
    UsageError
        If there is no such arithmetic.
    """
    chosen = arithmetic_named(arithmetic)
    _check_operators(graph)
    walk = Walk(fold_blocks(graph, static_shapes=chosen.micro), chosen, known=dict(graph.constants))
    readers = graph.consumers()
    for name in graph.inputs:
        first = any(node.op_type in _CHANNELS_FIRST for node in readers.get(name, []))
        walk.declare(name, graph.types[name].static_shape, first=first)
    for node in walk.graph.nodes:
        try:
            _OPERATORS[node.op_type](walk, node)
        except NotComputed as reason:
            raise UnsupportedError(f"{node} is not simulated under '{chosen.name}': {reason}") from None
        _check_work(walk)
    for name in graph.outputs:
        if name not in walk.places:
            raise UnsupportedError(f"output '{name}' does not depend on any input, so there is nothing to simulate")
    return Program(
        graph.inputs,
        graph.outputs,
        tuple(walk.steps),
        walk.tensors,
        walk.constants,
        {},
        HOST_OPSET,
        _batching(walk),
    )


def _check_work(walk: Walk) -> None:
    """Refuse a layer whose work is far beyond any microcontroller."""
    layer = walk.steps[-1] if walk.steps else None
    if isinstance(layer, IntegerLayer) and layer.multiply_accumulates > MAXIMUM_MULTIPLY_ACCUMULATES:
        raise UnsupportedError(
            f"layer '{layer.name}' takes {layer.multiply_accumulates} multiplications for a sample, more than "
            f"{MAXIMUM_MULTIPLY_ACCUMULATES}; no microcontroller does that, so check the model"
        )


def _batching(walk: Walk) -> Batching:
    shapes = [walk.graph.types[name].static_shape for name in walk.graph.inputs]
    if any(not shape or shape[0] != 1 for shape in shapes):
        return Batching.FIXED
    return Batching.SINGLE if walk.mixes else Batching.STACKED


def _check_operators(graph: Graph) -> None:
    """Say what a model is that has no integer arithmetic, and which operators are missing."""
    _check_precision(graph)
    missing = Counter(node.op_type for node in graph.nodes if node.op_type not in _OPERATORS and node.op_type not in _BLOCKS)
    if missing:
        where = next(node for node in graph.nodes if node.op_type in missing)
        kind = next((graph.types[name].dtype for name in where.inputs if name), np.dtype(np.float32))
        raise UnsupportedError(
            f"{where} on {kind} data is not simulated; operators of this model that npusim does not have: "
            f"{', '.join(sorted(missing))}"
        )


def _check_precision(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op_type in SUMS and len(node.inputs) > 1:
            _check_layer(graph, node)


def _check_layer(graph: Graph, node: Node) -> None:
    place = 2 if node.op_type == "TRANSPOSE_CONV" else 0
    data, weights = graph.types[node.inputs[place]].dtype, graph.types[node.inputs[1]].dtype
    if data.kind != "f":
        return
    if node.op_type not in ("MEAN",) and weights.kind in "iu":
        raise UnsupportedError(
            f"{node} computes in {data} with {weights} weights (dynamic-range quantization), so runtimes quantize its input "
            "anew in "
            "every run; convert the model to full integers with a representative dataset"
        )
    half = any(kind.dtype == np.float16 for kind in graph.types.values())
    raise UnsupportedError(
        f"{node} computes in float32{' with float16 weights' if half else ''}: this is a float model; convert it to full "
        "integers "
        "with a representative dataset"
    )
