"""Operators on codes: those of ONNX (QLinearConv, ConvInteger ...) and those of ONNX Runtime (domain com.microsoft).

They compute as ONNX Runtime does; :mod:`npusim.kernels.qlinear` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.graph.operators.window import window_of
from npusim.kernels.integer import accumulate_convolution
from npusim.kernels.qlinear import (
    Affine,
    add_codes,
    average_codes,
    global_average_multiplier,
    lookup_table,
    multiply_and_round,
    multiply_codes,
    requantization_multiplier,
    softmax_codes,
)
from npusim.kernels.quantization import code_range
from npusim.kernels.transcendental import sigmoid

__all__ = ["OPERATORS", "affine_of"]

Int64Array = npt.NDArray[np.int64]

MAXIMUM_OPSET_OF_FLAT_SOFTMAX: Final = 12
"""Up to this opset a softmax goes over all axes from the named one on."""


def affine_of(scale: Array, zero_point: Array | None, dtype: np.dtype[np.generic]) -> Affine:
    """What codes of an element type stand for, given a scale and a zero point for the whole tensor.

    Raises
    ------
    ValueError
        If there is more than one scale or zero point, or the scale is not positive and finite.
    """
    if scale.size != 1 or (zero_point is not None and zero_point.size != 1):
        raise ValueError(f"a scale of shape {scale.shape}, wanted one for the whole tensor")
    value = float(scale.reshape(-1)[0])
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"a scale is {value}, wanted a positive number")
    lower, upper = code_range(dtype)
    return Affine(value, 0 if zero_point is None else int(zero_point.reshape(-1)[0]), lower, upper)


def _centred(codes: Array, zero_point: Array | None, axis: int | None = None) -> Int64Array:
    """Codes less their zero point, which may be one for each index of an axis."""
    values = codes.astype(np.int64)
    if zero_point is None:
        return values
    points = zero_point.astype(np.int64)
    if points.size == 1 or axis is None:
        return np.asarray(values - points.reshape(()))
    if points.shape != (codes.shape[axis],):
        raise ValueError(f"zero points of shape {points.shape} do not fit weights of shape {codes.shape}")
    return np.asarray(values - points.reshape(-1, *(1,) * (codes.ndim - axis - 1)))


def _convolved(call: Call, x: Int64Array, w: Int64Array) -> Int64Array:
    window = window_of(call, x, tuple(w.shape[2:]))
    return accumulate_convolution(
        x, w, strides=window.strides, pads=window.pads, dilations=window.dilations, group=call.integer("group", 1)
    )


def _requantized(
    accumulator: Int64Array, source: Affine, weight_scale: Array, scale: Array, zero_point: Array | None, axis: int
) -> Array:
    """Accumulators as codes of the result; the channels lie on `axis`, counted from the end."""
    if zero_point is None:
        raise OperatorError("the zero point of its result is missing")
    result = affine_of(scale, zero_point, zero_point.dtype)
    multiplier = requantization_multiplier(source.scale, weight_scale.reshape(-1).astype(np.float32), result.scale)
    factors = multiplier.reshape(-1, *(1,) * (-axis - 1))
    lower, upper = result.lower - result.zero_point, result.upper - result.zero_point
    codes = multiply_and_round(accumulator, factors, lower=lower, upper=upper) + result.zero_point
    return codes.astype(zero_point.dtype)


def _qlinear_conv(
    call: Call,
    x: Array,
    x_scale: Array,
    x_zero: Array,
    w: Array,
    w_scale: Array,
    w_zero: Array,
    scale: Array,
    zero_point: Array,
    bias: Array | None = None,
) -> Array:
    accumulator = _convolved(call, _centred(x, x_zero), _centred(w, w_zero, 0))
    if bias is not None:
        accumulator = accumulator + bias.astype(np.int64).reshape(-1, *(1,) * (x.ndim - 2))
    return _requantized(accumulator, affine_of(x_scale, x_zero, x.dtype), w_scale, scale, zero_point, 1 - x.ndim)


def _qlinear_matmul(
    _call: Call,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    scale: Array,
    zero_point: Array,
) -> Array:
    product = np.matmul(_centred(a, a_zero), _centred(b, b_zero, b.ndim - 1))
    return _requantized(product, affine_of(a_scale, a_zero, a.dtype), b_scale, scale, zero_point, -1)


def _qgemm(
    call: Call,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    bias: Array | None = None,
    scale: Array | None = None,
    zero_point: Array | None = None,
) -> Array:
    if call.real("alpha", 1.0) != 1.0:
        raise OperatorError(f"alpha is {call.real('alpha', 1.0)}, wanted 1")
    left = _centred(a.T if call.integer("transA", 0) else a, a_zero)
    right = _centred(b.T if call.integer("transB", 0) else b, b_zero, 1)
    product = np.matmul(left, right)
    product = product if bias is None else product + bias.astype(np.int64)
    source = affine_of(a_scale, a_zero, a.dtype)
    if scale is None:
        factors = np.float32(source.scale) * b_scale.reshape(-1).astype(np.float32)
        return np.asarray(product.astype(np.float32) * factors)
    return _requantized(product, source, b_scale, scale, zero_point, -1)


def _conv_integer(call: Call, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None) -> Array:
    return _convolved(call, _centred(x, x_zero), _centred(w, w_zero, 0)).astype(np.int32)


def _matmul_integer(_call: Call, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None) -> Array:
    if a_zero is not None and a_zero.size != 1:
        raise OperatorError("its first operand has a zero point for each row, which npusim does not compute")
    product: Int64Array = np.matmul(_centred(a, a_zero), _centred(b, b_zero, b.ndim - 1))
    return product.astype(np.int32)


def _qlinear_add(call: Call, *inputs: Array | None) -> Array:
    return _combined(add_codes, inputs)


def _qlinear_mul(call: Call, *inputs: Array | None) -> Array:
    return _combined(multiply_codes, inputs)


def _combined(kernel: Callable[..., Int64Array], inputs: Sequence[Array | None]) -> Array:
    padded = [*inputs, *[None] * (8 - len(inputs))]
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero_point = padded
    if a is None or a_scale is None or b is None or b_scale is None or scale is None:
        raise OperatorError("an operand or a scale is missing")
    codes = kernel(
        a.astype(np.int64),
        b.astype(np.int64),
        first=affine_of(a_scale, a_zero, a.dtype),
        second=affine_of(b_scale, b_zero, b.dtype),
        result=affine_of(scale, zero_point, a.dtype),
    )
    return codes.astype(a.dtype)


def _average_pool(
    call: Call, x: Array, x_scale: Array, x_zero: Array | None, scale: Array, zero_point: Array | None = None
) -> Array:
    kernel_shape = call.integers("kernel_shape")
    if kernel_shape is None:
        raise OperatorError("attribute 'kernel_shape' is missing")
    window = window_of(call, x, kernel_shape)
    codes = average_codes(
        x.astype(np.int64),
        source=affine_of(x_scale, x_zero, x.dtype),
        result=affine_of(scale, zero_point, x.dtype),
        kernel_shape=window.kernel_shape,
        strides=window.strides,
        pads=window.pads,
        ceil_mode=window.ceil_mode,
        count_include_pad=bool(call.integer("count_include_pad", 0)),
    )
    return codes.astype(x.dtype)


def _global_average_pool(
    _call: Call, x: Array, x_scale: Array, x_zero: Array | None, scale: Array, zero_point: Array | None = None
) -> Array:
    source, result = affine_of(x_scale, x_zero, x.dtype), affine_of(scale, zero_point, x.dtype)
    axes = tuple(range(2, x.ndim))
    total = _centred(x, x_zero).sum(axis=axes, keepdims=True)
    multiplier = global_average_multiplier(source.scale, result.scale, x[0, 0].size)
    lower, upper = result.lower - result.zero_point, result.upper - result.zero_point
    return (multiply_and_round(total, multiplier, lower=lower, upper=upper) + result.zero_point).astype(x.dtype)


def _leaky_relu(
    call: Call, x: Array, x_scale: Array, x_zero: Array | None, scale: Array, zero_point: Array | None = None
) -> Array:
    slope = np.float32(call.real("alpha", 0.01))
    table = lookup_table(
        lambda real: np.where(real < 0, real * slope, real),
        source=affine_of(x_scale, x_zero, x.dtype),
        result=affine_of(scale, zero_point, x.dtype),
    )
    return _looked_up(table, x)


def _sigmoid(
    call: Call, x: Array, x_scale: Array, x_zero: Array | None, scale: Array, zero_point: Array | None = None
) -> Array:
    source, result = affine_of(x_scale, x_zero, x.dtype), affine_of(scale, zero_point, x.dtype)
    return _looked_up(lookup_table(sigmoid, source=source, result=result), x)


def _softmax(
    call: Call, x: Array, x_scale: Array, x_zero: Array | None, scale: Array, zero_point: Array | None = None
) -> Array:
    source, result = affine_of(x_scale, x_zero, x.dtype), affine_of(scale, zero_point, x.dtype)
    opset = call.integer("opset", call.opset)
    flat = opset <= MAXIMUM_OPSET_OF_FLAT_SOFTMAX
    axis = call.integer("axis", -1) % x.ndim  # also where it is flat: the operator is younger than opset 13
    if flat:
        rows = x.reshape(-1, int(np.prod(x.shape[axis:])))
        return softmax_codes(rows.astype(np.int64), source=source, result=result).astype(x.dtype).reshape(x.shape)
    last = np.moveaxis(x, axis, -1).astype(np.int64)
    return np.moveaxis(softmax_codes(last, source=source, result=result), -1, axis).astype(x.dtype)


def _concat(call: Call, scale: Array, zero_point: Array, *operands: Array | None) -> Array:
    result = affine_of(scale, zero_point, zero_point.dtype)
    parts = []
    for place in range(0, len(operands), 3):
        x, x_scale, x_zero = operands[place : place + 3]
        if x is None or x_scale is None:
            raise OperatorError("an operand or a scale is missing")
        table = lookup_table(lambda real: real, source=affine_of(x_scale, x_zero, x.dtype), result=result)
        parts.append(_looked_up(table, x))
    return np.concatenate(parts, axis=call.integer("axis", 0))


def _looked_up(table: Int64Array, x: Array) -> Array:
    return table[x.astype(np.int64) - code_range(x.dtype)[0]].astype(x.dtype)


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "ConvInteger": _conv_integer,
        "MatMulInteger": _matmul_integer,
        "QGemm": _qgemm,
        "QLinearAdd": _qlinear_add,
        "QLinearAveragePool": _average_pool,
        "QLinearConcat": _concat,
        "QLinearConv": _qlinear_conv,
        "QLinearGlobalAveragePool": _global_average_pool,
        "QLinearLeakyRelu": _leaky_relu,
        "QLinearMatMul": _qlinear_matmul,
        "QLinearMul": _qlinear_mul,
        "QLinearSigmoid": _sigmoid,
        "QLinearSoftmax": _softmax,
    }
)
