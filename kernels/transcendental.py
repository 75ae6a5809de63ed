"""Functions that are not rational: computed in float64 and rounded once to the dtype of the input.

A float32 result is therefore the correctly rounded one but for about one argument in 2**28, and it depends neither on how
many elements are computed together nor on where an element lies: the float64 copy is contiguous, so every element takes the
same path. Each function accepts float16, float32 and float64 of any shape and returns the same shape and dtype; overflow
gives infinity and an argument outside of the domain NaN, without a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "elu",
    "error_function",
    "exponential",
    "gelu",
    "gelu_by_tanh",
    "hyperbolic_tangent",
    "logarithm",
    "selu",
    "sigmoid",
    "softplus",
    "softsign",
]

Array: TypeAlias = npt.NDArray[Any]
Double: TypeAlias = npt.NDArray[np.float64]

_ERF = np.frompyfunc(math.erf, 1, 1)
_ERFC = np.frompyfunc(math.erfc, 1, 1)


def exponential(x: Array, /) -> Array:
    """``exp(x)``.

    Examples
    --------
    >>> exponential(np.float32([0, -np.inf])).tolist()
    [1.0, 0.0]
    """
    return _rounded_once(np.exp, x)


def logarithm(x: Array, /) -> Array:
    """Natural logarithm, ``ln(x)``.

    Examples
    --------
    >>> logarithm(np.float32([1, 0])).tolist()
    [0.0, -inf]
    """
    return _rounded_once(np.log, x)


def sigmoid(x: Array, /) -> Array:
    """``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> sigmoid(np.float32([0, -np.inf])).tolist()
    [0.5, 0.0]
    """
    return _rounded_once(_sigmoid, x)


def hyperbolic_tangent(x: Array, /) -> Array:
    """``tanh(x)``.

    Examples
    --------
    >>> hyperbolic_tangent(np.float32([0, np.inf])).tolist()
    [0.0, 1.0]
    """
    return _rounded_once(np.tanh, x)


def softplus(x: Array, /) -> Array:
    """``ln(1 + exp(x))``.

    Examples
    --------
    >>> softplus(np.float32([-np.inf, 1000])).tolist()
    [0.0, 1000.0]
    """
    return _rounded_once(lambda values: np.logaddexp(0.0, values), x)


def softsign(x: Array, /) -> Array:
    """``x / (1 + |x|)``.

    Examples
    --------
    >>> softsign(np.float32([1, -3])).tolist()
    [0.5, -0.75]
    """
    return _rounded_once(lambda values: values / (1 + np.abs(values)), x)


def error_function(x: Array, /) -> Array:
    """``erf(x) = 2 / sqrt(pi) * integral from 0 to x of exp(-t**2) dt``.

    Examples
    --------
    >>> error_function(np.float32([0, 10])).tolist()
    [0.0, 1.0]
    """
    return _rounded_once(_ERF, x)


def gelu(x: Array, /) -> Array:
    """``x / 2 * (1 + erf(x / sqrt(2)))``, written with erfc so that nothing cancels for a negative `x`.

    Examples
    --------
    >>> gelu(np.float32([0, 10])).tolist()
    [0.0, 10.0]
    """
    return _rounded_once(lambda values: values / 2 * np.asarray(_ERFC(-values / math.sqrt(2)), np.float64), x)


def gelu_by_tanh(x: Array, /) -> Array:
    """``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``.

    Examples
    --------
    >>> gelu_by_tanh(np.float32([0, 10])).tolist()
    [0.0, 10.0]
    """
    return _rounded_once(lambda values: values * _sigmoid(math.sqrt(8 / math.pi) * (values + 0.044715 * values**3)), x)


def elu(x: Array, /, *, alpha: float) -> Array:
    """``alpha * (exp(x) - 1)`` where `x` is negative, else `x`.

    Examples
    --------
    >>> elu(np.float32([3, -np.inf]), alpha=2.0).tolist()
    [3.0, -2.0]
    """
    return _rounded_once(lambda values: np.where(values < 0, alpha * np.expm1(values), values), x)


def selu(x: Array, /, *, alpha: float, gamma: float) -> Array:
    """``gamma * elu(x)``.

    Examples
    --------
    >>> selu(np.float32([3, -np.inf]), alpha=2.0, gamma=0.5).tolist()
    [1.5, -1.0]
    """
    return _rounded_once(lambda values: gamma * np.where(values < 0, alpha * np.expm1(values), values), x)


def _sigmoid(x: Double) -> Double:
    # exp only of negative numbers: it neither overflows nor leaves a difference of nearly equal numbers
    decay: Double = np.exp(-np.abs(x))
    return np.divide(np.where(x < 0, decay, 1.0), 1 + decay)


def _rounded_once(function: Callable[[Double], Any], x: Array) -> Array:
    with np.errstate(all="ignore"):
        result = np.asarray(function(np.array(x, np.float64, order="C")), np.float64)
        return result.astype(x.dtype)
