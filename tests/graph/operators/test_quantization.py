"""QuantizeLinear and DequantizeLinear: against exact fractions and against onnxruntime."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.errors import OperatorError
from npusim.graph.operators.quantization import OPERATORS
from support.single_operator import compute_by_onnxruntime, same_bits
from support.window_cases import call_operator

pytestmark = pytest.mark.filterwarnings("error")

QUANTIZE, DEQUANTIZE = OPERATORS["QuantizeLinear"], OPERATORS["DequantizeLinear"]

CODE_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1)}
NARROW_RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}
ONNX_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "float16": 10, "float64": 11}

dyadic_scales = st.integers(-8, 8).map(lambda exponent: 2.0**exponent)


@st.composite
def granularities(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], int, int, np.ndarray]:
    """Shape of data and scale, axis, block size, and for each element of the data where its scale lies."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    places = np.arange(math.prod(shape)).reshape(shape)
    kind = draw(st.sampled_from(["tensor", "one element", "axis", "block"]))
    if kind in ("tensor", "one element"):
        return shape, () if kind == "tensor" else (1,), 1, 0, np.zeros_like(places)
    axis = draw(st.integers(0, len(shape) - 1))
    given_axis = draw(st.sampled_from([axis, axis - len(shape)]))
    index = np.indices(shape)[axis]
    if kind == "axis":
        return shape, (shape[axis],), given_axis, 0, index
    block_size = draw(st.integers(1, shape[axis]))
    scale_shape = tuple(math.ceil(size / block_size) if place == axis else size for place, size in enumerate(shape))
    within = [number // block_size if place == axis else number for place, number in enumerate(np.indices(shape))]
    return shape, scale_shape, given_axis, block_size, np.ravel_multi_index(within, scale_shape)


@given(st.data(), granularities(), st.sampled_from(sorted(CODE_RANGES)), st.sampled_from([np.float16, np.float32, np.float64]))
def test_quantize_rounds_half_to_even_and_saturates(data, granularity, name, dtype):
    shape, scale_shape, axis, block_size, source = granularity
    lowest, highest = CODE_RANGES[name]
    count, scales = math.prod(shape), max(1, math.prod(scale_shape))
    x = np.array(data.draw(st.lists(st.integers(-600, 600), min_size=count, max_size=count)), dtype) / dtype(4)
    scale = np.array(data.draw(st.lists(dyadic_scales, min_size=scales, max_size=scales)), dtype)
    zero_point = np.array(data.draw(st.lists(st.integers(lowest, highest), min_size=scales, max_size=scales)), name)
    without = data.draw(st.booleans()) and name == "uint8"
    (codes,) = call_operator(
        QUANTIZE,
        x.reshape(shape),
        scale.reshape(scale_shape),
        None if without else zero_point.reshape(scale_shape),
        opset=21,
        axis=axis,
        block_size=block_size,
    )
    expected = []
    for value, place in zip(x, source.ravel(), strict=True):
        rounded = round(Fraction(float(value)) / Fraction(float(scale[place])))
        expected.append(min(max(rounded + (0 if without else int(zero_point[place])), lowest), highest))
    assert codes.dtype == name
    assert codes.shape == shape
    assert codes.ravel().tolist() == expected


@given(st.data(), granularities(), st.sampled_from([*sorted(CODE_RANGES), "int32"]), st.sampled_from([np.float32, np.float64]))
def test_dequantize_is_the_exact_difference_times_the_scale(data, granularity, name, dtype):
    shape, scale_shape, axis, block_size, source = granularity
    limits = np.iinfo(name)
    count, scales = math.prod(shape), max(1, math.prod(scale_shape))
    numbers = st.integers(int(limits.min), int(limits.max))
    x = np.array(data.draw(st.lists(numbers, min_size=count, max_size=count)), name)
    scale = np.array(data.draw(st.lists(dyadic_scales, min_size=scales, max_size=scales)), dtype)
    zero_point = np.array(data.draw(st.lists(numbers, min_size=scales, max_size=scales)), name)
    (y,) = call_operator(
        DEQUANTIZE,
        x.reshape(shape),
        scale.reshape(scale_shape),
        zero_point.reshape(scale_shape),
        opset=21,
        axis=axis,
        block_size=block_size,
    )
    expected = [dtype(int(code) - int(zero_point[place])) * scale[place] for code, place in zip(x, source.ravel(), strict=True)]
    assert y.dtype == dtype
    assert y.ravel().tolist() == [float(value) for value in expected]


SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 1e20, -1e20, 3e9, -3e9, 0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 128.5, -128.5, 32767.5, 65535.5, 1e-45],
    np.float32,
)


@pytest.mark.parametrize("name", sorted(CODE_RANGES))
def test_onnxruntime_quantizes_every_float_the_same_way(name):
    random = np.random.default_rng(0)
    everyday = (random.standard_normal(5000) * 300).astype(np.float32)
    x = np.concatenate([SPECIAL, everyday, np.arange(-300, 300, 0.25, dtype=np.float32)])
    for scale, zero_point in ((1.0, 0), (0.0371, 5), (1 / 3, CODE_RANGES[name][1]), (1e-3, CODE_RANGES[name][0])):
        operands = x, np.array(scale, np.float32), np.array(zero_point, name)
        (codes,) = call_operator(QUANTIZE, *operands, opset=21)
        assert same_bits(codes, compute_by_onnxruntime("QuantizeLinear", *operands, opset=21))


@pytest.mark.parametrize("name", [*sorted(CODE_RANGES), "int32"])
def test_onnxruntime_dequantizes_every_code_the_same_way(name):
    limits = np.iinfo(name)
    random = np.random.default_rng(1)
    codes = random.integers(limits.min, limits.max, 5000, endpoint=True).astype(name)
    for scale, zero_point in ((1.0, 0), (0.0371, 0 if name == "int32" else 5)):
        operands = codes, np.array(scale, np.float32), np.array(zero_point, name)
        (y,) = call_operator(DEQUANTIZE, *operands, opset=21)
        assert same_bits(y, compute_by_onnxruntime("DequantizeLinear", *operands, opset=21))


@pytest.mark.parametrize("opset", [13, 19, 21])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_onnxruntime_reads_the_axis_the_same_way(axis, opset):
    random = np.random.default_rng(2)
    x = (random.standard_normal((3, 4, 5)) * 40).astype(np.float32)
    scale = random.uniform(0.1, 2, x.shape[axis]).astype(np.float32)
    zero_point = random.integers(-20, 20, x.shape[axis]).astype(np.int8)
    (codes,) = call_operator(QUANTIZE, x, scale, zero_point, opset=opset, axis=axis)
    assert same_bits(codes, compute_by_onnxruntime("QuantizeLinear", x, scale, zero_point, opset=opset, axis=axis))
    (y,) = call_operator(DEQUANTIZE, codes, scale, zero_point, opset=opset, axis=axis)
    assert same_bits(y, compute_by_onnxruntime("DequantizeLinear", codes, scale, zero_point, opset=opset, axis=axis))


@pytest.mark.parametrize("name", sorted(NARROW_RANGES))
def test_codes_of_few_bits(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    lowest, highest = NARROW_RANGES[name]
    x = np.array([-100, -1.5, -0.5, 0, 0.5, 1.5, 100], np.float32)
    zero_point = np.array(1, dtype)
    (codes,) = call_operator(QUANTIZE, x, np.float32(1).reshape(()), zero_point, opset=21)
    assert codes.dtype == dtype
    assert codes.astype(int).tolist() == [min(max(round(float(value)) + 1, lowest), highest) for value in x]
    (y,) = call_operator(DEQUANTIZE, codes, np.float32(0.5).reshape(()), zero_point, opset=21)
    assert y.tolist() == [(int(code) - 1) / 2 for code in codes]


def test_output_dtype_decides_the_type():
    x, scale = np.array([1.0, 300.0], np.float32), np.array(2.0, np.float32)
    for name in CODE_RANGES:
        (codes,) = call_operator(QUANTIZE, x, scale, opset=21, output_dtype=ONNX_TYPES[name])
        assert same_bits(codes, np.array([0, min(150, CODE_RANGES[name][1])], name))
    for name in ("float16", "float32", "float64"):
        (y,) = call_operator(DEQUANTIZE, np.array([3], np.int8), scale, opset=23, output_dtype=ONNX_TYPES[name])
        assert same_bits(y, np.array([6], name))


def test_precision_decides_how_the_quotient_rounds():
    # 10.5 + 2^-10 rounds to 10.5 in float16, and then half to even; in float32 it lies above the half.
    x, scale = np.array([10.5009765625], np.float32), np.array(1.0, np.float32)
    assert call_operator(QUANTIZE, x, scale, opset=23)[0].tolist() == [11]
    assert call_operator(QUANTIZE, x, scale, opset=23, precision=ONNX_TYPES["float16"])[0].tolist() == [10]
    assert call_operator(QUANTIZE, x, scale.astype(np.float16), opset=23)[0].tolist() == [10]


def test_what_does_not_fit_is_refused():
    x, scale = np.zeros((2, 3), np.float32), np.array(1.0, np.float32)
    zero = np.array(0, np.int8)
    with pytest.raises(OperatorError, match="output_dtype"):
        call_operator(QUANTIZE, x, scale, zero, opset=21, output_dtype=ONNX_TYPES["uint8"])
    with pytest.raises(OperatorError, match="element type 17"):
        call_operator(QUANTIZE, x, scale, opset=21, output_dtype=17)
    with pytest.raises(OperatorError, match="float8_e4m3fn"):
        call_operator(QUANTIZE, x, scale, zero.astype(ml_dtypes.float8_e4m3fn), opset=19)
    with pytest.raises(OperatorError, match="float8_e4m3fn"):
        call_operator(DEQUANTIZE, x.astype(ml_dtypes.float8_e4m3fn), scale, opset=19)
    with pytest.raises(OperatorError, match="does not fit"):
        call_operator(QUANTIZE, x, np.ones(4, np.float32), np.zeros(4, np.int8))
    with pytest.raises(OperatorError, match="does not fit"):
        call_operator(QUANTIZE, x, np.ones((2, 1), np.float32), axis=1, block_size=2)
    with pytest.raises(OperatorError, match="axis 2"):
        call_operator(QUANTIZE, x, np.ones(3, np.float32), axis=2)
    with pytest.raises(OperatorError, match="zero point is uint8"):
        call_operator(DEQUANTIZE, x.astype(np.int8), scale, zero.astype(np.uint8))
