"""float32 in exact fractions: what an operation gives when it is rounded once, half to even, without any float."""

from __future__ import annotations

from fractions import Fraction
from itertools import product as combinations

__all__ = [
    "oracle_add_codes",
    "oracle_average_codes",
    "oracle_fixed_point",
    "oracle_multiply_and_round",
    "oracle_multiply_codes",
    "oracle_quantize",
    "oracle_requantization_multiplier",
    "rounded_to_float32",
    "saturated",
]


def rounded_to_float32(value: Fraction) -> Fraction:
    """The float32 number nearest to a fraction, ties to even; overflow is an error of the test."""
    if value == 0:
        return Fraction(0)
    magnitude, exponent = abs(value), -149
    # the unit in the last place: 24 significant bits, never below the smallest subnormal number
    while magnitude >= Fraction(2) ** (exponent + 24):
        exponent += 1
    unit = Fraction(2) ** exponent
    rounded = round(magnitude / unit) * unit
    assert rounded < Fraction(2) ** 128
    return rounded if value > 0 else -rounded


def saturated(value: int, lower: int, upper: int) -> int:
    return min(max(value, lower), upper)


def oracle_quantize(value: Fraction, scale: Fraction, zero_point: int, lower: int, upper: int) -> int:
    return saturated(round(rounded_to_float32(value / scale)) + zero_point, lower, upper)


def oracle_requantization_multiplier(input_scale: Fraction, weight_scale: Fraction, output_scale: Fraction) -> Fraction:
    return rounded_to_float32(rounded_to_float32(input_scale * weight_scale) / output_scale)


def oracle_multiply_and_round(accumulator: int, multiplier: Fraction, lower: int, upper: int) -> int:
    return saturated(round(rounded_to_float32(rounded_to_float32(Fraction(accumulator)) * multiplier)), lower, upper)


Parameters = tuple[Fraction, int, int, int]
"""Scale, zero point, smallest and largest code."""


def oracle_add_codes(a: int, b: int, first: Parameters, second: Parameters, result: Parameters) -> int:
    ratio_a, ratio_b = (rounded_to_float32(operand[0] / result[0]) for operand in (first, second))
    of_zero = rounded_to_float32(ratio_a * first[1] + rounded_to_float32(ratio_b * second[1]))
    constant = rounded_to_float32(result[1] - of_zero)
    total = rounded_to_float32(ratio_a * a + rounded_to_float32(ratio_b * b + constant))
    return saturated(round(total), *result[2:])


def oracle_multiply_codes(a: int, b: int, first: Parameters, second: Parameters, result: Parameters) -> int:
    factor = rounded_to_float32(rounded_to_float32(first[0] * second[0]) / result[0])
    real = rounded_to_float32(rounded_to_float32(Fraction((a - first[1]) * (b - second[1]))) * factor)
    return saturated(round(rounded_to_float32(real + result[1])), *result[2:])


def oracle_average_codes(
    x: list[list[int]],
    source: Parameters,
    result: Parameters,
    kernel_shape: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    include_pad: bool,
) -> list[list[int]]:
    """One plane."""
    sizes = len(x), len(x[0])
    windows = [
        (size + pads[axis] + pads[axis + 2] - kernel_shape[axis]) // strides[axis] + 1 for axis, size in enumerate(sizes)
    ]

    def code(row: int, column: int) -> int:
        total, count = Fraction(0), 0
        for i, j in combinations(range(kernel_shape[0]), range(kernel_shape[1])):
            place = row * strides[0] - pads[0] + i, column * strides[1] - pads[1] + j
            if all(0 <= at < size for at, size in zip(place, sizes, strict=True)):
                real = rounded_to_float32((x[place[0]][place[1]] - source[1]) * source[0])
                total, count = rounded_to_float32(total + real), count + 1
        mean = rounded_to_float32(total / (kernel_shape[0] * kernel_shape[1] if include_pad else count))
        return saturated(round(rounded_to_float32(rounded_to_float32(mean / result[0]) + result[1])), *result[2:])

    return [[code(row, column) for column in range(windows[1])] for row in range(windows[0])]


def oracle_fixed_point(accumulator: int, input_scale: Fraction, weight_scale: Fraction, output_scale: Fraction) -> int:
    """TVM's requantization: a multiplier of 31 bits from a float32 product of scales, one rounding half up."""
    real = rounded_to_float32(input_scale * weight_scale) / output_scale
    exponent = 0
    while real / Fraction(2) ** exponent >= 1:
        exponent += 1
    while real / Fraction(2) ** exponent < Fraction(1, 2):
        exponent -= 1
    # round half away from zero; a float64 quotient of two float32 numbers never lies on a tie that the exact one misses
    multiplier = (real / Fraction(2) ** exponent * 2**31 + Fraction(1, 2)).__floor__()
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    return (accumulator * multiplier * Fraction(2) ** (exponent - 31) + Fraction(1, 2)).__floor__()
