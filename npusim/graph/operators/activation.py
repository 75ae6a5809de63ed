"""Activation functions and the exponential family.

Those made of comparisons, products and sums are computed in the dtype of the input, operation by operation; the transcendental
ones in float64, rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.operators.arguments import Numeric, check_same_type
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.elementwise import unary
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels import transcendental
from npusim.kernels.arithmetic import clip

__all__ = ["OPERATORS"]

SELU_ALPHA: Final = 1.67326319217681884765625
SELU_GAMMA: Final = 1.05070102214813232421875


def _relu(x: Numeric) -> Numeric:
    return np.where(x < 0, x.dtype.type(0), x)


def _leaky_relu(call: Call, x: Numeric) -> Numeric:
    return _sloped(x, np.asarray(call.real("alpha", 0.01), x.dtype))


def _parametric_relu(call: Call, x: Numeric, slope: Numeric) -> Numeric:
    check_same_type(x, slope)
    if call.opset < 7 and slope.ndim == 1 and x.ndim > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    return _sloped(x, slope)


def _sloped(x: Numeric, slope: Numeric) -> Numeric:
    with np.errstate(all="ignore"):
        return np.where(x < 0, slope * x, x)


def _thresholded_relu(call: Call, x: Numeric) -> Numeric:
    return np.where(x > x.dtype.type(call.real("alpha", 1.0)), x, x.dtype.type(0))


def _hard_sigmoid(call: Call, x: Numeric) -> Numeric:
    return _clipped_line(x, call.real("alpha", 0.2), call.real("beta", 0.5))


def _hard_swish(call: Call, x: Numeric) -> Numeric:
    with np.errstate(all="ignore"):
        return np.asarray(x * _clipped_line(x, 1 / 6, 0.5))


def _clipped_line(x: Numeric, slope: float, offset: float) -> Numeric:
    one = x.dtype.type
    with np.errstate(all="ignore"):
        return clip(np.asarray(x * one(slope) + one(offset)), np.asarray(0, x.dtype), np.asarray(1, x.dtype))


def _elu(call: Call, x: Numeric) -> Numeric:
    return transcendental.elu(x, alpha=call.real("alpha", 1.0))


def _selu(call: Call, x: Numeric) -> Numeric:
    if call.opset < 6:
        return transcendental.selu(x, alpha=call.real("alpha", 1.6732), gamma=call.real("gamma", 1.0507))
    return transcendental.selu(x, alpha=call.real("alpha", SELU_ALPHA), gamma=call.real("gamma", SELU_GAMMA))


def _gelu(call: Call, x: Numeric) -> Numeric:
    match call.text("approximate", "none"):
        case "none":
            return transcendental.gelu(x)
        case "tanh":
            return transcendental.gelu_by_tanh(x)
        case other:
            raise OperatorError(f"attribute 'approximate' is '{other}', wanted 'none' or 'tanh'")


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "Elu": _elu,
        "Erf": unary(transcendental.error_function),
        "Exp": unary(transcendental.exponential),
        "Gelu": _gelu,
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": _hard_swish,
        "LeakyRelu": _leaky_relu,
        "Log": unary(transcendental.logarithm),
        "PRelu": _parametric_relu,
        "Relu": unary(_relu),
        "Selu": _selu,
        "Sigmoid": unary(transcendental.sigmoid),
        "Softplus": unary(transcendental.softplus),
        "Softsign": unary(transcendental.softsign),
        "Tanh": unary(transcendental.hyperbolic_tangent),
        "ThresholdedRelu": _thresholded_relu,
    }
)
