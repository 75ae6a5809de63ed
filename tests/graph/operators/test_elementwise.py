"""Element-wise operators against plain Python numbers, one element at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import OperatorError
from support.single_operator import (
    any_float,
    as_float32,
    check_float32,
    compute,
    f32,
    finite,
    integer_dtypes,
    same_bits,
    wrapped,
)

pytestmark = pytest.mark.filterwarnings("error")


@st.composite
def integer_pairs(draw: st.DrawFn, *, zero_divisor: bool = True) -> tuple[np.ndarray, np.ndarray]:
    dtype = draw(integer_dtypes)
    limits = np.iinfo(dtype)
    number = st.integers(int(limits.min), int(limits.max)) | st.integers(max(int(limits.min), -3), 3)
    pairs = draw(st.lists(st.tuples(number, number if zero_divisor else number.filter(bool)), min_size=1, max_size=5))
    return np.array([a for a, _ in pairs], dtype), np.array([b for _, b in pairs], dtype)


# Arithmetic on float32


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=8))
def test_float_arithmetic_is_the_correctly_rounded_one(pairs: list[tuple[float, float]]):
    a, b = f32(*(pair[0] for pair in pairs)), f32(*(pair[1] for pair in pairs))
    check_float32(compute("Add", a, b), [x + y for x, y in pairs])
    check_float32(compute("Sub", a, b), [x - y for x, y in pairs])
    check_float32(compute("Mul", a, b), [x * y for x, y in pairs])
    quotients = [x / y if y else math.nan if not x else math.copysign(math.inf, x) * math.copysign(1, y) for x, y in pairs]
    check_float32(compute("Div", a, b), quotients)
    check_float32(compute("Reciprocal", b), [1 / y if y else math.copysign(math.inf, y) for _, y in pairs])
    check_float32(compute("Sqrt", a), [math.sqrt(x) if x >= 0 else math.nan for x, _ in pairs])


@given(st.lists(finite, min_size=1, max_size=8))
def test_float_rounding_and_signs(values: list[float]):
    x = f32(*values)
    check_float32(compute("Floor", x), [math.copysign(math.floor(item), item) for item in values])
    check_float32(compute("Ceil", x), [math.copysign(math.ceil(item), item) for item in values])
    check_float32(compute("Round", x), [math.copysign(round(item), item) for item in values])
    check_float32(compute("Neg", x), [-item for item in values])
    check_float32(compute("Abs", x), [abs(item) for item in values])
    assert compute("Sign", x).tolist() == [(item > 0) - (item < 0) for item in values]


def test_round_goes_half_to_even():
    assert compute("Round", f32(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 8388607.5)).tolist() == [0, 2, 2, 0, -2, -2, 8388608]


@given(st.lists(st.tuples(any_float, any_float, any_float), min_size=1, max_size=6))
def test_minimum_maximum_and_sum_of_three(rows: list[tuple[float, float, float]]):
    inputs = [f32(*column) for column in zip(*rows, strict=True)]
    for op_type, better in (("Min", lambda a, b: a < b), ("Max", lambda a, b: a > b)):
        wanted = []
        for row in rows:
            best = row[0]
            for item in row[1:]:
                best = best if better(best, item) or math.isnan(best) else item
            wanted.append(best)
        check_float32(compute(op_type, *inputs), wanted)
    check_float32(compute("Sum", *inputs), [as_float32(a + b) + c for a, b, c in rows])
    check_float32(compute("Mean", *inputs), [as_float32(as_float32(a + b) + c) / 3 for a, b, c in rows])


@given(st.lists(any_float, min_size=1, max_size=8), any_float, any_float)
def test_clip_keeps_what_lies_between_the_bounds(values: list[float], low: float, high: float):
    wanted = []
    for value in values:
        raised = low if value < low else value
        wanted.append(high if raised > high else raised)
    check_float32(compute("Clip", f32(*values), np.float32(low).reshape(()), np.float32(high).reshape(())), wanted)


def test_clip_without_bounds_limits_to_finite_numbers():
    x, largest = f32(-np.inf, 3, np.inf), float(np.finfo(np.float32).max)
    for opset in (6, 10, 11, 13):
        assert compute("Clip", x, opset=opset).tolist() == [-largest, 3, largest]
    assert compute("Clip", x, None, np.float32(2).reshape(())).tolist() == [-largest, 2, 2]


def test_clip_takes_its_bounds_from_attributes_before_opset_11():
    for opset in (1, 6, 10):
        assert compute("Clip", f32(-3, 7, 300), opset=opset, min=0.0, max=255.0).tolist() == [0, 7, 255]


def test_clip_of_integers():
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        result = compute("Clip", np.array([0, 7, 100], dtype), np.array(3, dtype), np.array(50, dtype))
        assert (result.dtype, result.tolist()) == (np.dtype(dtype), [3, 7, 50])
        assert compute("Clip", np.array([0, 7, 100], dtype), None, np.array(50, dtype)).tolist() == [0, 7, 50]


def test_clip_refuses_bounds_that_are_not_scalars():
    with pytest.raises(OperatorError, match=r"bounds have shapes \[2\] and \[\]"):
        compute("Clip", f32(1, 2), f32(0, 0))


# Arithmetic on integers


@given(integer_pairs())
def test_integer_arithmetic_wraps_around(pair: tuple[np.ndarray, np.ndarray]):
    a, b = pair
    operations: dict[str, Callable[[int, int], int]] = {
        "Add": lambda x, y: x + y,
        "Sub": lambda x, y: x - y,
        "Mul": lambda x, y: x * y,
        "Sum": lambda x, y: x + y,
        "Min": min,
        "Max": max,
    }
    for op_type, operation in operations.items():
        wanted = [wrapped(operation(x, y), a.dtype) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        result = compute(op_type, a, b)
        assert (result.dtype, result.tolist()) == (a.dtype, wanted)


@given(integer_pairs(zero_divisor=False))
def test_integer_division_truncates_and_remainders_follow(pair: tuple[np.ndarray, np.ndarray]):
    a, b = pair
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    quotient = compute("Div", a, b)
    assert (quotient.dtype, quotient.tolist()) == (a.dtype, [wrapped(math.trunc(Fraction(x, y)), a.dtype) for x, y in pairs])
    assert compute("Mod", a, b).tolist() == [x % y for x, y in pairs]
    assert compute("Mod", a, b, fmod=1).tolist() == [x - y * math.trunc(Fraction(x, y)) for x, y in pairs]


def test_integer_division_of_scalars_is_quiet_too():
    lowest = np.array(-(2**31), np.int32)
    assert compute("Div", lowest, np.array(-1, np.int32)).tolist() == -(2**31)
    assert compute("Mod", lowest, np.array(-1, np.int32)).tolist() == 0


@pytest.mark.parametrize("op_type", ["Div", "Mod"])
def test_integer_division_by_zero_is_refused(op_type: str):
    with pytest.raises(OperatorError, match="an integer is divided by zero"):
        compute(op_type, np.array([1, 2]), np.array([1, 0]))


@given(st.lists(st.tuples(any_float, any_float), min_size=1, max_size=8))
def test_float_remainder_is_exact(pairs: list[tuple[float, float]]):
    a, b = f32(*(pair[0] for pair in pairs)), f32(*(pair[1] for pair in pairs))
    wanted = [math.fmod(x, y) if math.isfinite(x) and y and not math.isnan(y) else math.nan for x, y in pairs]
    result = compute("Mod", a, b, fmod=1)
    check_float32(result, wanted)


def test_float_remainder_with_the_sign_of_the_divisor_needs_opset_28():
    assert compute("Mod", f32(-5.5, 5.5), f32(3, -3), opset=28).tolist() == [0.5, -0.5]
    with pytest.raises(OperatorError, match="'fmod' = 1 before opset 28"):
        compute("Mod", f32(1), f32(1), opset=13)


# Powers


def test_powers_of_two_are_exact():
    exponents = np.arange(-149, 128)
    wanted = np.array([math.ldexp(1.0, int(n)) for n in exponents], np.float32)
    for kind in (np.float32, np.int32, np.int64, np.float64):
        assert same_bits(compute("Pow", f32(2), exponents.astype(kind)), wanted)
        each = [compute("Pow", np.float32(2).reshape(()), exponents[n].astype(kind).reshape(())) for n in range(len(exponents))]
        assert same_bits(np.array(each), wanted)
    doubles = compute("Pow", np.array([2.0]), np.arange(-1074, 1024, dtype=np.float64))
    assert doubles.tolist() == [math.ldexp(1.0, n) for n in range(-1074, 1024)]


@given(st.lists(finite, min_size=1, max_size=8))
def test_squares_are_products(values: list[float]):
    x = f32(*values)
    assert same_bits(compute("Pow", x, f32(2)), compute("Mul", x, x))
    assert same_bits(compute("Pow", x, np.array([2])), compute("Mul", x, x))


@given(integer_pairs())
def test_integer_powers_wrap_around(pair: tuple[np.ndarray, np.ndarray]):
    base, exponent = pair
    keep = (base != 0) | (exponent >= 0)
    base, exponent = base[keep], exponent[keep]
    wanted = []
    for x, n in zip(base.tolist(), exponent.tolist(), strict=True):
        wanted.append(wrapped(pow(x, n, 2**64), base.dtype) if n >= 0 else math.trunc(Fraction(x) ** (n % 2 - 2)))
    result = compute("Pow", base, exponent)
    assert (result.dtype, result.tolist()) == (base.dtype, wanted)


def test_powers_keep_the_dtype_of_the_base():
    assert compute("Pow", np.array([2, 3, 10], np.int32), f32(0.5, 2, -1)).tolist() == [1, 9, 0]
    assert compute("Pow", np.array([2], np.int32), f32(0.5)).dtype == np.int32
    assert compute("Pow", np.array([2], np.float16), np.array([3])).dtype == np.float16
    assert compute("Pow", np.array([2], np.int64), np.array([3.0])).dtype == np.int64


def test_zero_to_a_negative_power_has_no_integer_result():
    with pytest.raises(OperatorError, match="the integer 0 is raised to a negative power"):
        compute("Pow", np.array([0]), np.array([-1]))
    assert compute("Pow", f32(0), f32(-1)).tolist() == [math.inf]


# Activations made of comparisons, products and sums


@given(st.lists(any_float, min_size=1, max_size=8), st.floats(0.0078125, 2, width=32))
def test_piecewise_linear_activations(values: list[float], alpha: float):
    x = f32(*values)
    sloped = [as_float32(item * alpha) if item < 0 else item for item in values]
    check_float32(compute("Relu", x), [0.0 if item < 0 else item for item in values])
    check_float32(compute("LeakyRelu", x, alpha=alpha), sloped)
    check_float32(compute("PRelu", x, f32(alpha)), sloped)
    check_float32(compute("ThresholdedRelu", x, alpha=alpha), [item if item > alpha else 0.0 for item in values])


@given(st.lists(any_float, min_size=1, max_size=8), st.floats(0.125, 1, width=32), st.floats(-1, 1, width=32))
def test_hard_sigmoid_rounds_the_product_and_the_sum(values: list[float], alpha: float, beta: float):
    lines = [as_float32(as_float32(item * alpha) + beta) for item in values]
    wanted = [0.0 if item < 0 else 1.0 if item > 1 else item for item in lines]
    check_float32(compute("HardSigmoid", f32(*values), alpha=alpha, beta=beta), wanted)


@given(st.lists(finite, min_size=1, max_size=8))
def test_hard_swish_is_the_input_times_its_hard_sigmoid(values: list[float]):
    x = f32(*values)
    gate = compute("HardSigmoid", x, alpha=as_float32(1 / 6), beta=0.5)
    assert same_bits(compute("HardSwish", x), compute("Mul", x, gate))


def test_parametric_relu_takes_one_slope_a_channel_before_opset_7():
    x = -np.ones((1, 2, 3), np.float32)
    assert compute("PRelu", x, f32(2, 3), opset=6).tolist() == [[[-2] * 3, [-3] * 3]]


# Operands


@pytest.mark.parametrize("op_type", ["Add", "Div", "Mod", "Max", "Sum", "Mean", "Equal"])
def test_operands_of_different_types_are_refused(op_type: str):
    with pytest.raises(OperatorError, match="float32 and int64, wanted one element type"):
        compute(op_type, f32(1), np.array([1]))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Pow", "Equal", "Less", "Greater"])
def test_before_opset_7_the_second_operand_lies_at_an_axis_of_the_first(op_type: str):
    a = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
    b = f32(1, 2, 3)
    placed = compute(op_type, a, np.broadcast_to(b.reshape(3, 1), a.shape))
    assert same_bits(compute(op_type, a, b, opset=6, broadcast=1, axis=1), placed)
    assert same_bits(compute(op_type, a, b, opset=6, broadcast=1, axis=-2), placed)
    last = f32(1, 2, 3, 4)
    assert same_bits(compute(op_type, a, last, opset=6, broadcast=1), compute(op_type, a, last))
    assert same_bits(compute(op_type, a, a, opset=6), compute(op_type, a, a))
    with pytest.raises(OperatorError, match="'broadcast' is not set"):
        compute(op_type, a, last, opset=6)


def test_operands_that_do_not_broadcast_are_refused():
    for op_type in ("Add", "Pow", "Max", "Less", "Mean"):
        with pytest.raises(OperatorError, match="could not be broadcast"):
            compute(op_type, f32(1, 2), f32(1, 2, 3))


def test_scalars_stay_arrays_of_their_type():
    for op_type in ("Neg", "Exp", "Sigmoid", "Relu", "Floor", "Sign", "HardSigmoid", "Elu"):
        result = compute(op_type, np.asarray(-1, np.float32))
        assert (result.dtype, result.shape) == (np.dtype(np.float32), ())
    half = np.asarray(1.5, np.float16)
    assert all(compute(op_type, half, half).dtype == np.float16 for op_type in ("Add", "Mul", "Max", "Mean", "Pow"))
