"""Operators that produce values from nothing but their attributes or a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.operators.arguments import Numeric, check_same_type
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table

__all__ = ["OPERATORS"]


def _constant(call: Call) -> Numeric:
    tensor = call.tensor("value")
    if tensor is not None:
        return tensor
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in call.attributes:
            return np.asarray(call.attributes[name], dtype)
    raise OperatorError(
        f"its value is given as {', '.join(call.attributes) or 'nothing'}; npusim reads numbers and dense tensors"
    )


def _constant_of_shape(call: Call, shape: Numeric) -> Numeric:
    value = call.tensor("value")
    filler = np.zeros((), np.float32) if value is None else value.reshape(())
    return np.full(tuple(int(size) for size in shape), filler, filler.dtype)


def _range(call: Call, start: Numeric, limit: Numeric, delta: Numeric) -> Numeric:
    check_same_type(start, limit, delta)
    first, last, step = start.reshape(()).item(), limit.reshape(()).item(), delta.reshape(()).item()
    if step == 0:
        raise OperatorError("its step is 0")
    count = max(math.ceil((last - first) / step), 0) if start.dtype.kind == "f" else len(range(first, last, step))
    # float16 has too few bits to count in: ONNX computes it in float32
    wide = np.float32 if start.dtype == np.float16 else start.dtype.type
    return np.asarray(wide(first) + np.arange(count).astype(wide) * wide(step)).astype(start.dtype)


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "Range": _range,
    }
)
