"""The integer arithmetic of TensorFlow Lite's operators, as TFLM, LiteRT's reference kernels, ruy and XNNPACK compute it.

A code q stands for the real number ``scale * (q - zero_point)``. Multipliers follow from the scales in double precision, or
in float32 where the runtime multiplies float32 numbers first: one wrong cast costs the last bit in some outputs, so each
function says which. Measured against tflite-micro and ai-edge-litert on x86; the formulas are also those of their sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.fixed_point import (
    Rounding,
    divide_power_of_two,
    multiply_fixed_point,
    quantize_multiplier,
    reduce_multiplier,
)
from npusim.kernels.gemmlowp import exp_on_negative_values, logistic, reciprocal, tanh
from npusim.kernels.qlinear import Affine

__all__ = [
    "ADD_LEFT_SHIFT",
    "Activation",
    "activation_range",
    "add_codes",
    "fixed_point_sigmoid_codes",
    "gemmlowp_softmax",
    "hard_swish_codes",
    "layer_multipliers",
    "leaky_relu_codes",
    "litert_mean_codes",
    "mean_multiplier",
    "multiply_codes",
    "quantize_codes",
    "relu_codes",
    "requantize_8_bit_codes",
    "requantize_codes",
    "round_half_away",
    "scale_ratio",
    "sigmoid_16_codes",
    "softmax_16_codes",
    "table_sigmoid_codes",
    "table_softmax_codes",
    "xnnpack_add_codes",
    "xnnpack_mean_codes",
    "xnnpack_multiply_codes",
]

Int64Array: TypeAlias = npt.NDArray[np.int64]
Float64Array: TypeAlias = npt.NDArray[np.float64]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]

ADD_LEFT_SHIFT: Final = 20
"""Bits that ADD and SUB keep of their operands below the code: 20 for 8 bits, 15 for 16."""


MEAN_VECTOR: Final = 16
"""Channels that LiteRT's kernel for x86 averages at a time."""


class Activation(StrEnum):
    """Functions that may be fused into an operator; each is a saturation."""

    NONE = "NONE"
    RELU = "RELU"
    RELU_N1_TO_1 = "RELU_N1_TO_1"
    RELU6 = "RELU6"


_ONE_MORE: Final = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46, 49, 50, 54),
    *(62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
)
"""Entries of the table of the logistic function that the runtimes hold one above the rounded value, as their outputs show."""

_REAL_BOUNDS: Final = {
    Activation.NONE: (-math.inf, math.inf),
    Activation.RELU: (0.0, math.inf),
    Activation.RELU_N1_TO_1: (-1.0, 1.0),
    Activation.RELU6: (0.0, 6.0),
}


def round_half_away(value: FloatArray | float) -> Int64Array:
    """The nearest integer, halves away from zero, as C's ``round``."""
    real = np.asarray(value, np.float64)
    whole = np.trunc(real)
    return (whole + np.where(np.abs(real - whole) >= 0.5, np.sign(real), 0.0)).astype(np.int64)


def activation_range(activation: Activation, result: Affine) -> tuple[int, int]:
    """Smallest and largest code behind a fused activation: ``zero_point + round(f32(bound / scale))`` within the element type.

    Examples
    --------
    >>> activation_range(Activation.RELU6, Affine(0.05, -128, -128, 127))
    (-128, -8)
    """
    codes = [
        None
        if math.isinf(bound)
        else result.zero_point + int(round_half_away(float(np.float32(bound) / np.float32(result.scale))))
        for bound in _REAL_BOUNDS[activation]
    ]
    lower = result.lower if codes[0] is None else max(result.lower, codes[0])
    return lower, result.upper if codes[1] is None else min(result.upper, codes[1])


def layer_multipliers(source: float, weights: npt.NDArray[np.float32], result: float, *, float32_product: bool) -> Float64Array:
    """``M = source * weights / result`` of a layer with weights, for each scale of the weights.

    In double precision, but FULLY_CONNECTED with one scale multiplies source and weights in float32 first (`float32_product`).

    Examples
    --------
    >>> layer_multipliers(0.5, np.array([0.5, 0.25], np.float32), 0.25, float32_product=False)
    array([1. , 0.5])
    """
    product: Float64Array
    if float32_product:
        product = (np.float32(source) * weights.astype(np.float32)).astype(np.float64)
    else:
        product = float(np.float32(source)) * weights.astype(np.float64)
    return product / float(np.float32(result))


def scale_ratio(numerator: tuple[float, ...], denominator: float, *, in_float32: bool) -> float:
    """A product of scales divided by a scale: in double precision, or each operation rounded to float32.

    Examples
    --------
    >>> scale_ratio((0.125,), 0.2, in_float32=True), scale_ratio((0.125,), 0.2, in_float32=False)
    (0.625, 0.6249999906867744)
    """
    precision = np.float32 if in_float32 else np.float64
    product = precision(np.float32(numerator[0]))
    for factor in numerator[1:]:
        product = product * precision(np.float32(factor))
    return float(product / precision(np.float32(denominator)))


def mean_multiplier(source: float, result: float, count: int) -> tuple[int, int]:
    """Multiplier and exponent of MEAN over `count` elements: that of ``source / result`` is divided by the count in integers.

    The multiplier is shifted to the left first, by as many bits as the count has after its first one, at most 32 and at most
    so that the exponent stays above -32; the division truncates.

    Examples
    --------
    >>> mean_multiplier(1.0, 1.0, 3)
    (715827882, 0)
    """
    multiplier, exponent = quantize_multiplier(float(np.float32(source)) / float(np.float32(result)))
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    return (multiplier << shift) // count, exponent - shift


def requantize_codes(x: Int64Array, /, *, source: Affine, result: Affine, rounding: Rounding) -> Int64Array:
    """QUANTIZE from codes to codes: ``(x - zx) * (scale_x / scale_y)`` rounded, plus ``zy``, saturated.

    The quotient of the scales is one of doubles.

    Examples
    --------
    >>> half, whole = Affine(0.5, 0, -128, 127), Affine(1.0, 1, -128, 127)
    >>> requantize_codes(np.array([-3, -2, 3]), source=half, result=whole, rounding=Rounding.DOUBLE).tolist()
    [0, 0, 3]
    """
    multiplier, exponent = quantize_multiplier(float(np.float32(source.scale)) / float(np.float32(result.scale)))
    scaled = _scaled(x - source.zero_point, multiplier, exponent, rounding)
    return _saturated(scaled + result.zero_point, result.lower, result.upper)


def requantize_8_bit_codes(x: Int64Array, /, *, source: Affine, result: Affine, slope_below: float = 1.0) -> Int64Array:
    """XNNPACK's conversion of 8-bit codes and its LEAKY_RELU: multipliers of 8 fraction bits, one rounding half up.

    ``((x - zx) * m + 128) >> 8``, plus ``zy``, saturated, with ``m = rint(256 * f32(scale_x / scale_y))`` for ``x >= zx`` and
    the same times `slope_below` otherwise.

    Examples
    --------
    >>> half, whole = Affine(0.5, 0, -128, 127), Affine(1.0, 1, -128, 127)
    >>> requantize_8_bit_codes(np.array([-3, -2, 3]), source=half, result=whole).tolist()
    [0, 0, 3]
    """
    ratio = np.float32(source.scale) / np.float32(result.scale)
    above, below = (int(np.rint(np.float32(256) * factor)) for factor in (ratio, ratio * np.float32(slope_below)))
    centred = x - source.zero_point
    scaled = (centred * np.where(centred < 0, below, above) + 128) >> 8
    return _saturated(scaled + result.zero_point, result.lower, result.upper)


def quantize_codes(x: npt.NDArray[np.float32], /, *, result: Affine, by_inverse: bool = False) -> Int64Array:
    """QUANTIZE from float32, saturated; x is finite.

    TFLM and LiteRT's reference kernels: ``round(f32(x / scale)) + zero_point``, halves away from zero. LiteRT's other kernels
    and XNNPACK (`by_inverse`): ``rint(f32(x * f32(1 / scale))) + zero_point``, halves to even.

    Examples
    --------
    >>> quantize_codes(np.float32([0.25, -0.25, 9]), result=Affine(0.5, 0, -8, 7)).tolist()
    [1, -1, 7]
    >>> quantize_codes(np.float32([0.25, -0.25, 9]), result=Affine(0.5, 0, -8, 7), by_inverse=True).tolist()
    [0, 0, 7]
    """
    scale = np.float32(result.scale)
    with np.errstate(over="ignore"):
        quotient = np.clip((x * (np.float32(1) / scale) if by_inverse else x / scale).astype(np.float64), -(2.0**40), 2.0**40)
    whole = np.rint(quotient).astype(np.int64) if by_inverse else round_half_away(quotient)
    return _saturated(whole + result.zero_point, result.lower, result.upper)


def add_codes(
    a: Int64Array,
    b: Int64Array,
    /,
    *,
    first: Affine,
    second: Affine,
    result: Affine,
    rounding: Rounding,
    clip: tuple[int, int],
    rounding_operands: Rounding | None = None,
    left_shift: int = ADD_LEFT_SHIFT,
    subtract: bool = False,
) -> Int64Array:
    """ADD and SUB: both operands in a common scale with `left_shift` more bits, then the sum in the scale of the result.

    With ``T = 2 * max(scale_a, scale_b)``: ``(a - za) << left_shift`` times ``scale_a / T`` and the same of b, rounded as
    `rounding_operands` says (as `rounding` where it is None); their sum or difference times ``T / (2**left_shift * scale)``,
    rounded. Quotients are of doubles.

    Examples
    --------
    >>> half, whole = Affine(0.5, 0, -128, 127), Affine(1.0, 1, -128, 127)
    >>> a, b = np.array([3, -3]), np.array([2, 1])
    >>> add_codes(
    ...     a, b, first=half, second=half, result=whole, rounding=Rounding.DOUBLE, clip=(-128, 127)
    ... ).tolist()
    [4, 0]
    """
    scale_a, scale_b, scale = (float(np.float32(item.scale)) for item in (first, second, result))
    twice = 2 * max(scale_a, scale_b)
    before = rounding if rounding_operands is None else rounding_operands
    scaled_a = _scaled((a - first.zero_point) << left_shift, *quantize_multiplier(scale_a / twice), before)
    scaled_b = _scaled((b - second.zero_point) << left_shift, *quantize_multiplier(scale_b / twice), before)
    total = scaled_a - scaled_b if subtract else scaled_a + scaled_b
    scaled = _scaled(total, *quantize_multiplier(twice / ((1 << left_shift) * scale)), rounding)
    return _saturated(scaled + result.zero_point, *clip)


def xnnpack_add_codes(
    a: Int64Array,
    b: Int64Array,
    /,
    *,
    first: Affine,
    second: Affine,
    result: Affine,
    clip: tuple[int, int],
    subtract: bool = False,
) -> Int64Array:
    """XNNPACK's ADD and SUB: ``((a - za) * ma + (b - zb) * mb + 2**(shift - 1)) >> shift``, one rounding half up.

    ``ma = rint(f32(scale_a / scale) * 2**shift)`` and the same for b, negated to subtract; the shift gives the larger one 21
    bits.

    Examples
    --------
    >>> half, whole = Affine(0.5, 0, -128, 127), Affine(1.0, 1, -128, 127)
    >>> xnnpack_add_codes(
    ...     np.array([3, -3]), np.array([2, 0]), first=half, second=half, result=whole, clip=(-128, 127)
    ... ).tolist()
    [4, 0]
    """
    ratios = [float(np.float32(item.scale) / np.float32(result.scale)) for item in (first, second)]
    shift = 21 - math.frexp(max(ratios))[1]
    factor_a, factor_b = (int(np.rint(math.ldexp(ratio, shift))) for ratio in ratios)
    total = (a - first.zero_point) * factor_a + (b - second.zero_point) * (-factor_b if subtract else factor_b)
    return _saturated(((total + (1 << (shift - 1))) >> shift) + result.zero_point, *clip)


def multiply_codes(
    a: Int64Array,
    b: Int64Array,
    /,
    *,
    first: Affine,
    second: Affine,
    result: Affine,
    rounding: Rounding,
    clip: tuple[int, int],
    in_float32: bool,
) -> Int64Array:
    """MUL: ``(a - za) * (b - zb)`` times ``scale_a * scale_b / scale``, rounded; the factor as :func:`scale_ratio` says.

    Examples
    --------
    >>> half, whole = Affine(0.5, 0, -128, 127), Affine(1.0, 0, -128, 127)
    >>> multiply_codes(
    ...     np.array([3, -3]),
    ...     np.array([2, 2]),
    ...     first=half,
    ...     second=half,
    ...     result=whole,
    ...     rounding=Rounding.DOUBLE,
    ...     clip=(-128, 127),
    ...     in_float32=True,
    ... ).tolist()
    [2, -2]
    """
    real = scale_ratio((first.scale, second.scale), result.scale, in_float32=in_float32)
    product = (a - first.zero_point) * (b - second.zero_point)
    return _saturated(_scaled(product, *quantize_multiplier(real), rounding) + result.zero_point, *clip)


def xnnpack_multiply_codes(
    a: Int64Array,
    b: Int64Array,
    /,
    *,
    first: Affine,
    second: Affine,
    result: Affine,
    clip: tuple[int, int],
) -> Int64Array:
    """XNNPACK's MUL: ``rint(f32((a - za) * (b - zb) * f32(f32(scale_a * scale_b) / scale)))``, plus the zero point, saturated.

    Examples
    --------
    >>> half, whole = Affine(0.5, 0, -128, 127), Affine(1.0, 0, -128, 127)
    >>> xnnpack_multiply_codes(
    ...     np.array([3, -3]), np.array([2, 2]), first=half, second=half, result=whole, clip=(-128, 127)
    ... ).tolist()
    [2, -2]
    """
    factor = np.float32(first.scale) * np.float32(second.scale) / np.float32(result.scale)
    product = ((a - first.zero_point) * (b - second.zero_point)).astype(np.float32) * factor
    return _saturated(np.rint(product).astype(np.int64) + result.zero_point, *clip)


def leaky_relu_codes(
    x: Int64Array, /, *, source: Affine, result: Affine, alpha: float, rounding: Rounding, in_float32: bool
) -> Int64Array:
    """LEAKY_RELU: ``x - zx`` times ``scale_x / scale_y``, below 0 times ``scale_x * alpha / scale_y``, rounded.

    The factors as :func:`scale_ratio` says.

    Examples
    --------
    >>> one = Affine(1.0, 0, -128, 127)
    >>> leaky_relu_codes(
    ...     np.array([-4, 4]), source=one, result=one, alpha=0.25, rounding=Rounding.DOUBLE, in_float32=True
    ... ).tolist()
    [-1, 4]
    """
    centred = x - source.zero_point
    identity = scale_ratio((source.scale,), result.scale, in_float32=in_float32)
    slope = scale_ratio((source.scale, alpha), result.scale, in_float32=in_float32)
    above = _scaled(centred, *quantize_multiplier(identity), rounding)
    below = _scaled(centred, *_signed_multiplier(slope), rounding)
    return _saturated(np.where(centred >= 0, above, below) + result.zero_point, result.lower, result.upper)


def relu_codes(
    x: Int64Array,
    /,
    *,
    source: Affine,
    result: Affine,
    activation: Activation,
    rounding: Rounding,
    in_float32: bool,
    rescale: bool = True,
) -> Int64Array:
    """RELU, RELU6 and their like as operators: rescaled by ``scale_x / scale_y`` as :func:`scale_ratio` says, then saturated.

    TFLM's RELU6 does not rescale (`rescale` is False): codes are saturated to the range that the scale of the source gives, and
    stand as they are.

    Examples
    --------
    >>> half, whole = Affine(0.5, 0, -128, 127), Affine(1.0, 0, -128, 127)
    >>> x = np.array([-8, 8, 100])
    >>> relu_codes(
    ...     x, source=half, result=whole, activation=Activation.RELU6, rounding=Rounding.DOUBLE, in_float32=True
    ... ).tolist()
    [0, 4, 6]
    """
    if not rescale:
        return _saturated(x, *activation_range(activation, source))
    lower, upper = activation_range(activation, result)
    real = scale_ratio((source.scale,), result.scale, in_float32=in_float32)
    scaled = _scaled(x - source.zero_point, *quantize_multiplier(real), rounding)
    return _saturated(scaled + result.zero_point, lower, upper)


def hard_swish_codes(x: Int64Array, /, *, source: Affine, result: Affine) -> Int64Array:
    """HARD_SWISH of 8-bit codes, ``x * relu6(x + 3) / 6`` in 16-bit fixed point; all runtimes alike.

    Scales in float32, ``g = scale_x / 128``; two 16-bit multipliers, (Qo, eo) of ``g / scale_y`` and (Qr, er) of ``g / (3 /
    32768)``; ``h = (x - zx) * 128``; ``p = (h * Qo + 2**14) >> 15``, the value in the scale of the result before the last
    shift; r, h in the scale of ``3 / 32768`` and saturated to 16 bits, stands for the clipped slope; ``p * r / 2**15`` toward
    zero, divided by ``2**-eo``.
    """
    fine = np.float32(1.0 / 128) * np.float32(source.scale)
    multiplier_o, exponent_o = quantize_multiplier(float(fine / np.float32(result.scale)))
    multiplier_r, exponent_r = quantize_multiplier(float(fine / np.float32(3.0 / 32768)))
    narrow_o, narrow_r = (int(reduce_multiplier(np.array(item))) for item in (multiplier_o, multiplier_r))
    h = (x - source.zero_point) * 128
    p = (h * narrow_o + (1 << 14)) >> 15
    r = _int16(h << (exponent_r - 1)) if exponent_r > 0 else h
    r = (r * narrow_r + (1 << 14)) >> 15
    if exponent_r > 0:
        r = _int16(r << 1)
    elif exponent_r < 0:
        r = divide_power_of_two(r, -exponent_r)
    r = (r + (1 << 15)) >> 1
    product = r * p
    t = np.sign(product) * (np.abs(product) >> 15)
    scaled = divide_power_of_two(t, -exponent_o) if exponent_o <= 0 else t << exponent_o
    return _saturated(scaled + result.zero_point, result.lower, result.upper)


def fixed_point_sigmoid_codes(
    x: Int64Array, /, *, source: Affine, result: Affine, hyperbolic: bool, rounding: Rounding
) -> Int64Array:
    """TFLM's LOGISTIC, or TANH where `hyperbolic`, of 8-bit codes: in 32-bit fixed point with 4 integer bits.

    The result's scale is 1/256 with zero point -128, for TANH 1/128 with 0, whatever the file says.
    """
    multiplier, exponent = quantize_multiplier(float(np.float32(source.scale)) * 2.0**27)
    radius = math.floor(15 * 2.0**27 / 2.0**exponent)
    centred = x - source.zero_point
    inside = np.clip(centred, -radius, radius)
    fixed = _scaled(inside, multiplier, exponent, rounding)
    curve = divide_power_of_two(tanh(fixed, 4), 24) if hyperbolic else divide_power_of_two(logistic(fixed, 4), 23) - 128
    codes = np.where(centred >= radius, result.upper, np.where(centred <= -radius, result.lower, curve))
    return _saturated(codes, result.lower, result.upper)


def table_sigmoid_codes(x: Int64Array, /, *, source: Affine, result: Affine, hyperbolic: bool) -> Int64Array:
    """LiteRT's LOGISTIC, or TANH where `hyperbolic`, of 8-bit codes: float32 operations, each rounded, halves away from zero.

    ``round(f32(f(f32(scale_x * (x - zx))) * f32(1 / scale_y))) + zy``, saturated.
    """
    real = ((x - source.zero_point).astype(np.float32) * np.float32(source.scale)).astype(np.float64)
    if hyperbolic:
        value = np.tanh(real).astype(np.float32)
    else:
        value = np.float32(1) / (np.float32(1) + np.exp(-real).astype(np.float32))
    inverse = np.float32(1) / np.float32(result.scale)
    return _saturated(round_half_away((value * inverse).astype(np.float64)) + result.zero_point, result.lower, result.upper)


def gemmlowp_softmax(x: Int64Array, /, *, source: Affine, result: Affine, beta: float, rounding: Rounding) -> Int64Array:
    """TFLM's SOFTMAX of 8-bit codes over the last axis, in 32-bit fixed point.

    Differences to the largest code of a row, times ``beta * scale_x`` with 5 integer bits; their exponentials, summed with 12
    integer bits; each times the reciprocal of the sum. The result's scale is 1/256 (1/65536 for 16 bits), its zero point the
    smallest code.
    """
    multiplier, exponent = quantize_multiplier(min(beta * float(np.float32(source.scale)) * 2.0**26, 2.0**31 - 1))
    smallest = -math.floor(31 * 2.0**26 / 2.0**exponent)
    bits = (result.upper - result.lower + 1).bit_length() - 1
    difference = x - x.max(axis=-1, keepdims=True)
    inside = difference >= smallest
    fixed = _scaled(np.where(inside, difference, 0), multiplier, exponent, rounding)
    powers = exp_on_negative_values(fixed, 5)
    total = np.where(inside, divide_power_of_two(powers, 12), 0).sum(axis=-1, keepdims=True)
    inverse, above = reciprocal(total, 12)
    share = divide_power_of_two((powers * inverse + (1 << 30)) >> 31, above + 31 - bits)
    return np.where(inside, np.clip(share + result.lower, result.lower, result.upper), result.lower)


def table_softmax_codes(x: Int64Array, /, *, source: Affine, result: Affine, beta: float) -> Int64Array:
    """LiteRT's SOFTMAX of 8-bit codes over the last axis: a table of float32 exponentials, summed from left to right.

    ``trunc(f32(e * f32(1 / f32(sum * scale_y))) + 0.5) + zy``, saturated, with ``e = exp(f32(-scale_x * beta) * (max - x))``.
    """
    factor = np.float32(-np.float32(source.scale) * np.float32(beta))
    table = np.exp((factor * np.arange(256).astype(np.float32)).astype(np.float64)).astype(np.float32)
    terms = table[x.max(axis=-1, keepdims=True) - x]
    total = np.zeros(x.shape[:-1], np.float32)
    for position in range(x.shape[-1]):
        total = total + terms[..., position]
    inverse = np.float32(1) / (total * np.float32(result.scale))
    share = np.trunc((terms * inverse[..., np.newaxis]).astype(np.float64) + 0.5).astype(np.int64)
    return _saturated(share + result.zero_point, result.lower, result.upper)


def sigmoid_16_codes(x: Int64Array, /, *, source: Affine, hyperbolic: bool) -> Int64Array:
    """LOGISTIC, or TANH where `hyperbolic`, of 16-bit codes: a table of the logistic function, interpolated linearly.

    The table holds ``round(65536 / (1 + exp(-i / 24)))``, 44 entries one more. x is brought to steps of ``1 / (3 * 4096)``:
    times 3 where the scale is 1/4096 (for TANH also 1/2048, shifted by one bit), else times a multiplier of 15 bits that is
    cut off, shifted back half up. TANH is ``2 * logistic(2 x) - 1``. The result has scale 1/32768.

    Examples
    --------
    >>> sigmoid_16_codes(np.array([0, 32767]), source=Affine(1 / 4096, 0, -32768, 32767), hyperbolic=False).tolist()
    [16384, 32757]
    """
    multiplier, shift = _sigmoid_16_multiplier(source.scale, hyperbolic=hyperbolic)
    rounding = 1 << (shift - 1) if shift > 0 else 0
    scaled = (x * multiplier + rounding) >> shift
    size, bits = np.abs(scaled), 8 if hyperbolic else 9
    table = round_half_away(65536 / (1 + np.exp(-np.arange(256) / 24)))
    table[list(_ONE_MORE)] += 1
    step = np.minimum(size >> bits, 255)
    inner = (table[step] << bits) + (size & ((1 << bits) - 1)) * (table[np.minimum(step + 1, 255)] - table[step])
    if hyperbolic:
        value = np.where(step >= 255, 0xFFFF << 8, inner)
        signed = np.where(scaled >= 0, value - (1 << 23) + (1 << 7), -value + (1 << 23) + (1 << 7) - 1)
        return signed >> 8
    value = np.where(step >= 255, 0x7FFF << 10, inner)
    signed = np.where(scaled >= 0, value + (1 << 9), (1 << 25) - value + (1 << 9) - 1)
    return signed >> 10


def _sigmoid_16_multiplier(scale: float, *, hyperbolic: bool) -> tuple[int, int]:
    """Multiplier and shift that bring a 16-bit code to steps of ``1 / (3 * 4096)``."""
    exact = float(np.float32(scale))
    fraction, exponent = math.frexp(exact)
    power = exponent - 1 + 12
    if fraction == 0.5 and power in ((0, 1) if hyperbolic else (0,)):
        return 3 << power, 0
    multiplier, shift = exact * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return int(multiplier), shift


def softmax_16_codes(x: Int64Array, /, *, source: Affine, beta: float, rounding: Rounding, in_float32: bool) -> Int64Array:
    """SOFTMAX of 16-bit codes over the last axis, by two interpolated tables of 513 entries.

    Differences to the largest code of a row are brought to steps of ``10 / 65535``; ``exp`` of them in 15 bits is looked up,
    the sum is shifted to 17 bits, ``1 / (1 + s)`` of what it has above 1 is looked up, and the product is shifted back half
    up. The result has scale 1/32768. TFLM makes the tables in float32 (`in_float32`), LiteRT in double precision.

    Examples
    --------
    >>> source = Affine(1 / 4096, 0, -32768, 32767)
    >>> softmax_16_codes(
    ...     np.array([[0, 0]]), source=source, beta=1.0, rounding=Rounding.DOUBLE, in_float32=True
    ... ).tolist()
    [[16384, 16384]]
    """
    precision = np.float32 if in_float32 else np.float64
    step = float(np.float32(source.scale)) * float(np.float32(beta)) / (10.0 / 65535.0)
    scaled = _scaled(x - x.max(axis=-1, keepdims=True), *quantize_multiplier(step), rounding)
    powers = _interpolated(_int16(scaled + 32767), _table_16(np.exp, -10.0, 0.0, precision))
    total = powers.sum(axis=-1, keepdims=True)
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    shifted = ((total << (headroom - 1)) + (1 << 13)) >> 14
    inverse = _interpolated(
        _int16(shifted - (1 << 15) - (1 << 16)), _table_16(lambda value: 1 / (1 + value), 0.0, 1.0, precision)
    )
    right = 31 - headroom
    return _saturated((powers * inverse + ((np.int64(1) << right) >> 1)) >> right, 0, 32767)


def _table_16(
    function: Callable[[FloatArray], FloatArray], low: float, high: float, precision: type[np.float32] | type[np.float64]
) -> Int64Array:
    """513 samples of a function in 15 bits, each less half of what a line to the next one would err in the middle."""
    start, full = precision(low), precision(32768)
    index: npt.NDArray[Any] = np.arange(512).astype(precision)
    step: Any = (precision(high) - start) / precision(512)
    at = start + index * step
    here, middle, after = (
        function(item) * full for item in (at, at + step / precision(2), start + (index + precision(1)) * step)
    )
    sample = round_half_away(here)
    error = round_half_away((after + sample.astype(precision)) / precision(2)) - round_half_away(middle)
    inner = np.clip(sample - round_half_away(error / 2), -32768, 32767)
    last = np.clip(round_half_away(function(np.array([high], precision)) * full), -32768, 32767)
    return np.asarray(np.concatenate([inner, last]), np.int64)


def _interpolated(value: Int64Array, table: Int64Array) -> Int64Array:
    """A table of 513 entries at a 16-bit value: 9 bits choose the entry, 7 interpolate, rounded half up."""
    index = 256 + (value >> 7)
    slope = table[index + 1] - table[index]
    return np.asarray(table[index] + ((slope * (value & 0x7F) + 64) >> 7), np.int64)


def litert_mean_codes(total: Int64Array, /, *, count: int, source: Affine, result: Affine) -> Int64Array:
    """MEAN over rows and columns that keeps its axes, in LiteRT's kernel for x86, from sums of codes ``[..., channels]``.

    Sums hold the zero points. With ``M`` of ``f32(scale_x / f32(count * scale_y))`` it is ``sum * M + b``, where `b` is ``zy``
    less ``zx * scale_x / scale_y`` rounded in float32. Channels in whole vectors of 16 round half up twice, the rest once half
    up and once half away from zero.

    Notes
    -----
    TensorFlow, lite/kernels/internal/optimized/integer_ops/mean.h.

    Examples
    --------
    >>> half, whole = Affine(0.5, 1, -128, 127), Affine(1.0, 0, -128, 127)
    >>> litert_mean_codes(np.array([[4], [14]]), count=2, source=half, result=whole).tolist()
    [[0], [3]]
    """
    scale, step = np.float32(source.scale), np.float32(result.scale)
    moved = np.float32(source.zero_point) * scale / step
    moved = moved + np.float32(0.5) if moved > 0 else moved - np.float32(0.5)
    multiplier, exponent = quantize_multiplier(float(scale / (np.float32(count) * step)))
    whole = np.arange(total.shape[-1]) < total.shape[-1] // MEAN_VECTOR * MEAN_VECTOR
    scaled = np.where(
        whole,
        _scaled(total, multiplier, exponent, Rounding.UPUP),
        _scaled(total, multiplier, exponent, Rounding.DOUBLE),
    )
    return _saturated(scaled + (result.zero_point - int(moved)), result.lower, result.upper)


def xnnpack_mean_codes(total: Int64Array, /, *, count: int, source: Affine, result: Affine) -> Int64Array:
    """XNNPACK's MEAN from the sums of codes, zero points included: rounded after the zero point of the result was added.

    With ``m = f32(f32(scale_x / scale_y) * f32(1 / count))``: ``rint(f32(f32(sum * m) + f32(zy - f32(count * zx) * m)))``.

    Examples
    --------
    >>> half, whole = Affine(0.5, 1, -128, 127), Affine(1.0, 0, -128, 127)
    >>> xnnpack_mean_codes(np.array([4, 14]), count=2, source=half, result=whole).tolist()
    [0, 3]
    """
    factor = np.float32(source.scale) / np.float32(result.scale) * (np.float32(1) / np.float32(count))
    offset = np.float32(result.zero_point) - np.float32(count * source.zero_point) * factor
    real = total.astype(np.float32) * factor + offset
    return _saturated(np.rint(real), result.lower, result.upper)


def _signed_multiplier(real: float) -> tuple[int, int]:
    multiplier, exponent = quantize_multiplier(abs(real))
    return -multiplier if real < 0 else multiplier, exponent


def _scaled(a: Int64Array, multiplier: int, exponent: int, rounding: Rounding) -> Int64Array:
    return multiply_fixed_point(a, np.array(multiplier, np.int64), np.array(exponent, np.int64), rounding)


def _saturated(values: npt.NDArray[Any], lower: int, upper: int) -> Int64Array:
    """Whole numbers, clipped, as int64."""
    return np.asarray(np.clip(values, lower, upper).astype(np.int64))


def _int16(a: Int64Array) -> Int64Array:
    return _saturated(a, -(2**15), 2**15 - 1)
