"""Arithmetic, rounding and limits, element by element.

Float operands are computed in their own dtype, one IEEE rounding for each operator; integers stay integers and wrap around.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.operators.arguments import Numeric, check_same_type
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.elementwise import binary, mixed_binary, unary, variadic
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels.arithmetic import clip, maximum, minimum, power, truncated_divide

__all__ = ["OPERATORS"]


def _divide(a: Numeric, b: Numeric) -> Numeric:
    if a.dtype.kind in "iu":
        _refuse_zero(b)
        return truncated_divide(a, b)
    return np.asarray(np.divide(a, b))


def _power(a: Numeric, b: Numeric) -> Numeric:
    try:
        return power(a, b)
    except ZeroDivisionError as error:
        raise OperatorError(f"{error}, which has no result") from None


def _modulo(call: Call, a: Numeric, b: Numeric) -> Numeric:
    check_same_type(a, b)
    if a.dtype.kind != "f":
        _refuse_zero(b)
    elif call.opset < 28 and not call.integer("fmod", 0):
        raise OperatorError("floating point needs attribute 'fmod' = 1 before opset 28")
    with np.errstate(all="ignore"):
        return np.asarray(np.fmod(a, b) if call.integer("fmod", 0) else np.mod(a, b))


def _clip(call: Call, x: Numeric, low: Numeric | None = None, high: Numeric | None = None) -> Numeric:
    limits = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
    if call.opset < 11:
        low = np.asarray(call.real("min", float(limits.min)), x.dtype)
        high = np.asarray(call.real("max", float(limits.max)), x.dtype)
    low = np.asarray(limits.min, x.dtype) if low is None else low
    high = np.asarray(limits.max, x.dtype) if high is None else high
    check_same_type(x, low, high)
    if low.size != 1 or high.size != 1:
        raise OperatorError(f"its bounds have shapes {list(low.shape)} and {list(high.shape)}, wanted scalars")
    return clip(x, low.reshape(()), high.reshape(()))


def _mean(call: Call, *inputs: Numeric) -> Numeric:
    check_same_type(*inputs)
    with np.errstate(all="ignore"):
        total = np.asarray(sum(inputs[1:], start=inputs[0]))
        return np.asarray(total / total.dtype.type(len(inputs)))


def _refuse_zero(divisor: Numeric) -> None:
    if np.any(divisor == 0):
        raise OperatorError("an integer is divided by zero, which has no result")


def _reciprocal(x: Numeric) -> Numeric:
    return np.asarray(np.divide(x.dtype.type(1), x))


def _shifted(call: Call, x: Numeric, amount: Numeric) -> Numeric:
    """BitShift; amounts that are negative, or the width and more, leave what the sign alone gives: 0, or -1 to the right."""
    check_same_type(x, amount)
    width, direction = 8 * x.dtype.itemsize, call.text("direction", "")
    if x.dtype.kind not in "iu" or direction not in ("LEFT", "RIGHT"):
        raise OperatorError(f"it shifts {x.dtype} in direction '{direction}', wanted integers, and LEFT or RIGHT")
    inside = (amount >= 0) & (amount < width)
    places = np.where(inside, amount, 0).astype(x.dtype)
    if direction == "LEFT":
        return np.asarray(np.where(inside, np.left_shift(x, places), x.dtype.type(0)))
    sign = np.right_shift(x, x.dtype.type(width - 1)) if x.dtype.kind == "i" else np.zeros_like(x)
    return np.asarray(np.where(inside, np.right_shift(x, places), sign))


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "Abs": unary(np.abs),
        "Add": binary(np.add),
        "BitShift": _shifted,
        "Ceil": unary(np.ceil),
        "Clip": _clip,
        "Div": binary(_divide),
        "Floor": unary(np.floor),
        "Max": variadic(maximum),
        "Mean": _mean,
        "Min": variadic(minimum),
        "Mod": _modulo,
        "Mul": binary(np.multiply),
        "Neg": unary(np.negative),
        "Pow": mixed_binary(_power),
        "Reciprocal": unary(_reciprocal),
        "Round": unary(np.rint),
        "Sign": unary(np.sign),
        "Sqrt": unary(np.sqrt),
        "Sub": binary(np.subtract),
        "Sum": variadic(np.add),
    }
)
