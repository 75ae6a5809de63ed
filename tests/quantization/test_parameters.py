"""Real multipliers and biases to the NPU's integers: nearest, within their widths, for every number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npusim.quantization.parameters import (
    INPUT_MULTIPLIER,
    codes_clip,
    fit_bias,
    fit_input_multiplier,
    fit_multiplier,
    fit_weight_scale,
    half_step,
    width_rules,
)

BITS = st.sampled_from([8, 4, 2])
REACHABLE = st.floats(2.0**-23, 0.9)
"""Multipliers for which a shift of at most 31 leaves all eight bits of the scale."""


@given(REACHABLE, st.sampled_from([4, 2]))
@example(167.4993 * 2.0**-13, 4)  # 84 * 2**-12 is nearer in ratio than 167 * 2**-13
def test_multiplier_of_few_weight_bits_is_off_by_half_a_step(wanted: float, bits: int) -> None:
    scale, shift = fit_multiplier(wanted, bits)
    assert 64 <= scale[0] <= 255
    assert scale[0] >= 128 or np.rint(wanted * 2.0 ** (shift[0] + 1)) == 2 * scale[0] - 1
    assert 0 <= shift[0] <= 31
    assert abs(scale[0] * 2.0 ** -shift[0] / wanted - 1) <= 0.5 / 127.5


@given(st.floats(2.0**-31, 1.0))
def test_multiplier_with_8_bit_weights_is_the_nearest_power_of_two(wanted: float) -> None:
    scale, shift = fit_multiplier(wanted, 8)
    assert scale[0] == 1
    assert 2**-0.5 - 1e-9 <= 2.0 ** -shift[0] / wanted <= 2**0.5 + 1e-9


@given(st.floats(1e-30, 1e30), BITS, st.integers(1, 255))
def test_multiplier_keeps_every_width(wanted: float, bits: int, largest: int) -> None:
    scale, shift = fit_multiplier([wanted, 1.0], bits, largest_scale=largest)
    assert scale.min() >= 1
    assert scale.max() <= min(largest, width_rules(bits).largest_scale)
    assert shift.min() >= 0
    assert shift.max() <= 31


@given(REACHABLE, st.floats(1e-6, 1e3), st.floats(1e-4, 10.0))
def test_weight_scale_of_8_bits_is_exact_and_never_smaller(ratio: float, output_scale: float, input_scale: float) -> None:
    wanted = ratio * output_scale / input_scale
    weight_scale, scale, shift = fit_weight_scale(wanted, output_scale, 8, input_scale=input_scale)
    assert scale[0] == 1
    assert weight_scale[0] * input_scale / output_scale == pytest.approx(2.0 ** -shift[0], rel=1e-12)
    assert 1 - 1e-8 <= weight_scale[0] / wanted < 2


@given(REACHABLE, st.floats(1e-6, 1e3), st.sampled_from([4, 2]))
def test_weight_scale_of_few_bits_is_exact_and_near(ratio: float, output_scale: float, bits: int) -> None:
    weight_scale, scale, shift = fit_weight_scale(ratio * output_scale, output_scale, bits)
    assert weight_scale[0] / output_scale == pytest.approx(scale[0] * 2.0 ** -shift[0], rel=1e-12)
    assert abs(weight_scale[0] / (ratio * output_scale) - 1) <= 0.5 / 127.5


@given(st.floats(-1e9, 1e9), st.integers(1, 255), st.integers(0, 31), BITS)
def test_bias_is_rounded_and_saturated(real: float, scale: int, shift: int, bits: int) -> None:
    one, power = np.array([scale]), np.array([shift])
    bias, fits = fit_bias([real], one, power, bits)
    wanted = real + half_step(one, power)[0]
    limit = width_rules(bits).largest_bias
    assert abs(bias[0]) <= limit
    assert abs(bias[0] - np.clip(wanted, -limit, limit)) <= 0.5 + 1e-6
    assert fits[0] == (abs(np.rint(wanted)) <= limit)


@given(st.integers(-(2**20), 2**20), st.integers(1, 255), st.integers(0, 16))
def test_half_a_step_makes_the_shift_round(accumulator: int, scale: int, shift: int) -> None:
    bias, _ = fit_bias([0.0], np.array([scale]), np.array([shift]), 8)
    code = ((accumulator + int(bias[0])) * scale) >> shift
    # the bias is a whole number, so rounding is off by at most half a step of the accumulator
    assert abs(code - accumulator * scale / 2**shift) <= 0.5 + 0.5 * scale / 2**shift


@given(st.floats(1e-6, 4095).flatmap(lambda size: st.sampled_from([size, -size])))
def test_input_multiplier(gain: float) -> None:
    multiplier, shift = fit_input_multiplier(gain)
    assert 1 <= abs(multiplier[0]) <= INPUT_MULTIPLIER
    assert 0 <= shift[0] <= 31
    assert abs(multiplier[0] * 2.0 ** -shift[0] / gain - 1) <= 0.5 / 2047.5


def test_clips_are_the_documented_ones() -> None:
    found = [codes_clip(bits, signed=signed) for bits in (8, 4, 2) for signed in (False, True)]
    assert [(clip.lower, clip.upper) for clip in found] == [(0, 255), (-128, 127), (0, 15), (-8, 7), (0, 3), (-2, 1)]


@pytest.mark.parametrize("bits", [0, 1, 3, 16])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="wanted 2, 4 or 8"):
        width_rules(bits)


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("nan"), float("inf")])
def test_multipliers_that_are_none_are_refused(multiplier: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        fit_multiplier([0.5, multiplier], 8)
