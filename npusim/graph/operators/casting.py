"""Conversion between element types, and the operators that pass data through."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels.casting import convert

__all__ = ["OPERATORS", "element_type"]

_ELEMENT_TYPES: Final[Mapping[int, np.dtype[Any]]] = MappingProxyType(
    {
        1: np.dtype(np.float32),
        2: np.dtype(np.uint8),
        3: np.dtype(np.int8),
        4: np.dtype(np.uint16),
        5: np.dtype(np.int16),
        6: np.dtype(np.int32),
        7: np.dtype(np.int64),
        9: np.dtype(np.bool_),
        10: np.dtype(np.float16),
        11: np.dtype(np.float64),
        12: np.dtype(np.uint32),
        13: np.dtype(np.uint64),
    }
)


def element_type(code: int) -> np.dtype[Any]:
    """NumPy dtype of an ONNX element type, as attributes such as Cast's ``to`` give it.

    Raises
    ------
    OperatorError
        If npusim does not compute with that type.

    Examples
    --------
    >>> element_type(1)
    dtype('float32')
    """
    if code not in _ELEMENT_TYPES:
        raise OperatorError(f"ONNX element type {code} is not a float, integer or Boolean type that npusim computes with")
    return _ELEMENT_TYPES[code]


def _cast(call: Call, x: Array) -> Array:
    return convert(x, dtype=element_type(call.integer("to", 0)))


def _cast_like(call: Call, x: Array, like: Array) -> Array:
    if like.dtype not in _ELEMENT_TYPES.values():
        raise OperatorError(f"{like.dtype} is not a float, integer or Boolean type that npusim computes with")
    return convert(x, dtype=like.dtype)


def _identity(call: Call, x: Array) -> Array:
    return x


def _dropout(call: Call, x: Array, ratio: Array | None = None, training: Array | None = None) -> Array | tuple[Array, ...]:
    in_training = not call.integer("is_test", 0) if call.opset < 7 else training is not None and bool(training)
    share = call.real("ratio", 0.5) if call.opset < 12 or ratio is None else float(ratio)
    if in_training and share:
        raise OperatorError("Dropout is in training mode, which is random; export the model in evaluation mode")
    if call.output_count == 1:
        return x
    return x, np.ones(x.shape, np.bool_ if call.opset >= 10 else x.dtype)


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "Cast": _cast,
        "CastLike": _cast_like,
        "Dropout": _dropout,
        "Identity": _identity,
    }
)
