"""Two multiplications of an input stage taken together: only where no code can change."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npusim.engine.fast import quantizing
from npusim.engine.fast.quantizing import Operation, merged

F = np.float32


def stage(offset: object, factor: object, power: object, first: np.ufunc = np.add) -> list[Operation]:
    constants = [np.asarray(constant, F) for constant in (offset, factor, power)]
    functions = (first, np.multiply, np.multiply)
    return [Operation(function, constant, False) for function, constant in zip(functions, constants, strict=True)]


def codes(operations: list[Operation], x: np.ndarray) -> np.ndarray:
    """What the operations, a floor and the widest clip make of values."""
    with np.errstate(all="ignore"):
        for operation in operations:
            operands = (operation.constant, x) if operation.constant_first else (x, operation.constant)
            x = operation.function(*operands)
        return np.clip(np.floor(x), -(2.0**24), 2.0**24) + F(0)


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
FACTORS = st.one_of(
    st.integers(-4095, 4095).map(F), FLOATS.filter(lambda v: v == 0 or 2.0**-30 <= abs(v) < 2.0**60), st.just(F(-(2.0**-9)))
)


@given(
    FLOATS,
    st.one_of(st.floats(-200, 200, width=32), FLOATS).filter(lambda v: abs(v) >= 2.0**-60),
    FACTORS,
    st.integers(0, 64),
    st.sampled_from([np.add, np.subtract]),
)
@example(0.7, 3.0, F(-5), 3, np.subtract)
@example(float(np.nextafter(F(3.0), F(4.0))), -3.0, F(2.0**-30), 10, np.add)
@example(float(F(3.4e38)), 3.4e38, F(4095), 64, np.add)
@example(-(2.0**-60), float(np.nextafter(F(2.0**-60), F(1))), F(2.0**-9), 31, np.add)
def test_codes_stay_the_same(x: float, offset: float, factor: np.float32, shift: int, first: np.ufunc) -> None:
    before = stage(offset, factor, 2.0**-shift, first)
    after = merged(before)
    near = np.array([x, np.nextafter(F(x), F(np.inf)), -offset, np.nextafter(F(-offset), F(np.inf)), 0.0, 1e-45], F)
    near = near[np.isfinite(near)]
    np.testing.assert_array_equal(codes(after, near), codes(before, near))
    if abs(factor) * 2.0**-shift >= 2.0**-40:
        assert len(after) == 2


@pytest.mark.parametrize(
    ("offset", "factor", "power"),
    [
        (2.0**-61, 5, 0.25),  # a sum may be too small
        ([[1.0, 0.0]], 5, 0.25),
        (3, 2.0**-40, 0.5),  # a product may be too small
        (3, [1.0, 2.0**-39], 0.25),
        (3, 5, 0.3),  # not a power of two
        (3, 5, 2.0),  # grows: what overflows later would overflow before
        (3, 5, 2.0**-65),
        (3, np.inf, 0.5),
        (3, np.nan, 0.5),
        (np.nan, 5, 0.5),
    ],
)
def test_what_could_change_a_code_is_left_as_it_is(offset: object, factor: object, power: object) -> None:
    before = stage(offset, factor, power)
    after = merged(before)
    assert len(after) == 3
    assert all(found is given for found, given in zip(after, before, strict=True))


@pytest.mark.parametrize(("offset", "factor", "power"), [(2.0**-60, 5, 0.25), (3, 2.0**24, 2.0**-64), (3, 5, 1.0)])
def test_what_lies_on_a_limit_is_merged(offset: float, factor: float, power: float) -> None:
    assert len(merged(stage(offset, factor, power))) == 2


def test_merging_what_may_be_too_small_would_change_a_code() -> None:
    """Without an offset to speak of: -(2**30 + 56) units rounds to -2**30, half of which is zero; rounded once it is below."""
    x = np.array([-17895698 * 2.0**-149], F)
    before = stage(0, 60, 2.0**-31)
    together = [before[0], Operation(np.multiply, np.asarray(60 * 2.0**-31, F), False)]
    assert codes(before, x) == 0
    assert codes(together, x) == -1
    assert codes(merged(before), x) == 0


def test_other_stages_are_left_alone() -> None:
    three = stage(3, 5, 0.25)
    assert merged(three[:2]) == three[:2]
    assert merged([*three, three[2]]) == [*three, three[2]]
    assert merged([three[1], three[1], three[2]]) == [three[1], three[1], three[2]]
    assert merged([three[0], three[0], three[2]]) == [three[0], three[0], three[2]]


def test_examples() -> None:
    result = doctest.testmod(quantizing)
    assert result.attempted > 0
    assert result.failed == 0
