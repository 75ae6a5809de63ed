"""Requantization, residual, code formats and weight digits against the plain-Python oracle and ONNX Runtime, by equality."""

from __future__ import annotations

import doctest

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from npusim.kernels import requantize as module
from npusim.kernels.requantize import (
    codes_dtype,
    requantize,
    residual,
    scaled_value,
    shift_right_floor,
    weight_digits,
)
from support.kernel_cases import additions, requantizations, weight_arrays
from support.models import model_of, outputs_of_onnxruntime, type_of
from support.oracle import (
    oracle_requantize,
    oracle_residual,
    oracle_scaled_value,
    oracle_shift_right_floor,
    oracle_weight_digits,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.slow
@settings(max_examples=300)
@given(requantizations())
def test_requantize_equals_the_oracle(case):
    codes = requantize(*case.arrays, **case.arguments)
    assert codes.dtype == np.int64
    assert codes.tolist() == oracle_requantize(*case.lists, **case.list_arguments)


@pytest.mark.parametrize("shift", range(32))
@pytest.mark.parametrize("scale", [1, 3, 255, -1, -255])
def test_requantize_beside_every_step(scale, shift):
    """For 19 codes the largest accumulators that stay below them and the smallest that reach them."""
    steps = [-129, -128, -127, -3, -2, -1, 0, 1, 2, 3, 15, 16, 126, 127, 128, 254, 255, 256, 257]
    values = [step * 2**shift // scale + near for step in steps for near in (-2, -1, 0, 1, 2)]
    arguments = {"bias": -7, "scale": scale, "shift": shift}
    acc = [value + 7 for value in values]
    arrays = {name: np.array(value) for name, value in arguments.items()}
    for lower, upper in ((-128, 127), (0, 255), (-255, 255)):
        codes = requantize(np.array(acc), **arrays, lower=lower, upper=upper)
        assert codes.tolist() == oracle_requantize(acc, **arguments, lower=lower, upper=upper)


@settings(max_examples=300)
@given(st.lists(st.tuples(INT64, st.integers(0, 70)), max_size=8))
def test_shift_right_floor_equals_the_oracle(pairs):
    values, shifts = [value for value, _ in pairs], [shift for _, shift in pairs]
    shifted = shift_right_floor(np.array(values, np.int64), np.array(shifts, np.int64))
    assert shifted.dtype == np.int64
    assert shifted.tolist() == oracle_shift_right_floor(values, shifts)


def beside_float32_ties() -> st.SearchStrategy[int]:
    """Integers at, and one beside, the middle between two float32 numbers, and any others up to 2**53."""
    ties = st.builds(lambda odd, exponent: (2 * odd + 1) * 2**exponent, st.integers(2**23, 2**24 - 1), st.integers(0, 28))
    close = st.builds(lambda tie, near, sign: sign * (tie + near), ties, st.integers(-1, 1), st.sampled_from([-1, 1]))
    return st.one_of(close, st.integers(-(2**53), 2**53), st.integers(-(2**24), 2**24))


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(st.tuples(beside_float32_ties(), st.integers(0, 31)), max_size=8))
def test_scaled_value_equals_the_oracle(pairs):
    scaled, shifts = [value for value, _ in pairs], [shift for _, shift in pairs]
    values = scaled_value(np.array(scaled, np.int64), np.array(shifts, np.int64))
    assert values.dtype == np.float32
    assert values.tolist() == oracle_scaled_value(scaled, shifts)


def onnxruntime_outputs(acc: npt.NDArray[np.int64], arguments: dict) -> tuple[npt.NDArray[np.float32], ...]:
    """The value before the floor and the code, from the float32 nodes in which graphs are exported."""
    constants = {
        "bias": arguments["bias"],
        "scale": arguments["scale"],
        "step": np.ldexp(1.0, -arguments["shift"]),
        "lower": np.array(arguments["lower"]),
        "upper": np.array(arguments["upper"]),
    }
    calls = ["Add x bias biased", "Mul biased scale scaled", "Mul scaled step value", "Floor value floored"]
    nodes = [helper.make_node(op_type, inputs, [output]) for op_type, *inputs, output in map(str.split, calls)]
    nodes.append(helper.make_node("Clip", ["floored", "lower", "upper"], ["code"]))
    x = acc.astype(np.float32)
    outputs = {name: (np.float32, [None] * acc.ndim) for name in ("value", "code")}
    stored = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    return tuple(outputs_of_onnxruntime(model_of(nodes, {"x": type_of(x)}, outputs, stored), {"x": x})[0])


@pytest.mark.slow
@settings(max_examples=150)
@given(requantizations(float_exact=True))
def test_onnxruntime_confirms_requantize_and_scaled_value(case):
    """The value before the floor is ONNX Runtime's in every case, and so is the code where the product is exact in float32."""
    (acc,) = case.arrays
    scaled = (acc + case.arguments["bias"]) * case.arguments["scale"]
    value, code = onnxruntime_outputs(acc, case.arguments)
    assert value.tolist() == oracle_scaled_value(scaled.tolist(), case.list_arguments["shift"])
    assert value.tolist() == scaled_value(scaled, case.arguments["shift"]).tolist()
    exact = np.abs(scaled) <= 2**24
    expected = np.array(oracle_requantize(acc.tolist(), **case.list_arguments))
    assert code[exact].tolist() == expected[exact].tolist()
    assert requantize(acc, **case.arguments).tolist() == expected.tolist()


@pytest.mark.slow
@settings(max_examples=300)
@given(additions())
def test_residual_equals_the_oracle(case):
    codes = residual(*case.arrays, **case.arguments)
    assert codes.dtype == np.int64
    assert codes.tolist() == oracle_residual(*case.lists, **case.arguments)


@given(weight_arrays())
def test_weight_digits_equal_the_oracle(case):
    digits = weight_digits(*case.arrays, **case.arguments)
    assert digits.dtype == np.int64
    assert digits.shape == (case.arguments["bits"] // 2, *case.arrays[0].shape)
    assert digits.tolist() == oracle_weight_digits(*case.lists, **case.arguments)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_digits_of_every_weight(bits):
    """All weights of a width: the digits add up to the weight and keep to their ranges."""
    weights = list(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))
    digits = weight_digits(np.array(weights), bits=bits).tolist()
    assert digits == oracle_weight_digits(weights, bits=bits)
    assert [sum(digit * 4**k for k, digit in enumerate(column)) for column in zip(*digits, strict=True)] == weights
    assert {digit for row in digits[:-1] for digit in row} == (set(range(4)) if bits > 2 else set())
    assert set(digits[-1]) == {-2, -1, 0, 1}


@pytest.mark.parametrize(("bits", "weight"), [(2, -3), (2, 2), (4, -9), (4, 8), (8, -129), (8, 128)])
def test_weights_that_do_not_fit_are_refused(bits, weight):
    with pytest.raises(ValueError, match=f"{bits} bits hold"):
        weight_digits(np.array([0, weight]), bits=bits)


@pytest.mark.parametrize("bits", [0, 1, 3, 16])
def test_unknown_widths_are_refused(bits):
    with pytest.raises(ValueError, match="wanted 8, 4 or 2"):
        weight_digits(np.array([0]), bits=bits)


BESIDE_LIMITS = [sign * 2**power + near for power in (0, 7, 8, 31, 32, 63) for sign in (-1, 1) for near in (-1, 0, 1)]
HOLDS = {"uint8": (0, 255), "int8": (-128, 127), "int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def test_codes_dtype_is_the_first_that_holds_the_range():
    for lower in BESIDE_LIMITS:
        for upper in (limit for limit in BESIDE_LIMITS if limit >= lower):
            fitting = [name for name, (least, most) in HOLDS.items() if least <= lower and upper <= most]
            if fitting:
                assert codes_dtype(lower, upper) == np.dtype(fitting[0])
            else:
                with pytest.raises(ValueError, match="do not fit int64"):
                    codes_dtype(lower, upper)


ACC = np.zeros((2, 3), np.int64)
ZERO, ONE = np.array(0), np.array(1)
PARAMETERS = {"bias": ZERO, "scale": ONE, "shift": ZERO, "lower": 0, "upper": 255}
RANGES = {"inner_lower": -512, "inner_upper": 511, "lower": 0, "upper": 255}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: requantize(ACC, **{**PARAMETERS, "shift": np.array([0, 32, 0])}), "from 0 to 32"),
        (lambda: requantize(ACC, **{**PARAMETERS, "shift": np.array(-1)}), "from -1 to -1"),
        (lambda: requantize(ACC, **{**PARAMETERS, "lower": 256}), "256..255 is empty"),
        (lambda: requantize(ACC, **{**PARAMETERS, "bias": np.zeros((4, 1, 1), np.int64)}), "does not broadcast"),
        (lambda: requantize(ACC, **{**PARAMETERS, "scale": np.ones(2, np.int64)}), "broadcast"),
        (lambda: shift_right_floor(ACC, np.array(-1)), "is -1"),
        (lambda: shift_right_floor(ZERO, ACC), "does not broadcast"),
        (lambda: scaled_value(ZERO, ACC), "does not broadcast"),
        (lambda: residual(ACC[:1], ACC, **RANGES), "does not broadcast"),
        (lambda: residual(ACC, ACC, **{**RANGES, "inner_upper": -513}), "-512..-513 is empty"),
        (lambda: residual(ACC, ACC, **{**RANGES, "upper": -1}), "0..-1 is empty"),
        (lambda: codes_dtype(1, 0), "1..0 is empty"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint64, np.float32])
def test_dtypes_that_would_wrap_or_round_are_refused(dtype):
    other = ACC.astype(dtype)
    calls = [lambda name=name: requantize(ACC, **{**PARAMETERS, name: other}) for name in ("bias", "scale", "shift")]
    calls += [
        lambda: requantize(other, **PARAMETERS),
        lambda: residual(other, ACC, **RANGES),
        lambda: residual(ACC, other, **RANGES),
    ]
    calls += [lambda: shift_right_floor(other, ONE), lambda: shift_right_floor(ACC, other)]
    calls += [lambda: scaled_value(other, ONE), lambda: scaled_value(ACC, other), lambda: weight_digits(other, bits=8)]
    for call in calls:
        with pytest.raises(TypeError, match=f"{np.dtype(dtype)}, wanted int64"):
            call()


def test_examples_in_docstrings():
    """Each public function has an example, and each example holds."""
    with_examples = {test.name.rpartition(".")[2] for test in doctest.DocTestFinder().find(module) if test.examples}
    assert with_examples == set(module.__all__)
    assert doctest.testmod(module).failed == 0
