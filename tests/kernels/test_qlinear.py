"""ONNX Runtime's integer kernels: against exact fractions for every kind of tie, and against ONNX Runtime itself."""

from __future__ import annotations

import doctest
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from npusim.kernels import qlinear as module
from npusim.kernels.qlinear import (
    Affine,
    add_codes,
    add_dequantized,
    average_codes,
    fused_multiply_add,
    global_average_multiplier,
    lookup_table,
    multiply_and_round,
    multiply_codes,
    multiply_dequantized,
    requantization_multiplier,
    softmax_codes,
)
from npusim.kernels.quantization import dequantize, quantize
from support.float32_oracle import (
    oracle_add_codes,
    oracle_average_codes,
    oracle_multiply_and_round,
    oracle_multiply_codes,
    oracle_quantize,
    oracle_requantization_multiplier,
    rounded_to_float32,
)
from support.models import model_of, outputs_of_onnxruntime, type_of

RANGES = {"uint8": (0, 255), "int8": (-128, 127)}

ordinary = st.floats(2.0**-16, 16.0, width=32)
dyadic = st.integers(-12, 3).map(lambda exponent: 2.0**exponent)
beside_dyadic = st.tuples(dyadic, st.sampled_from([-1, 1])).map(
    lambda pair: float(np.nextafter(np.float32(pair[0]), np.float32(pair[0] * (2 if pair[1] > 0 else 0))))
)
quarters = st.tuples(st.integers(1, 15), dyadic).map(lambda pair: pair[0] * pair[1])
scales = st.one_of(ordinary, dyadic, beside_dyadic, quarters)
"""Among them scales whose ratios are dyadic, so that ties are common, and their neighbours, where a tie is just missed."""

all_floats = st.floats(-(2.0**60), 2.0**60, width=32)


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    lower, upper = RANGES[draw(st.sampled_from(sorted(RANGES)))]
    zero_point = draw(st.one_of(st.integers(lower, upper), st.sampled_from([lower, upper, 1, 7])))
    return Affine(draw(scales), zero_point, lower, upper)


@st.composite
def codes_of(draw: st.DrawFn, affine: Affine, count: int = 6) -> list[int]:
    return draw(st.lists(st.integers(affine.lower, affine.upper), min_size=count, max_size=count))


def plain(affine: Affine) -> tuple[Fraction, int, int, int]:
    return Fraction(affine.scale), affine.zero_point, affine.lower, affine.upper


def test_examples():
    assert doctest.testmod(module).failed == 0


@given(st.fractions(-(2**40), 2**40))
def test_the_oracle_rounds_to_float32_as_numpy_rounds_exact_float64(value):
    value = Fraction(float(value))
    assert float(rounded_to_float32(value)) == float(np.float32(float(value)))


@settings(max_examples=200)
@given(all_floats, all_floats, all_floats)
def test_fused_multiply_add_rounds_once(a, b, c):
    exact = rounded_to_float32(Fraction(a) * Fraction(b) + Fraction(c))
    assert float(fused_multiply_add(np.float32(a), np.float32(b), np.float32(c))) == float(exact)


@settings(max_examples=200)
@given(
    st.integers(2**23, 2**24 - 1),
    st.integers(2**23, 2**24 - 1),
    st.integers(-4, 4),
    st.integers(-30, 30),
    st.integers(1, 2**24),
)
def test_fused_multiply_add_beside_ties(a, b, near, exponent, tiny):
    """The sum lies on a tie of float32, or beside it by less than float64 tells."""
    exact = a * b
    half_unit = 2 ** max(0, exact.bit_length() - 25)
    c = (half_unit * (2 * (exact // (2 * half_unit)) + 1) - exact + near) or tiny
    if abs(c) >= 2**24:
        c = c >> (abs(c).bit_length() - 24) << (abs(c).bit_length() - 24)
    c = Fraction(c) * Fraction(2) ** min(0, exponent)
    result = fused_multiply_add(np.float32(a), np.float32(b), np.float32(float(c)))
    assert float(result) == float(rounded_to_float32(exact + Fraction(float(np.float32(float(c))))))


@pytest.mark.slow
@settings(max_examples=300)
@given(scales, scales, scales, st.data())
def test_requantization_equals_the_oracle(input_scale, weight_scale, output_scale, data):
    multiplier = requantization_multiplier(input_scale, np.array([weight_scale], np.float32), output_scale)
    exact = oracle_requantization_multiplier(Fraction(input_scale), Fraction(weight_scale), Fraction(output_scale))
    assert Fraction(float(multiplier[0])) == exact
    halves = data.draw(st.lists(st.integers(-300, 300), min_size=4, max_size=4))
    accumulators = [int(Fraction(2 * half + 1, 2) / exact) for half in halves if abs(Fraction(2 * half + 1, 2) / exact) < 2**31]
    accumulators += data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4))
    found = multiply_and_round(np.array(accumulators, np.int64), multiplier, lower=-131, upper=124)
    assert found.tolist() == [oracle_multiply_and_round(value, exact, -131, 124) for value in accumulators]


def test_requantization_factor_of_nothing_is_refused():
    for operands in ((1e-30, 1e-30, 1.0), (1e30, 1e30, 1.0), (1.0, 1.0, 0.0)):
        with pytest.raises(ValueError, match="0 or not finite"):
            requantization_multiplier(operands[0], np.array([operands[1]], np.float32), operands[2])


@pytest.mark.slow
@settings(max_examples=200)
@given(affines(), affines(), affines(), st.data())
def test_sums_equal_the_oracle(first, second, result, data):
    a, b = data.draw(codes_of(first)), data.draw(codes_of(second))
    found = add_codes(np.array(a), np.array(b), first=first, second=second, result=result)
    assert found.tolist() == [
        oracle_add_codes(*pair, plain(first), plain(second), plain(result)) for pair in zip(a, b, strict=True)
    ]


@pytest.mark.slow
@settings(max_examples=200)
@given(affines(), affines(), affines(), st.data())
def test_products_equal_the_oracle(first, second, result, data):
    a, b = data.draw(codes_of(first)), data.draw(codes_of(second))
    found = multiply_codes(np.array(a), np.array(b), first=first, second=second, result=result)
    assert found.tolist() == [
        oracle_multiply_codes(*pair, plain(first), plain(second), plain(result)) for pair in zip(a, b, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "combine"), [(add_dequantized, operator.add), (multiply_dequantized, operator.mul)])
@settings(max_examples=200)
@given(first=affines(), second=affines(), result=affines(), data=st.data())
def test_float_operations_between_codes_equal_the_oracle(kernel, combine, first, second, result, data):
    a, b = data.draw(codes_of(first)), data.draw(codes_of(second))
    found = kernel(np.array(a), np.array(b), first=first, second=second, result=result)
    expected = []
    for pair in zip(a, b, strict=True):
        reals = [
            rounded_to_float32((code - affine.zero_point) * Fraction(affine.scale))
            for code, affine in zip(pair, (first, second), strict=True)
        ]
        expected.append(oracle_quantize(rounded_to_float32(combine(*reals)), *plain(result)))
    assert found.tolist() == expected


@pytest.mark.slow
@settings(max_examples=100)
@given(affines(), affines(), st.booleans(), st.booleans(), st.data())
def test_averages_equal_the_oracle(source, result, include_pad, same_scale, data):
    result = Affine(source.scale if same_scale else result.scale, result.zero_point, result.lower, result.upper)
    rows, columns = data.draw(st.integers(2, 5)), data.draw(st.integers(2, 5))
    kernel_shape = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    strides = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    pads = tuple(data.draw(st.integers(0, kernel_shape[axis] - 1)) for axis in (0, 1, 0, 1))
    x = [data.draw(codes_of(source, columns)) for _ in range(rows)]
    found = average_codes(
        np.array([[x]]),
        source=source,
        result=result,
        kernel_shape=kernel_shape,
        strides=strides,
        pads=pads,
        count_include_pad=include_pad,
    )
    assert found[0, 0].tolist() == oracle_average_codes(
        x, plain(source), plain(result), kernel_shape, strides, pads, include_pad
    )


@given(scales, scales, st.integers(1, 4096))
def test_global_average_multiplier_equals_the_oracle(input_scale, output_scale, count):
    exact = rounded_to_float32(Fraction(input_scale) / rounded_to_float32(Fraction(output_scale) * count))
    assert Fraction(float(global_average_multiplier(input_scale, output_scale, count)[0])) == exact


@pytest.mark.slow
@settings(max_examples=25)
@given(affines(), affines())
def test_tables_equal_the_oracle(source, result):
    found = lookup_table(lambda real: np.where(real < 0, real * np.float32(0.1), real), source=source, result=result)
    slope = Fraction(float(np.float32(0.1)))
    expected = []
    for code in range(source.lower, source.upper + 1):
        real = rounded_to_float32(Fraction(source.scale) * (code - source.zero_point))
        expected.append(oracle_quantize(real if real >= 0 else rounded_to_float32(real * slope), *plain(result)))
    assert found.tolist() == expected


def compute(op_type: str, arrays: dict[str, np.ndarray], inputs: list[str], variable: list[str], **attributes) -> np.ndarray:
    """What ONNX Runtime's own kernel gives."""
    node = helper.make_node(op_type, inputs, ["y"], domain="com.microsoft", **attributes)
    feeds = {name: arrays[name] for name in variable}
    stored = {name: value for name, value in arrays.items() if name not in variable}
    ends = {name: type_of(value) for name, value in feeds.items()}
    model = model_of([node], ends, {"y": (arrays[variable[0]].dtype, None)}, stored, microsoft=True)
    return outputs_of_onnxruntime(model, feeds)[0][0]


def parameters(name: str, affine: Affine, dtype: str) -> dict[str, np.ndarray]:
    return {f"s{name}": np.array(affine.scale, np.float32), f"z{name}": np.array(affine.zero_point, dtype)}


def random_affine(random: np.random.Generator, dtype: str) -> Affine:
    lower, upper = RANGES[dtype]
    exponent = random.integers(-8, 0) if random.random() < 0.5 else random.uniform(-8, 0)
    return Affine(float(np.float32(2.0**exponent)), int(random.integers(lower, upper + 1)), lower, upper)


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize(("op_type", "kernel"), [("QLinearAdd", add_codes), ("QLinearMul", multiply_codes)])
def test_onnxruntime_combines_all_pairs_the_same_way(op_type, kernel, dtype):
    random = np.random.default_rng(3)
    a, b = (grid.ravel() for grid in np.meshgrid(*2 * (np.arange(RANGES[dtype][0], RANGES[dtype][1] + 1),)))
    for _ in range(8):
        first, second, result = (random_affine(random, dtype) for _ in range(3))
        arrays = {"a": a.astype(dtype), "b": b.astype(dtype)}
        for name, affine in (("a", first), ("b", second), ("y", result)):
            arrays.update(parameters(name, affine, dtype))
        wanted = compute(op_type, arrays, ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"], ["a", "b"])
        assert np.array_equal(kernel(a, b, first=first, second=second, result=result), wanted)


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize("same_scale", [True, False])
def test_onnxruntime_averages_the_same_way(dtype, same_scale):
    random = np.random.default_rng(4)
    for _ in range(10):
        source, result = random_affine(random, dtype), random_affine(random, dtype)
        result = Affine(source.scale, result.zero_point, result.lower, result.upper) if same_scale else result
        x = random.integers(source.lower, source.upper + 1, (2, 3, 9, 8))
        kernel_shape, strides = (
            [int(size) for size in random.integers(1, 5, 2)],
            [int(size) for size in random.integers(1, 4, 2)],
        )
        pads = [int(random.integers(0, kernel_shape[axis])) for axis in (0, 1, 0, 1)]
        for include_pad in (0, 1):
            arrays = {"x": x.astype(dtype), **parameters("x", source, dtype), **parameters("y", result, dtype)}
            options = {"kernel_shape": kernel_shape, "strides": strides, "pads": pads}
            wanted = compute(
                "QLinearAveragePool", arrays, ["x", "sx", "zx", "sy", "zy"], ["x"], count_include_pad=include_pad, **options
            )
            found = average_codes(x, source=source, result=result, count_include_pad=bool(include_pad), **options)
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize("dtype", sorted(RANGES))
def test_onnxruntime_averages_planes_the_same_way(dtype):
    random = np.random.default_rng(5)
    for _ in range(10):
        source, result = random_affine(random, dtype), random_affine(random, dtype)
        x = random.integers(source.lower, source.upper + 1, (40, 3, 7, int(random.integers(1, 9))))
        arrays = {"x": x.astype(dtype), **parameters("x", source, dtype), **parameters("y", result, dtype)}
        wanted = compute("QLinearGlobalAveragePool", arrays, ["x", "sx", "zx", "sy", "zy"], ["x"], channels_last=0)
        multiplier = global_average_multiplier(source.scale, result.scale, x.shape[2] * x.shape[3])
        total = (x - source.zero_point).sum(axis=(2, 3), keepdims=True)
        lower, upper = result.lower - result.zero_point, result.upper - result.zero_point
        assert np.array_equal(multiply_and_round(total, multiplier, lower=lower, upper=upper) + result.zero_point, wanted)


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize("count", [1, 2, 3, 10, 50])
@pytest.mark.parametrize("steps", [63, 127, 253, 255, 256, 300, 1000])
def test_onnxruntime_computes_softmax_the_same_way(dtype, count, steps):
    random = np.random.default_rng(6)
    lower, upper = RANGES[dtype]
    for scale in (0.01, 0.1, 0.5, 3.0):
        x = random.integers(lower, upper + 1, (200, count))
        # rows of equal codes, and rows with two largest codes, tie
        x[:30], x[30:90, -1] = x[:30, :1], x[30:90, 0]
        source, result = Affine(scale, 0, lower, upper), Affine(1 / steps, int(random.choice([lower, 3])), lower, upper)
        arrays = {"x": x.astype(dtype), **parameters("x", source, dtype), **parameters("y", result, dtype)}
        wanted = compute("QLinearSoftmax", arrays, ["x", "sx", "zx", "sy", "zy"], ["x"], axis=-1, opset=13)
        assert np.array_equal(softmax_codes(x, source=source, result=result), wanted)


def test_scales_lie_along_the_channels_where_no_axis_is_given() -> None:
    codes = np.array([[[1, 2], [3, 4], [5, 6]]], np.int8)
    real = dequantize(codes, np.float32([1, 10, 100]), dtype=np.dtype(np.float32))
    assert real.tolist() == [[[1, 2], [30, 40], [500, 600]]]
    assert quantize(real, np.float32([1, 10, 100]), np.zeros(3, np.int8), dtype=codes.dtype).tolist() == codes.tolist()
