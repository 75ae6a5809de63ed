"""What all element-wise operators share: ONNX's rules for the types and shapes of operands, and quiet floating point."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.arguments import check_same_type
from npusim.graph.operators.call import Call, Operator

__all__ = ["binary", "mixed_binary", "unary", "variadic"]


def unary(function: Callable[..., Any]) -> Operator:
    """Operator with one input and no attributes from a function of one array."""

    def operator(call: Call, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(x))

    return operator


def binary(function: Callable[..., Any]) -> Operator:
    """Operator with two broadcast inputs of one dtype from a function of two arrays."""
    mixed = mixed_binary(function)

    def operator(call: Call, a: Array, b: Array) -> Array | tuple[Array, ...]:
        check_same_type(a, b)
        return mixed(call, a, b)

    return operator


def mixed_binary(function: Callable[..., Any]) -> Operator:
    """Operator with two broadcast inputs, whose dtypes may differ, from a function of two arrays."""

    def operator(call: Call, a: Array, b: Array) -> Array:
        if call.opset < 7:
            b = _placed(call, a, b)
        with np.errstate(all="ignore"):
            return np.asarray(function(a, b))

    return operator


def variadic(function: Callable[..., Any]) -> Operator:
    """Operator with any number of broadcast inputs of one dtype from a function of two arrays, applied from left to right."""

    def operator(call: Call, *inputs: Array) -> Array:
        check_same_type(*inputs)
        with np.errstate(all="ignore"):
            return np.asarray(reduce(function, inputs))

    return operator


def _placed(call: Call, a: Array, b: Array) -> Array:
    """The second operand under the rule before opset 7: its axes lie at `axis` of the first, and only if `broadcast` is set."""
    if not call.integer("broadcast", 0):
        if a.shape != b.shape:
            raise OperatorError(f"shapes {list(a.shape)} and {list(b.shape)} differ, and attribute 'broadcast' is not set")
        return b
    axis = call.integer("axis", a.ndim - b.ndim)
    return b.reshape(*b.shape, *[1] * (a.ndim - b.ndim - axis % max(a.ndim, 1)))
