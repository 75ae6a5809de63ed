"""Staircases against plain Python integers: codes, first, steps, text, differences, float forms."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npusim.program import Alternative, Clip, Requantization, ShiftFloor
from npusim.program.carriers import Carrier


def _floor(values: tuple[int, int, int, int], accumulator: int, toward_zero: bool) -> int:
    bias, scale, shift, addend = values
    exact = Fraction((accumulator + bias) * scale + addend, 2**shift)
    return math.trunc(exact) if toward_zero else math.floor(exact)


@st.composite
def shift_floors(draw: Any, *, addends: bool = True) -> ShiftFloor:
    channels = draw(st.integers(1, 3))

    def column(low: int, high: int) -> np.ndarray:
        return np.array(draw(st.lists(st.integers(low, high), min_size=channels, max_size=channels)), np.int64)

    lower = draw(st.sampled_from([0, -128, -8, -(2**31)]))
    upper = draw(st.sampled_from([127, 255, 15, 2**31 - 1]))
    scale = draw(st.sampled_from([(1, 1), (-3, 3), (1, 255), (0, 4095), (1, 2**24)]))
    with_addend = addends and draw(st.booleans())
    return ShiftFloor(
        column(-(2**23), 2**23) if draw(st.booleans()) else column(-9, 9),
        column(*scale),
        column(0, 31) if draw(st.booleans()) else column(0, 6),
        column(-(2**33), 2**33) if with_addend else np.zeros(channels, np.int64),
        bool(with_addend and draw(st.booleans())),
        clip=Clip(lower, upper),
    )


def _values(part: ShiftFloor, channel: int) -> tuple[int, int, int, int]:
    return tuple(int(column[channel]) for column in (part.bias, part.scale, part.shift, part.addend))  # type: ignore[return-value]


accumulators = st.lists(st.one_of(st.integers(-40, 40), st.integers(-(2**31), 2**31 - 1)), min_size=1, max_size=8)


@given(shift_floors(), accumulators)
def test_codes_and_text_are_those_of_python_integers(part: ShiftFloor, values: list[int]) -> None:
    array = np.broadcast_to(np.array(values), (part.channels, len(values)))
    expected = [
        [_floor(_values(part, channel), value, part.toward_zero) for value in values] for channel in range(part.channels)
    ]
    assert part.unclipped(array).tolist() == expected
    clipped = [[min(max(code, part.clip.lower), part.clip.upper) for code in row] for row in expected]
    assert part.codes(array).tolist() == clipped
    assert part.codes(array.T[None], axis=2)[0].T.tolist() == clipped
    for channel, row in enumerate(expected):
        for value, code in zip(values, row, strict=True):
            assert part.text(value, channel)[-1].value == code


@given(shift_floors(), st.lists(st.integers(-300, 300), min_size=1, max_size=6))
def test_first_stands_at_the_step_and_equals_bisection(part: ShiftFloor, goals: list[int]) -> None:
    codes = np.broadcast_to(np.array(goals), (part.channels, len(goals)))
    found, bisected = part.first(codes), Requantization.first(part, codes)
    domain = part.domain
    for channel in range(part.channels):
        direction = int(part.direction[channel])
        for column, goal in enumerate(goals):
            place = int(found[channel, column])
            if not domain.lower < place <= domain.upper:
                assert not domain.lower < int(bisected[channel, column]) <= domain.upper
                continue
            assert place == int(bisected[channel, column])
            below, here = (_floor(_values(part, channel), value, part.toward_zero) for value in (place - 1, place))
            assert (below < goal <= here) if direction > 0 else (here < goal <= below)


@given(shift_floors(), st.integers(-500, 500), st.integers(0, 200))
def test_the_steps_of_an_interval_are_all_places_where_the_code_changes(part: ShiftFloor, start: int, width: int) -> None:
    lower = np.full(part.channels, start)
    upper = lower + width
    if int(np.ptp(part.codes(np.stack([lower, upper], axis=1)))) > 10_000:
        return
    steps = part.run_steps(lower, upper)
    for channel in range(part.channels):
        walk = part.for_channels([channel]).codes(np.arange(start, start + width + 1)[None])[0]
        changes = set((np.flatnonzero(np.diff(walk)) + start + 1).tolist())
        assert changes <= set(steps[channel].tolist())
        inside = {int(step) for step in steps[channel] if start < step <= start + width}
        assert inside <= changes


@given(shift_floors(), st.integers(-200, 200), st.integers(0, 60), st.integers(-20, 20), st.integers(0, 30))
def test_nothing_that_differs_is_called_equal(part: ShiftFloor, start: int, width: int, low: int, more: int) -> None:
    lower, codes = np.full(part.channels, start), (np.full(part.channels, low), np.full(part.channels, low + more))
    walk = np.broadcast_to(np.arange(start, start + width + 1), (part.channels, width + 1))
    own, counts = part.unclipped(walk), None
    counts = (own >= low) & (own <= low + more)
    pairs = [(None, Alternative.HALF_UP), (None, Alternative.TOWARD_ZERO), (Alternative.HALF_UP, Alternative.HALF_DOWN)]
    for one, other in pairs:
        mine = own if one is None else part.alternatives[one].unclipped(walk)
        differs = ((mine != part.alternatives[other].unclipped(walk)) & counts).any(axis=1)
        told = part.may_differ(one, other, lower, lower + width, codes)
        assert not (differs & ~told).any()
        if one is not None:  # ties have a closed form
            exact = Requantization.may_differ(part, one, other, lower, lower + width, codes)
            assert np.array_equal(exact, differs)


@given(shift_floors(), accumulators)
def test_alternatives_are_what_they_are_called(part: ShiftFloor, values: list[int]) -> None:
    array = np.broadcast_to(np.array(values), (part.channels, len(values)))
    found = {name: one.unclipped(array) for name, one in part.alternatives.items()}
    for channel in range(part.channels):
        bias, scale, shift, addend = _values(part, channel)
        for column, value in enumerate(values):
            exact = Fraction((value + bias) * scale + addend, 2**shift)
            assert found[Alternative.HALF_UP][channel, column] == math.floor(exact + Fraction(1, 2))
            assert found[Alternative.HALF_DOWN][channel, column] == math.ceil(exact - Fraction(1, 2))
            assert found[Alternative.TOWARD_ZERO][channel, column] == math.trunc(exact)
            assert found[Alternative.NO_BIAS][channel, column] == _floor((0, scale, shift, 0), value, part.toward_zero)


@given(shift_floors(), st.lists(st.integers(-(2**16), 2**16), min_size=1, max_size=8))
def test_float_forms_are_exact_where_their_obligation_is_met(part: ShiftFloor, values: list[int]) -> None:
    array = np.broadcast_to(np.array(values), (part.channels, len(values)))
    sums = np.full(part.channels, max(abs(value) for value in values))
    largest = max(abs(part.clip.lower), abs(part.clip.upper))
    for choice in part.carriers(sums, largest):
        if choice.carrier is Carrier.INTEGER or not choice.is_exact:
            continue
        dtype = np.dtype(np.float64 if choice.carrier is Carrier.FLOAT64 else np.float32)
        form = part.form(choice.carrier)
        made = array if form.factor is None else array * form.factor[:, None]
        result = made.astype(dtype) + form.bias.astype(dtype)[:, None]
        for operation in form.operations:
            result = operation.apply(result, dtype)
        assert result.dtype == dtype
        assert np.array_equal(np.clip(result, part.clip.lower, dtype.type(part.clip.upper)), part.codes(array))


@given(shift_floors(), accumulators)
def test_operations_in_wide_floats_are_the_arithmetic(part: ShiftFloor, values: list[int]) -> None:
    array = np.broadcast_to(np.array([value % 2**16 for value in values]), (part.channels, len(values)))
    result = array.astype(np.float64)
    for operation in part.operations:
        result = operation.apply(result, np.dtype(np.float64))
    if np.abs(part.scaled(array)).max() < 2**53:
        assert np.array_equal(result, part.unclipped(array))


def test_parameters_channels_and_equality() -> None:
    part = ShiftFloor(np.array([1, 2]), np.array([3, 4]), np.array([5, 6]), clip=Clip(0, 255))
    assert list(part.parameters) == ["bias", "scale", "shift"]
    assert part.parameter_count == 6
    assert part == replace(part)
    assert hash(part) == hash(replace(part))
    assert part != replace(part, clip=Clip(0, 15))
    assert part.for_channels([1]).parameters["scale"].tolist() == [4]
    assert part != part.for_channels([0, 0])


def test_a_tie_of_halves_is_a_tie_and_nothing_else() -> None:
    part = ShiftFloor(np.array([0]), np.array([1]), np.array([2]), clip=Clip(0, 255))
    codes = (np.array([0]), np.array([9]))
    expected = {(2, 2): True, (0, 1): False, (3, 5): False, (3, 6): True}
    for (low, high), tie in expected.items():
        told = part.may_differ(Alternative.HALF_UP, Alternative.HALF_DOWN, np.array([low]), np.array([high]), codes)
        assert told.tolist() == [tie]


def test_shifts_round_down_or_toward_zero() -> None:
    """Of integers and of real numbers alike."""
    for toward_zero, wanted in ((False, [-2, -1, 0, 1]), (True, [-1, 0, 0, 1])):
        one = np.array([1])
        part = ShiftFloor(0 * one, one, one, toward_zero=toward_zero, clip=Clip(-128, 127))
        assert part.rounded(np.array([-1.5, -0.5, 0.5, 1.5])).tolist() == wanted
        assert part.codes_of_scaled(np.array([[-3, -1, 1, 3]])).reshape(-1).tolist() == wanted
