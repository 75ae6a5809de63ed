"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.casting import element_type
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels.quantization import dequantize, quantize

__all__ = ["OPERATORS"]


def _quantize_linear(call: Call, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    named = _named_type(call, "output_dtype")
    if zero_point is not None and named not in (None, zero_point.dtype):
        raise OperatorError(f"output_dtype is {named}, but the zero point is {zero_point.dtype}")
    dtype = zero_point.dtype if zero_point is not None else named or np.dtype(np.uint8)
    return quantize(
        x,
        scale,
        zero_point,
        dtype=dtype,
        precision=_named_type(call, "precision"),
        axis=call.integer("axis", 1),
        block_size=call.integer("block_size", 0),
    )


def _dequantize_linear(call: Call, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    if zero_point is not None and zero_point.dtype != x.dtype:
        raise OperatorError(f"its input is {x.dtype}, but the zero point is {zero_point.dtype}")
    return dequantize(
        x,
        scale,
        zero_point,
        dtype=_named_type(call, "output_dtype") or scale.dtype,
        axis=call.integer("axis", 1),
        block_size=call.integer("block_size", 0),
    )


def _named_type(call: Call, attribute: str) -> np.dtype[np.generic] | None:
    code = call.integer(attribute, 0)
    return element_type(code) if code else None


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {"DequantizeLinear": _dequantize_linear, "QuantizeLinear": _quantize_linear}
)
