"""The staircases of TensorFlow Lite's and ONNX Runtime's kernels against exact fractions: codes, first, text, float forms."""

from __future__ import annotations

import doctest
import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npusim.kernels.fixed_point import Rounding
from npusim.program import divide, fixed_point, float_multiplier
from npusim.program.carriers import Carrier
from npusim.program.dequantized_sum import DequantizedSum
from npusim.program.divide import Divide
from npusim.program.fixed_point import FixedPoint
from npusim.program.float_multiplier import FloatMultiplier
from npusim.program.requantization import Alternative, Clip, Requantization
from npusim.program.shift_floor import ShiftFloor
from support.float32_oracle import rounded_to_float32

CLIPS = st.sampled_from([Clip(-128, 127), Clip(0, 255), Clip(-100, 155), Clip(-32768, 32767)])


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def half_even(value: Fraction) -> int:
    return round(value)


def expected(part: Requantization, channel: int, accumulator: int) -> int:
    """The code before the saturation, in exact fractions."""
    if isinstance(part, Divide):
        count = int(part.count[channel])
        return half_away(Fraction(accumulator + count * part.zero_point, count)) - part.zero_point
    if isinstance(part, FloatMultiplier):
        total = rounded_to_float32(Fraction(accumulator + int(part.bias[channel])))
        return half_even(rounded_to_float32(total * Fraction(float(part.multiplier[channel]))))
    total = accumulator + int(part.bias[channel])
    multiplier, exponent = int(part.multiplier[channel]), int(part.exponent[channel])
    if part.rounding is Rounding.Q15:
        narrow = min(half_up(Fraction(multiplier, 2**16)), 0x7FFF)
        return half_up(Fraction(total * narrow) * Fraction(2) ** (exponent - 15))
    if part.rounding is Rounding.SINGLE:
        return half_up(Fraction(total * multiplier) * Fraction(2) ** (exponent - 31))
    high = half_up(Fraction(total * multiplier) * Fraction(2) ** (max(exponent, 0) - 31))
    rest = Fraction(high, 2 ** max(-exponent, 0))
    return half_away(rest) if part.rounding is Rounding.DOUBLE or part.away[channel] else half_up(rest)


@st.composite
def staircases(draw: Any) -> Requantization:
    channels = draw(st.integers(1, 3))

    def column(values: st.SearchStrategy[int]) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=channels, max_size=channels)), np.int64)

    bias, clip = column(st.integers(-(2**18), 2**18) | st.integers(-5, 5)), draw(CLIPS)
    which = draw(st.integers(0, 2))
    if which == 0:
        return Divide(column(st.integers(1, 70)), draw(st.integers(-128, 127)), clip=clip)
    if which == 1:
        powers = column(st.integers(-20, 0)).astype(np.int32)
        return FloatMultiplier(bias, np.ldexp(column(st.integers(1, 2**24)) / 2**24, powers).astype(np.float32), clip=clip)
    # multipliers with few bits make ties
    multiplier = column(st.integers(2**30, 2**31 - 1) | st.integers(2**6, 2**7 - 1).map(lambda high: high << 24))
    rounding = draw(st.sampled_from(Rounding))
    away = column(st.integers(0, 1)).astype(np.bool_) if rounding is Rounding.UPUP else np.zeros(0, np.bool_)
    return FixedPoint(bias, multiplier, column(st.integers(-14, 1)), rounding, away, clip=clip)


accumulators = st.lists(st.integers(-600, 600) | st.integers(-(2**28), 2**28), min_size=1, max_size=12)


@given(staircases(), accumulators)
def test_codes_and_text_are_those_of_fractions(part: Requantization, values: list[int]) -> None:
    array = np.broadcast_to(np.array(values), (part.channels, len(values)))
    wanted = [[expected(part, channel, value) for value in values] for channel in range(part.channels)]
    assert part.unclipped(array).tolist() == wanted
    clipped = [[min(max(code, part.clip.lower), part.clip.upper) for code in row] for row in wanted]
    assert part.codes(array).tolist() == clipped
    assert part.codes(array.T[None], axis=2)[0].T.tolist() == clipped
    for channel, row in enumerate(wanted):
        for value, code in zip(values, row, strict=True):
            assert part.text(value, channel)[-1].value == code


@given(staircases(), st.lists(st.integers(-300, 300), min_size=1, max_size=5))
def test_first_stands_at_the_step(part: Requantization, goals: list[int]) -> None:
    found, domain = part.first(np.broadcast_to(np.array(goals), (part.channels, len(goals)))), part.domain
    for channel in range(part.channels):
        for column, goal in enumerate(goals):
            place = int(found[channel, column])
            if domain.lower < place <= domain.upper:
                assert expected(part, channel, place - 1) < goal <= expected(part, channel, place)


@given(staircases(), st.lists(st.integers(-(2**23), 2**23) | st.integers(-600, 600), min_size=1, max_size=12))
def test_float_forms_are_exact_where_their_obligation_is_met(part: Requantization, values: list[int]) -> None:
    array = np.broadcast_to(np.array(values), (part.channels, len(values)))
    sums = np.full(part.channels, max(abs(value) for value in values))
    largest = max(abs(part.clip.lower), abs(part.clip.upper))
    for choice in part.carriers(sums, largest):
        if choice.carrier is Carrier.INTEGER or not choice.is_exact:
            continue
        dtype = np.dtype(np.float64 if choice.carrier is Carrier.FLOAT64 else np.float32)
        form = part.form(choice.carrier)
        result = array.astype(dtype) + form.bias.astype(dtype)[:, None]
        for operation in form.operations:
            result = operation.apply(result, dtype)
        assert np.array_equal(np.clip(result, part.clip.lower, dtype.type(part.clip.upper)), part.codes(array))


def test_the_fast_form_is_to_be_had_for_ordinary_layers() -> None:
    """8-bit codes, 3x3x64 weights at their largest, a multiplier of 2**-12."""
    sums = np.array([3 * 3 * 64 * 127 * 255])
    part = FixedPoint(np.array([100]), np.array([2**30 + 12345]), np.array([-11]), Rounding.DOUBLE, clip=Clip(-128, 127))
    assert part.carriers(sums, 255)[0].is_exact


@given(staircases(), st.integers(-500, 500), st.integers(0, 200))
def test_the_steps_of_an_interval_are_all_places_where_the_code_changes(part: Requantization, start: int, width: int) -> None:
    lower = np.full(part.channels, start)
    steps = part.run_steps(lower, lower + width)
    for channel in range(part.channels):
        walk = part.for_channels([channel]).codes(np.arange(start, start + width + 1)[None])[0]
        changes = set((np.flatnonzero(np.diff(walk)) + start + 1).tolist())
        assert changes <= set(steps[channel].tolist())


def test_examples() -> None:
    for module in (divide, fixed_point, float_multiplier):
        assert doctest.testmod(module).failed == 0


def test_products_beyond_float32_saturate() -> None:
    """A product that becomes infinite in float32 is far beyond the codes on its own side, and 0 stays 0."""
    steep = FloatMultiplier(np.zeros(1, np.int64), np.float32([3e38]), clip=Clip(-128, 127))
    assert steep.codes(np.array([[-(2**31), -2, 0, 2, 2**31 - 1]])).tolist() == [[-128, -128, 0, 127, 127]]
    (_, row) = steep.text(2, 0)
    assert row.value > 127


@given(staircases())
def test_whole_gains_are_the_gains_in_a_common_unit(part: Requantization) -> None:
    """The largest is 2**20, the others are in proportion to half a unit."""
    gains = [Fraction(gain) for gain in part.gain.tolist()]
    largest = max(map(abs, gains))
    wanted = [gain * 2**20 / largest if largest else Fraction(0) for gain in gains]
    found = part.whole_gain.tolist()
    assert all(value == int(value) for value in found)
    assert all(
        abs(Fraction(value) - exact) <= Fraction(1, 2) + Fraction(1, 2**20) for value, exact in zip(found, wanted, strict=True)
    )


@given(st.lists(st.integers(-4096, 4096), min_size=1, max_size=9), st.integers(0, 8))
def test_shifts_round_down_or_toward_zero(numerators: list[int], shift: int) -> None:
    real = np.ldexp(np.array(numerators, np.float64), -shift)
    one = np.ones(1, np.int64)
    for toward_zero, rounding in ((False, math.floor), (True, math.trunc)):
        part = ShiftFloor(0 * one, one, shift * one, toward_zero=toward_zero, clip=Clip(-128, 127))
        assert part.rounded(real).tolist() == [rounding(Fraction(value, 2**shift)) for value in numerators]


@given(st.data())
def test_codes_of_float_sums_in_any_order_lie_within_the_limit(data: st.DataObject) -> None:
    """Products and sums rounded one by one, in a drawn order, as float32 runtimes compute a dequantized layer."""
    count = data.draw(st.integers(1, 12))
    codes = data.draw(st.lists(st.integers(-(2**16), 2**16), min_size=count, max_size=count))
    weights = data.draw(st.lists(st.integers(-128, 127), min_size=count, max_size=count))
    scales = [np.float32(data.draw(st.floats(2.0**-12, 1.0, width=32))) for _ in range(3)]
    addend = np.float32(data.draw(st.floats(-100, 100, width=32)))
    part = DequantizedSum(
        np.array([np.float64(scales[0]) * np.float64(scales[1])]),
        np.array([addend]),
        np.array([scales[2] * np.float32(data.draw(st.sampled_from([1.0, 2.0**-10])))]),
        clip=Clip(-32768, 32767),
    )
    total = np.float32(0)
    for place in data.draw(st.permutations(range(count))):
        total += (np.float32(codes[place]) * scales[0]) * (np.float32(weights[place]) * scales[1])
    quotient = (total + addend) / part.scale[0]
    found = int(np.clip(np.rint(quotient), -32768, 32767))
    products = [code * weight for code, weight in zip(codes, weights, strict=True)]
    sums = np.array([[sum(products)]]), np.array([[sum(map(abs, products))]])
    (limit,) = part.rounding_limit(*sums, count, 0)[0]
    assert limit == int(limit)
    assert abs(int(part.codes(sums[0])[0, 0]) - found) <= limit


def test_the_limit_is_zero_where_no_step_is_near() -> None:
    part = DequantizedSum(np.array([0.25]), np.array([0], np.float32), np.array([0.5], np.float32), clip=Clip(-128, 127))
    sums = np.array([[4, 5, 6, 4000]])
    assert part.rounding_limit(sums, sums, 3).tolist() == [[0, 1, 0, 0]]  # 2, 2.5, 3, and saturated


@given(st.integers(-(2**23), 2**23), st.integers(-1000, 1000), st.sampled_from([2.0**-3, 0.3, 0.0017, 2.0**-12, 1.5]))
def test_other_roundings_of_a_product_are_those_of_the_same_float32(accumulator: int, bias: int, factor: float) -> None:
    part = FloatMultiplier(np.array([bias]), np.array([factor], np.float32), clip=Clip(-128, 127))
    product = rounded_to_float32(rounded_to_float32(Fraction(accumulator + bias)) * Fraction(float(np.float32(factor))))
    wanted = {
        Alternative.HALF_UP: half_up(product),
        Alternative.HALF_DOWN: -half_up(-product),
        Alternative.TOWARD_ZERO: math.trunc(product),
    }
    sums = np.array([[accumulator]])
    for name, value in wanted.items():
        other = part.alternatives[name]
        assert int(other.unclipped(sums)[0, 0]) == value
        assert other.text(accumulator, 0)[-1].value == value
        assert [choice.carrier for choice in other.carriers(np.array([1]), 1)] == [Carrier.INTEGER]
        assert other != part
    assert part.alternatives[Alternative.NO_BIAS] == FloatMultiplier(np.array([0]), part.multiplier, clip=part.clip)
