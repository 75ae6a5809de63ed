"""Comparisons, Boolean logic and selection, element by element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.graph.operators.arguments import Numeric, check_same_type
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.elementwise import binary, unary
from npusim.graph.operators.refusal import refusing_table

__all__ = ["OPERATORS"]


def _is_infinite(call: Call, x: Numeric) -> Numeric:
    positive = np.isposinf(x) if call.integer("detect_positive", 1) else np.zeros(x.shape, np.bool_)
    negative = np.isneginf(x) if call.integer("detect_negative", 1) else np.zeros(x.shape, np.bool_)
    return np.asarray(positive | negative)


def _where(call: Call, condition: Numeric, a: Numeric, b: Numeric) -> Numeric:
    check_same_type(a, b)
    return np.where(condition, a, b)


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "And": binary(np.logical_and),
        "Equal": binary(np.equal),
        "Greater": binary(np.greater),
        "GreaterOrEqual": binary(np.greater_equal),
        "IsInf": _is_infinite,
        "IsNaN": unary(np.isnan),
        "Less": binary(np.less),
        "LessOrEqual": binary(np.less_equal),
        "Not": unary(np.logical_not),
        "Or": binary(np.logical_or),
        "Where": _where,
        "Xor": binary(np.logical_xor),
    }
)
