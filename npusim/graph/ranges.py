"""Ranges of values: what every result of an operator lies in, given what its operands lie in.

One semantics in two granularities: :func:`range_of_outputs` says it of all elements of a tensor together, before any input is
seen; :func:`ends_of_results` element by element. Both follow the same rules. An operator is evaluated, by itself and in its
own element type, at those ends of its operands where its result is smallest and largest (rounding is monotone, so rounded ends
bound every rounded value), or its rule names an interval outright. Each operand counts by its position: a node that reads one
tensor twice is bounded as if it read two, which claims less and is never wrong.

The rules are in :mod:`npusim.graph.range_rules`; each lists the attributes and the number of inputs that it understands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from npusim.graph.graph import Array, Graph, Node, TensorType
from npusim.graph.range_rules import Ends, Operation, at_corners, results_of
from npusim.graph.value_range import (
    EXACT_FLOAT32,
    UNKNOWN,
    ValueRange,
    range_of_codes,
    range_of_constant,
    range_of_input,
    range_of_type,
)

__all__ = [
    "EXACT_FLOAT32",
    "UNKNOWN",
    "Ends",
    "ValueRange",
    "ends_of_results",
    "range_of_codes",
    "range_of_constant",
    "range_of_input",
    "range_of_outputs",
    "range_of_type",
]


def range_of_outputs(node: Node, ranges: Mapping[str, ValueRange], graph: Graph) -> tuple[ValueRange, ...]:
    """The range of each output of a node that is computed as the graph says.

    Parameters
    ----------
    node
        The node.
    ranges
        Ranges of its variable inputs; constants are read from the graph.
    graph
        The folded graph.

    Returns
    -------
    tuple of ValueRange
        One for each output, never wider than its element type.
    """
    operands = tuple(
        None if not name else range_of_constant(graph.constants[name]) if name in graph.constants else ranges.get(name, UNKNOWN)
        for name in node.inputs
    )
    return tuple(
        result.values for result in results_of(Operation.of(node, operands, graph.constants, graph.types, graph.opset))
    )


def ends_of_results(
    node: Node, ends: Sequence[Ends | None], constants: Mapping[str, Array], types: Mapping[str, TensorType], opset: int
) -> tuple[Ends | None, ...]:
    """The ends of each output of a node, element by element.

    Parameters
    ----------
    node
        The node.
    ends
        The ends of its inputs by position, those of constants included; None for one that is left out. No value is NaN.
    constants
        Values of its constant inputs, by name.
    types
        Element types and shapes of its inputs and outputs.
    opset
        Version of the operator set.

    Returns
    -------
    tuple
        For each output the ends in its own element type; None where it may be NaN or nothing is known of it but its type.
    """
    operands = tuple(None if pair is None else _hull(pair) for pair in ends)
    operation = Operation.of(node, operands, constants, types, opset)
    found: list[Ends | None] = []
    corners: tuple[tuple[Array, ...], ...] | None = None
    for position, result in enumerate(results_of(operation)):
        values, kind = result.values, operation.results[position]
        if kind is None or values.nan:
            found.append(None)
            continue
        if result.directions is None:
            found.append(_spread(values, kind) if values.is_finite else None)
            continue
        if corners is None:
            corners = at_corners(operation, ends, result.directions)
        low, high = reduce(np.minimum, corners[position]), reduce(np.maximum, corners[position])
        if kind.dtype.kind == "f" and (np.isnan(low).any() or np.isnan(high).any()):
            found.append(None)
        else:
            found.append((np.clip(low, values.lower, values.upper), np.clip(high, values.lower, values.upper)))
    return tuple(found)


def _hull(ends: Ends) -> ValueRange:
    lower, upper = ends
    if lower.size == 0:
        return UNKNOWN
    low, high = lower.min().item(), upper.max().item()
    if isinstance(low, float) and (math.isnan(low) or math.isnan(high)):
        return UNKNOWN
    return ValueRange(low, high, lower.dtype.kind != "f", negative_zero=True)


def _spread(values: ValueRange, kind: TensorType) -> Ends:
    shape = kind.static_shape
    return np.full(shape, values.lower, kind.dtype), np.full(shape, values.upper, kind.dtype)
