"""What is known of a tensor's values before any input is seen: a range, and whether they are all whole numbers.

Interval ends are computed with the operators themselves, in the graph's element type: rounding is monotonic, so the rounded
ends bound every rounded value. Where an operator has no rule here, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from npusim.folding import evaluate_node
from npusim.graph import Array, Graph, Node, TensorType
from npusim.kernels.requantize import codes_dtype
from npusim.lowering.view import is_integral

__all__ = ["EXACT_FLOAT32", "UNKNOWN", "ValueRange", "range_of_constant", "range_of_input", "range_of_outputs", "storage"]

EXACT_FLOAT32: Final = 2**24
"""Every integer up to this magnitude is a float32."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """A closed interval and whether all values in it that occur are integers."""

    lower: float
    upper: float
    integral: bool

    @property
    def is_finite(self) -> bool:
        """True when both ends are finite."""
        return bool(np.isfinite(self.lower) and np.isfinite(self.upper))

    @property
    def is_codes(self) -> bool:
        """True for integers small enough that float32 holds each exactly."""
        return self.integral and self.lower >= -EXACT_FLOAT32 and self.upper <= EXACT_FLOAT32


UNKNOWN: Final = ValueRange(-np.inf, np.inf, False)

_KEEPS_VALUES: Final = frozenset(
    "Identity Dropout Reshape Flatten Squeeze Unsqueeze Transpose Split Slice Gather GatherND GatherElements Expand Tile "
    "MaxPool GlobalMaxPool ReduceMax ReduceMin DepthToSpace SpaceToDepth".split()
)
"""Operators whose results are some of the values of their first input."""

_UNION: Final = frozenset(("Concat", "Where"))
_MONOTONIC: Final = frozenset(("Relu", "Clip", "Floor", "Ceil", "Round"))
_ARITHMETIC: Final = frozenset(("Add", "Sub", "Mul", "Min", "Max"))
_TO_INTEGERS: Final = frozenset(("Floor", "Ceil", "Round", "Sign"))


def range_of_input(kind: TensorType) -> ValueRange:
    """The range of a model input: its type's for integers, unknown for floats."""
    if kind.dtype.kind == "b":
        return ValueRange(0, 1, True)
    if kind.dtype.kind in "iu":
        info = np.iinfo(kind.dtype.str)
        return ValueRange(info.min, info.max, True)
    return UNKNOWN


def range_of_constant(value: Array) -> ValueRange:
    """The range of a constant's elements."""
    if value.size == 0 or value.dtype.kind not in "iubf" or not np.isfinite(value).all():
        return UNKNOWN
    return ValueRange(float(value.min()), float(value.max()), is_integral(value))


def range_of_outputs(node: Node, ranges: Mapping[str, ValueRange], graph: Graph) -> tuple[ValueRange, ...]:
    """The range of each output of a node that runs as the graph says.

    Parameters
    ----------
    node
        The node.
    ranges
        Ranges of its variable inputs; constants are read from the graph.
    graph
        The folded graph.
    """
    sources = [
        range_of_constant(graph.constants[name]) if name in graph.constants else ranges.get(name, UNKNOWN)
        for name in node.inputs
        if name
    ]
    first = _rule(node, sources, graph)
    rest = tuple(range_of_input(graph.types[name]) if name in graph.types else UNKNOWN for name in node.outputs[1:])
    return (first, *(first if node.op_type == "Split" else other for other in rest))


def storage(value_range: ValueRange, dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The element type a tensor is held in: that of its codes where it is proven to hold integers, else the graph's own."""
    if dtype.kind == "f" and value_range.is_codes:
        return codes_dtype(int(value_range.lower), int(value_range.upper))
    return dtype


def _rule(node: Node, sources: Sequence[ValueRange], graph: Graph) -> ValueRange:
    operator = node.op_type
    if not sources:
        return UNKNOWN
    if operator in _KEEPS_VALUES:
        return sources[0]
    if operator == "Resize":
        return sources[0] if node.attributes.get("mode", "nearest") == "nearest" else UNKNOWN
    if operator == "Pad":
        padding = sources[2] if len(sources) > 2 else ValueRange(0, 0, True)
        constant = node.attributes.get("mode", "constant") == "constant" and "value" not in node.attributes
        return _union([sources[0], padding]) if constant else UNKNOWN
    if operator in _UNION:
        return _union(sources[1:] if operator == "Where" else sources)
    if operator == "Cast":
        return sources[0] if sources[0].is_codes and graph.types[node.outputs[0]].dtype.kind == "f" else UNKNOWN
    if operator in _MONOTONIC or operator in _ARITHMETIC:
        return _by_ends(node, sources, graph)
    if operator == "Neg" and sources[0].integral:
        return ValueRange(-sources[0].upper, -sources[0].lower, True)
    if operator in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return _products(node, sources, graph)
    if operator in ("Sigmoid", "Softmax", "HardSigmoid"):
        return ValueRange(0, 1, False)
    return UNKNOWN


def _union(sources: Sequence[ValueRange]) -> ValueRange:
    return ValueRange(
        min(source.lower for source in sources),
        max(source.upper for source in sources),
        all(source.integral for source in sources),
    )


def _products(node: Node, sources: Sequence[ValueRange], graph: Graph) -> ValueRange:
    """Sums of products of integers: integers as well, and exact in float32 whatever the order, while they stay below 2**24."""
    weights = graph.constants.get(node.inputs[1])
    if weights is None or not all(source.is_codes for source in sources) or node.attributes.get("alpha", 1.0) != 1.0:
        return UNKNOWN
    bias = max((max(abs(source.lower), abs(source.upper)) for source in sources[2:]), default=0.0)
    largest = max(abs(sources[0].lower), abs(sources[0].upper)) * float(np.abs(weights).max(initial=0))
    terms = weights.size // (weights.shape[0] if node.op_type == "Conv" else 1)
    bound = terms * largest + bias
    return ValueRange(-bound, bound, True) if bound <= EXACT_FLOAT32 and node.attributes.get("beta", 1.0) == 1.0 else UNKNOWN


def _by_ends(node: Node, sources: Sequence[ValueRange], graph: Graph) -> ValueRange:
    """Evaluate a monotonic operator, or one that is monotonic in each operand, at all combinations of interval ends."""
    clipping = node.op_type == "Clip"
    variable = sources[:1] if clipping else sources
    if not clipping and not all(source.is_finite for source in variable):
        return UNKNOWN
    dtype = graph.types[node.inputs[0]].dtype
    if dtype.kind != "f":
        return UNKNOWN
    names = node.inputs[: len(variable)]
    fixed = {name: graph.constants[name] for name in node.inputs[len(variable) :] if name in graph.constants}
    if any(name and name not in fixed for name in node.inputs[len(variable) :]):
        return UNKNOWN
    results = [
        float(
            evaluate_node(
                node, {**fixed, **dict(zip(names, (np.asarray(end, dtype) for end in ends), strict=True))}, graph.opset
            )[0]
        )
        for ends in product(*((source.lower, source.upper) for source in variable))
    ]
    if any(result != result for result in results):
        return UNKNOWN
    found = ValueRange(min(results), max(results), False)
    if not found.is_finite:
        return found
    return ValueRange(found.lower, found.upper, _stays_integral(node, sources, found))


def _stays_integral(node: Node, sources: Sequence[ValueRange], result: ValueRange) -> bool:
    if node.op_type in _TO_INTEGERS:
        return True
    small = result.lower >= -EXACT_FLOAT32 and result.upper <= EXACT_FLOAT32
    return small and all(source.integral for source in sources)
