"""The arithmetic of ONNX Runtime's integer kernels: 8-bit codes in, 8-bit codes out, float32 in between.

A code q stands for the real number ``scale * (q - zero_point)``. Every function here writes out which float32 operation
follows which, because that decides ties: some kernels round before they add the zero point of the result, some after. ``f32``
is rounding to float32, ``rint`` to the nearest integer with ties to even. Measured against ONNX Runtime 1.32 on a CPU with
VNNI, at every level of optimization; the formulas are also those of its sources (contrib_ops/cpu/quantization, core/mlas).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.geometry import output_sizes, pad_spatial, padded_sizes, tap_slices

__all__ = [
    "Affine",
    "add_codes",
    "add_dequantized",
    "average_codes",
    "fused_multiply_add",
    "global_average_multiplier",
    "lookup_table",
    "multiply_and_round",
    "multiply_codes",
    "multiply_dequantized",
    "requantization_multiplier",
    "softmax_codes",
    "softmax_table",
]

Int64Array: TypeAlias = npt.NDArray[np.int64]
Float32Array: TypeAlias = npt.NDArray[np.float32]
FloatFunction: TypeAlias = Callable[[Float32Array], Float32Array]

_ONE_BYTE = 256
"""Codes of an 8-bit type."""


@dataclass(frozen=True, slots=True)
class Affine:
    """How codes stand for real numbers, ``scale * (code - zero_point)``, and which codes there are.

    Attributes
    ----------
    scale
        A float32 number.
    zero_point
        The code of 0.
    lower, upper
        Smallest and largest code, both included.
    """

    scale: float
    zero_point: int
    lower: int
    upper: int

    def real(self, codes: Int64Array) -> Float32Array:
        """``f32(f32(code - zero_point) * scale)``, float32 in the shape of `codes`."""
        return np.asarray((codes - self.zero_point).astype(np.float32) * np.float32(self.scale))

    def codes(self, real: Float32Array) -> Int64Array:
        """``clip(rint(f32(real / scale)) + zero_point, lower, upper)``, int64 in the shape of `real`; NaN gives `lower`."""
        with np.errstate(all="ignore"):
            rounded = np.rint(real / np.float32(self.scale)).astype(np.float64) + self.zero_point
        return np.where(np.isnan(rounded), self.lower, np.clip(rounded, self.lower, self.upper)).astype(np.int64)


def requantization_multiplier(input_scale: float, weight_scale: Float32Array, output_scale: float) -> Float32Array:
    """The factor from accumulator to code, ``f32(f32(input_scale * weight_scale) / output_scale)``, one for each channel.

    Parameters
    ----------
    input_scale, output_scale
        float32 numbers.
    weight_scale
        float32, one for each channel or one for all.

    Raises
    ------
    ValueError
        If a factor is 0 or not finite: then no code depends on the accumulator any more.

    Examples
    --------
    >>> requantization_multiplier(0.5, np.array([0.25, 1.0], np.float32), 2.0)
    array([0.0625, 0.25  ], dtype=float32)
    """
    with np.errstate(all="ignore"):
        product = _float32(input_scale) * weight_scale.astype(np.float32)
        multiplier = product / _float32(output_scale)
    if not (np.isfinite(multiplier).all() and (multiplier > 0).all()):
        raise ValueError("scales of input, weights and output give a factor that is 0 or not finite in float32")
    return np.asarray(multiplier, np.float32)


def multiply_and_round(accumulator: Int64Array, multiplier: Float32Array, /, *, lower: int, upper: int) -> Int64Array:
    """From accumulators to codes less their zero point: ``clip(rint(f32(f32(accumulator) * multiplier)), lower, upper)``.

    The zero point of the result is added behind the rounding, so it may as well be left out of code and range.

    Parameters
    ----------
    accumulator
        int64 of any shape, int32 values.
    multiplier
        float32, broadcastable to `accumulator`.
    lower, upper
        Range of the codes less their zero point.

    Returns
    -------
    int64 in the shape of `accumulator`.

    Examples
    --------
    >>> multiply_and_round(np.array([1, 3, 5, -5, 999]), np.float32([0.5]), lower=-128, upper=127).tolist()
    [0, 2, 2, -2, 127]
    """
    with np.errstate(over="ignore"):
        product = accumulator.astype(np.float32) * multiplier
    return _saturated(product, lower, upper)


def fused_multiply_add(a: Float32Array, b: Float32Array, c: Float32Array, /) -> Float32Array:
    """``f32(a * b + c)`` with one rounding, as processors compute it; arrays broadcast.

    The product of two float32 numbers is exact in float64, the sum need not be. Rounded to odd (the neighbour whose last bit
    is 1), it rounds to float32 as the exact sum does, because float64 has more than two bits more than float32.

    Examples
    --------
    The product ``1 + 2**-11 + 2**-24`` alone would round to ``1 + 2**-11``:

    >>> x = np.float32(1 + 2**-12)
    >>> float(fused_multiply_add(x, x, np.float32(-1))) == 2**-11 + 2**-24
    True
    """
    product = np.multiply(a, b, dtype=np.float64)
    addend = np.asarray(c, np.float64)
    total = product + addend
    # what the sum lost, exactly (Knuth)
    virtual = total - product
    lost = (product - (total - virtual)) + (addend - virtual)
    even = (np.asarray(total).view(np.int64) & 1) == 0
    toward = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
    return np.where((lost != 0) & even, toward, total).astype(np.float32)


def add_codes(a: Int64Array, b: Int64Array, /, *, first: Affine, second: Affine, result: Affine) -> Int64Array:
    """QLinearAdd: the codes of a sum; rounds *after* the zero point of the result was added.

    With ``ra = f32(first.scale / result.scale)``, ``rb`` likewise and
    ``k = f32(zero_point - fma(ra, first.zero_point, f32(rb * second.zero_point)))`` the code is
    ``clip(rint(fma(ra, a, fma(rb, b, k))), lower, upper)``.

    Parameters
    ----------
    a, b
        int64 codes, broadcastable to each other.
    first, second, result
        What the codes of `a`, `b` and of the sum stand for.

    Examples
    --------
    >>> half = Affine(0.5, 1, 0, 255)
    >>> add_codes(np.array([1, 2, 4]), np.array([1, 1, 3]), first=half, second=half, result=Affine(1.0, 0, 0, 255)).tolist()
    [0, 0, 2]
    """
    ratio_a, ratio_b = (_float32(operand.scale) / _float32(result.scale) for operand in (first, second))
    inner = fused_multiply_add(ratio_a, _float32(first.zero_point), ratio_b * _float32(second.zero_point))
    constant = _float32(result.zero_point) - inner
    partial = fused_multiply_add(ratio_b, b.astype(np.float32), constant)
    total = fused_multiply_add(ratio_a, a.astype(np.float32), partial)
    return _saturated(total, result.lower, result.upper)


def multiply_codes(a: Int64Array, b: Int64Array, /, *, first: Affine, second: Affine, result: Affine) -> Int64Array:
    """QLinearMul: the codes of a product; rounds *after* the zero point of the result was added, without a fused operation.

    ``clip(rint(f32(f32((a - za) * (b - zb) * f32(f32(sa * sb) / s)) + z)), lower, upper)``.

    Parameters and result are as for :func:`add_codes`.

    Examples
    --------
    >>> one = Affine(0.5, 0, -128, 127)
    >>> a, b = np.array([3, 5, -3]), np.array([2, 1, 2])
    >>> multiply_codes(a, b, first=one, second=one, result=Affine(1.0, 1, -128, 127)).tolist()
    [2, 2, 0]
    """
    factor = np.float32(first.scale) * np.float32(second.scale) / np.float32(result.scale)
    product = ((a - first.zero_point) * (b - second.zero_point)).astype(np.float32)
    real = product * factor + np.float32(result.zero_point)
    return _saturated(real, result.lower, result.upper)


def add_dequantized(a: Int64Array, b: Int64Array, /, *, first: Affine, second: Affine, result: Affine) -> Int64Array:
    """DequantizeLinear, Add, QuantizeLinear: ``quantize(f32(dequantize(a) + dequantize(b)))``.

    Parameters and result are as for :func:`add_codes`.

    Examples
    --------
    >>> half = Affine(0.5, 1, 0, 255)
    >>> a, b = np.array([1, 2, 4]), np.array([1, 1, 3])
    >>> add_dequantized(a, b, first=half, second=half, result=Affine(1.0, 0, 0, 255)).tolist()
    [0, 0, 2]
    """
    return result.codes(first.real(a) + second.real(b))


def multiply_dequantized(a: Int64Array, b: Int64Array, /, *, first: Affine, second: Affine, result: Affine) -> Int64Array:
    """DequantizeLinear, Mul, QuantizeLinear: ``quantize(f32(dequantize(a) * dequantize(b)))``.

    Parameters and result are as for :func:`add_codes`.

    Examples
    --------
    >>> one = Affine(0.5, 0, -128, 127)
    >>> a, b = np.array([3, 5, -3]), np.array([2, 1, 2])
    >>> multiply_dequantized(a, b, first=one, second=one, result=Affine(1.0, 1, -128, 127)).tolist()
    [3, 2, -1]
    """
    return result.codes(first.real(a) * second.real(b))


def average_codes(
    x: Int64Array,
    /,
    *,
    source: Affine,
    result: Affine,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Int64Array:
    """QLinearAveragePool: the codes of means over windows; rounds *after* the zero point of the result was added.

    The real numbers of the codes are summed in float32 in the order of the window, the last axis fastest; then
    ``clip(rint(f32(f32(f32(sum / count) / scale) + zero_point)), lower, upper)``. Sums of other orders differ.

    Parameters
    ----------
    x
        int64 codes ``[N, C, *spatial]``.
    source, result
        What the codes of `x` and of the means stand for.
    kernel_shape, strides, pads, ceil_mode
        As in :func:`npusim.kernels.pooling.average_pool`; kernels are not dilated.
    count_include_pad
        Divide by the size of the kernel everywhere, not by the elements that lie on the data.

    Returns
    -------
    int64 codes ``[N, C, *output]``.

    Examples
    --------
    >>> same = Affine(0.5, 1, 0, 255)
    >>> x = np.array([[[1, 2, 4, 5]]])
    >>> average_codes(x, source=same, result=same, kernel_shape=(2,), strides=(2,), pads=(0, 0)).tolist()
    [[[2, 4]]]
    """
    spatial, axes = x.shape[2:], x.ndim - 2
    ones = (1,) * axes
    windows = output_sizes(spatial, kernel_shape=kernel_shape, strides=strides, dilations=ones, pads=pads, ceil_mode=ceil_mode)
    sizes = padded_sizes(spatial, windows, kernel_shape=kernel_shape, strides=strides, dilations=ones, pads=pads)
    real = pad_spatial(source.real(x), begins=pads[:axes], sizes=sizes, value=0)
    inside = pad_spatial(np.ones((1, 1, *spatial), np.int64), begins=pads[:axes], sizes=sizes, value=0)
    total, count = np.zeros((*x.shape[:2], *windows), np.float32), np.zeros((1, 1, *windows), np.int64)
    for region in tap_slices(windows, kernel_shape=kernel_shape, strides=strides, dilations=ones):
        total += real[(slice(None), slice(None), *region)]
        count += inside[(slice(None), slice(None), *region)]
    divisor = np.full_like(count, math.prod(kernel_shape)) if count_include_pad else count
    mean = total / divisor.astype(np.float32)
    shifted = mean / np.float32(result.scale) + np.float32(result.zero_point)
    return _saturated(shifted, result.lower, result.upper)


def global_average_multiplier(input_scale: float, output_scale: float, count: int) -> Float32Array:
    """The factor of QLinearGlobalAveragePool, ``f32(input_scale / f32(output_scale * count))``, one for all channels.

    Its accumulator is the sum of codes less their zero point over a plane of `count` elements; :func:`multiply_and_round` does
    the rest.

    Examples
    --------
    >>> global_average_multiplier(1.0, 0.5, 8)
    array([0.25], dtype=float32)
    """
    return np.array([np.float32(input_scale) / (np.float32(output_scale) * np.float32(count))], np.float32)


def lookup_table(function: FloatFunction, /, *, source: Affine, result: Affine) -> Int64Array:
    """The codes of a function of one 8-bit tensor, for every code from ``source.lower`` to ``source.upper``.

    ``result.codes(function(source.real(code)))``: what QLinearSigmoid, QLinearLeakyRelu and each input of QLinearConcat look
    up, and what a float operator between DequantizeLinear and QuantizeLinear computes.

    Parameters
    ----------
    function
        float32 to float32, element by element.
    source, result
        What the codes going in and coming out stand for.

    Returns
    -------
    int64, one code for each code of `source`.

    Examples
    --------
    >>> four = Affine(1.0, 0, -2, 1)
    >>> lookup_table(np.abs, source=four, result=Affine(0.5, 0, -128, 127)).tolist()
    [4, 2, 0, 2]
    """
    with np.errstate(all="ignore"):
        return result.codes(
            np.asarray(function(source.real(np.arange(source.lower, source.upper + 1, dtype=np.int64))), np.float32)
        )


def softmax_table(scale: float, count: int) -> Float32Array:
    """What QLinearSoftmax looks up instead of exponentials: 256 float32 numbers, the last for the largest code of a row.

    ``f32(exp((i - 255 + shift) * scale))``, computed in float64, with ``shift = max(0, logf(f32(MAX / count)) - 5) / scale``
    and MAX the largest float32: the sum of a row just fits.

    Parameters
    ----------
    scale
        Of the input.
    count
        Elements of a row.
    """
    largest = np.float32(np.finfo(np.float32).max) / np.float32(count)
    shift = max(0.0, float(np.float32(math.log(float(largest)))) - 5) / float(np.float32(scale))
    steps = (np.arange(_ONE_BYTE, dtype=np.float64) - (_ONE_BYTE - 1) + shift) * float(np.float32(scale))
    with np.errstate(all="ignore"):
        return np.exp(steps).astype(np.float32)


def softmax_codes(x: Int64Array, /, *, source: Affine, result: Affine) -> Int64Array:
    """QLinearSoftmax over the last axis.

    With t from :func:`softmax_table` at ``x - max(x) + 255``, its sum s over the row in float32 from left to right and
    ``c = floor(f32(1 / result.scale))`` the code is ``clip(rint(f32(f32(t / s) * c)) + zero_point, lower, upper)``. A scale of
    1/255 gives c = 254, because float32 holds no 1/255.

    Parameters
    ----------
    x
        int64 codes ``[..., count]`` of 8 bits.
    source, result
        What the codes of `x` and of the result stand for.

    Returns
    -------
    int64 codes in the shape of `x`.

    Examples
    --------
    >>> logits, shares = Affine(0.1, 0, 0, 255), Affine(1 / 256, 0, 0, 255)
    >>> softmax_codes(np.array([[7, 7, 7, 7], [99, 0, 0, 0]]), source=logits, result=shares).tolist()
    [[64, 64, 64, 64], [255, 0, 0, 0]]
    """
    table = softmax_table(source.scale, x.shape[-1])
    terms = table[x - x.max(axis=-1, keepdims=True) + _ONE_BYTE - 1]
    total = np.zeros(x.shape[:-1], np.float32)
    for position in range(x.shape[-1]):
        total = total + terms[..., position]
    count = np.floor(np.float32(1) / np.float32(result.scale))
    rounded = np.rint(terms / total[..., np.newaxis] * count)
    return _saturated(rounded.astype(np.float64) + result.zero_point, result.lower, result.upper)


def _float32(value: float) -> Float32Array:
    """A number as an array without axes: operations on it stay float32."""
    return np.array(value, np.float32)


def _saturated(real: npt.NDArray[np.floating[Any]], lower: int, upper: int) -> Int64Array:
    """``clip(rint(real), lower, upper)`` as int64."""
    codes: Int64Array = np.clip(np.rint(real), lower, upper).astype(np.int64)
    return codes
