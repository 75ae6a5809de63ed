"""How far two float32 computations of one operator may lie apart when nothing but the order of rounding differs.

Integers never need this: it is only for sums of floats, whose order IEEE 754 leaves free, and for functions that IEEE 754
does not define to the last bit. The limits follow from the values themselves; there is no setting for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.graph.graph import Array, Node
from npusim.graph.operators import evaluate_node
from npusim.graph.traits import Trait, is_a
from npusim.graph.weights import terms_of_a_sum

__all__ = ["FUNCTION_LIMIT", "is_estimated", "is_free", "rounding_limit"]

UNIT_ROUNDOFF: Final = 2.0**-24
"""Largest relative error of one float32 rounding."""

FUNCTION_LIMIT: Final = 2.0**-20
"""Limit for functions without an exact definition, relative to max(1, |y|): onnxruntime evaluates them by short polynomials."""

RECURRENT_LIMIT: Final = 2.0**-20
"""For one step of a recurrent network, relative to what its gates sum up: its functions are those above.

An estimate, see :func:`is_estimated`.
"""


def is_free(node: Node) -> bool:
    """True for operators whose float32 result is not the same in every correct implementation."""
    if is_a(node.op_type, Trait.INTERPOLATES):
        return node.text("mode", "nearest") != "nearest"
    return is_a(node.op_type, Trait.FREE_ORDER, Trait.FUNCTION)


def is_estimated(node: Node) -> bool:
    """True for operators whose limit is an estimate and not a bound: recurrent networks.

    What one step is off by goes into the next, times weights: the bound that follows from their magnitudes grows with the power
    of the number of steps (at 64 hidden values and 50 steps it is beyond 1e6, where computed values lie 1e-6 apart) and says
    nothing. So the limit adds up what each step rounds, as if errors were passed on but not amplified.
    """
    return is_a(node.op_type, Trait.RECURRENT)


def rounding_limit(node: Node, values: Mapping[str, Array], result: Array, opset: int) -> npt.NDArray[np.float64]:
    """Largest difference that two float32 evaluations of a node may show, element by element; see :func:`is_estimated`.

    A sum of n products that is rounded in any order is off by at most ``n * u / (1 - n * u)`` times the sum of the products'
    magnitudes (u = 2**-24); two evaluations differ by at most twice that.

    Parameters
    ----------
    node
        A node for which :func:`is_free` holds.
    values
        Its inputs, constants included.
    result
        One evaluation.
    opset
        Version of the operator set.

    Returns
    -------
    float64 array
        Of the result's shape.
    """
    magnitude = np.abs(result.astype(np.float64))
    if is_a(node.op_type, Trait.FREE_ORDER):
        sizes = {name: np.abs(array).astype(np.float64) if array.dtype.kind == "f" else array for name, array in values.items()}
        (total, *_) = evaluate_node(node, sizes, opset)
        terms = _terms(node, values)
        relative = terms * UNIT_ROUNDOFF / (1 - terms * UNIT_ROUNDOFF)
        return 2 * relative * total.astype(np.float64)
    if is_a(node.op_type, Trait.RECURRENT):
        return np.full(result.shape, RECURRENT_LIMIT * _recurrent_terms(node, values))
    largest = np.maximum(1.0, magnitude)
    if is_a(node.op_type, Trait.NORMALIZES):
        scale, shift = (np.abs(values[name]).max(initial=0.0) for name in node.inputs[1:3])
        largest = largest + float(scale) + float(shift) + float(np.abs(values[node.inputs[0]]).max(initial=0.0))
    return FUNCTION_LIMIT * largest


def _recurrent_terms(node: Node, values: Mapping[str, Array]) -> float:
    """Steps of a sequence, times the largest sum of magnitudes that a gate takes in: each step's rounding is relative to it."""
    x, weights, recurrent = (np.abs(values[name].astype(np.float64)) for name in node.inputs[:3])
    steps = x.shape[1 if node.integer("layout", 0) else 0]
    gates = weights.sum(axis=2).max(initial=0.0) * x.max(initial=0.0) + recurrent.sum(axis=2).max(initial=0.0)
    return float(steps * (1.0 + gates))


def _terms(node: Node, values: Mapping[str, Array]) -> int:
    weighted = is_a(node.op_type, Trait.WEIGHTED)
    shape = values[node.inputs[1 if weighted else 0]].shape
    if is_a(node.op_type, Trait.CONVOLUTION):
        return terms_of_a_sum(node, shape) + 2
    return math.prod(shape if weighted else shape[1:]) + 2
