"""Pools: against loops over every window, against onnxruntime bit by bit, and against themselves."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from npusim.errors import OperatorError
from npusim.graph.operators.pooling import OPERATORS
from npusim.kernels.pooling import max_pool_indices
from support.single_operator import compute_by_onnxruntime, run_by_onnxruntime, same_bits
from support.window_cases import Window, call_operator, small_integers, window_cases

pytestmark = pytest.mark.filterwarnings("error")

INTEGER_DTYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
FLOAT_DTYPES = [np.float16, np.float32, np.float64]


def loop_max_pool(x: np.ndarray, window: Window, *, ceil_mode: bool, column_major: bool) -> tuple[np.ndarray, np.ndarray]:
    """Largest element of each window, the first of equals, and its index; elements are compared one by one."""
    shape = (*x.shape[:2], *window.output_sizes(ceil_mode=ceil_mode))
    values, indices = [], []
    axes = range(len(window.sizes))
    outermost_first = reversed(axes) if column_major else axes
    order = list(outermost_first)
    for n, c, start in product(range(x.shape[0]), range(x.shape[1]), window.windows(ceil_mode=ceil_mode)):
        best = None
        for _, position in window.taps(start):
            if window.holds(position) and (best is None or x[(n, c, *position)] > x[(n, c, *best)]):
                best = position
        assert best is not None
        index = n * x.shape[1] + c
        for axis in order:
            index = index * window.sizes[axis] + best[axis]
        values.append(x[(n, c, *best)])
        indices.append(index)
    return np.array(values).reshape(shape), np.array(indices, np.int64).reshape(shape)


@given(st.data(), window_cases(pads_below_kernel=True), st.booleans(), st.booleans())
def test_max_pool_finds_the_first_largest_element(data, window, ceil_mode, column_major):
    dtype = np.dtype(data.draw(st.sampled_from(INTEGER_DTYPES + FLOAT_DTYPES)))
    x = small_integers(data.draw, (2, 2, *window.sizes))
    x = (x if dtype.kind != "u" else x + 3).astype(dtype)
    if not all(
        any(window.holds(position) for _, position in window.taps(start)) for start in window.windows(ceil_mode=ceil_mode)
    ):
        with pytest.raises(ValueError, match="only padding"):
            max_pool_indices(
                x, kernel_shape=window.kernel_shape, strides=window.strides, dilations=window.dilations, pads=window.pads,
                ceil_mode=ceil_mode,
            )  # fmt: skip
        return
    attributes = {**window.attributes, "ceil_mode": int(ceil_mode), "storage_order": int(column_major)}
    largest, indices = call_operator(OPERATORS["MaxPool"], x, outputs=2, **attributes)
    expected, expected_indices = loop_max_pool(x, window, ceil_mode=ceil_mode, column_major=column_major)
    assert largest.dtype == dtype
    assert same_bits(largest, expected.astype(dtype))
    assert same_bits(indices, expected_indices)
    (alone,) = call_operator(OPERATORS["MaxPool"], x, **attributes)
    assert same_bits(alone, largest)


def test_max_pool_padding_never_wins():
    for dtype in (*INTEGER_DTYPES, *FLOAT_DTYPES):
        lowest = -np.inf if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min
        x = np.full((1, 1, 3), lowest, dtype)
        largest, indices = call_operator(OPERATORS["MaxPool"], x, outputs=2, kernel_shape=(2,), pads=(1, 1))
        assert largest.tolist() == [[[lowest] * 4]]
        assert indices.tolist() == [[[0, 0, 1, 2]]]


def test_max_pool_keeps_the_first_nan():
    x = np.array([[[1.0, np.nan, 3.0, np.nan, 2.0]]], np.float32)
    largest, indices = call_operator(OPERATORS["MaxPool"], x, outputs=2, kernel_shape=(3,))
    assert np.isnan(largest).all()
    assert indices.tolist() == [[[1, 1, 3]]]


@given(st.data(), window_cases(pads_below_kernel=True), st.booleans(), st.booleans(), st.sampled_from(FLOAT_DTYPES))
def test_average_pool_divides_the_sum_by_the_count(data, window, ceil_mode, count_include_pad, dtype):
    x = small_integers(data.draw, (2, 2, *window.sizes), largest=9)
    attributes = {**window.attributes, "ceil_mode": int(ceil_mode), "count_include_pad": int(count_include_pad)}
    (y,) = call_operator(OPERATORS["AveragePool"], x.astype(dtype), opset=19, **attributes)
    assert y.dtype == dtype
    assert y.shape == (2, 2, *window.output_sizes(ceil_mode=ceil_mode))
    expected = []
    for n, c, start in product(range(2), range(2), window.windows(ceil_mode=ceil_mode)):
        positions = [position for _, position in window.taps(start)]
        total = sum(int(x[(n, c, *position)]) for position in positions if window.holds(position))
        count = sum(window.holds_padded(position) if count_include_pad else window.holds(position) for position in positions)
        quotient = total / count if count else math.nan
        wide = np.float64(quotient) if dtype == np.float64 else np.float32(quotient)
        expected.append(wide.astype(dtype))
    assert same_bits(y, np.array(expected).reshape(y.shape) + dtype(0))


ONNXRUNTIME_CASES = [
    ((2, 3, 9, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((2, 3, 9, 11), {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 1, 2, 0], "ceil_mode": 1}),
    ((1, 5, 64), {"kernel_shape": [7], "strides": [3], "pads": [2, 3]}),
    ((1, 2, 6, 7, 5), {"kernel_shape": [3, 2, 2], "strides": [2, 1, 2], "pads": [1, 0, 1, 1, 1, 0]}),
    ((2, 3, 10, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((2, 3, 10, 10), {"kernel_shape": [4, 3], "strides": [3, 2], "auto_pad": "SAME_LOWER"}),
    ((2, 3, 10, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID", "ceil_mode": 1}),
    ((1, 8, 12, 1), {"kernel_shape": [12, 1]}),
]


def as_tuples(attributes: dict[str, object]) -> dict[str, object]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}


@pytest.mark.parametrize("opset", [11, 19])
@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize(("shape", "attributes"), ONNXRUNTIME_CASES)
def test_onnxruntime_averages_integers_to_the_same_bits(shape, attributes, count_include_pad, opset):
    random = np.random.default_rng(0)
    for largest in (7, 255, 60000):
        x = random.integers(-largest, largest, shape, endpoint=True).astype(np.float32) + np.float32(0)
        expected = compute_by_onnxruntime("AveragePool", x, opset=opset, count_include_pad=count_include_pad, **attributes)
        (y,) = call_operator(
            OPERATORS["AveragePool"], x, opset=opset, count_include_pad=count_include_pad, **as_tuples(attributes)
        )
        assert same_bits(y, expected)


@pytest.mark.parametrize("shape", [(2, 3, 7, 7), (1, 1, 3, 5), (2, 8, 11, 13), (3, 5, 49), (2, 3, 4, 5, 3), (1, 64, 48, 1)])
def test_onnxruntime_averages_whole_planes_of_integers_to_the_same_bits(shape):
    for seed in range(20):
        x = np.random.default_rng(seed).integers(-255, 256, shape).astype(np.float32) + np.float32(0)
        (y,) = call_operator(OPERATORS["GlobalAveragePool"], x)
        assert same_bits(y, compute_by_onnxruntime("GlobalAveragePool", x))
        total = x.astype(np.int64).sum(axis=tuple(range(2, x.ndim)), keepdims=True)
        assert same_bits(y, total.astype(np.float32) / np.float32(math.prod(shape[2:])))


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8])
@pytest.mark.parametrize(("shape", "attributes"), ONNXRUNTIME_CASES)
def test_onnxruntime_finds_the_same_maxima(shape, attributes, dtype):
    limits = np.iinfo(np.int8) if dtype == np.float32 else np.iinfo(dtype)
    x = np.random.default_rng(1).integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    (y,) = call_operator(OPERATORS["MaxPool"], x, **as_tuples(attributes))
    expected = compute_by_onnxruntime("MaxPool", x, **attributes)
    np.testing.assert_array_equal(y, expected)
    assert y.dtype == expected.dtype


@pytest.mark.parametrize("storage_order", [0, 1])
def test_onnxruntime_finds_the_same_indices(storage_order):
    x = np.random.default_rng(2).permutation(2 * 3 * 7 * 8).reshape(2, 3, 7, 8).astype(np.float32)
    attributes = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "storage_order": storage_order}
    node = helper.make_node("MaxPool", ["x"], ["values", "y"], **attributes)
    (expected,) = run_by_onnxruntime([node], [{"x": x}])
    _, indices = call_operator(OPERATORS["MaxPool"], x, outputs=2, **as_tuples(attributes))
    assert same_bits(indices, expected)


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(40, 30), (1, 2000), (3, 1)])
def test_a_sample_does_not_depend_on_the_batch(op_type, shape):
    attributes = {} if op_type.startswith("Global") else {"kernel_shape": (3, 1), "pads": (1, 0, 1, 0)}
    for channels, dtype in product((1, 5), FLOAT_DTYPES):
        x = np.random.default_rng(3).standard_normal((33, channels, *shape)).astype(dtype)
        alone = [call_operator(OPERATORS[op_type], x[n : n + 1], **attributes)[0] for n in range(33)]
        for count in (2, 7, 33):
            (y,) = call_operator(OPERATORS[op_type], x[:count], **attributes)
            assert same_bits(y, np.concatenate(alone[:count]))


def test_global_max_pool_takes_any_dtype():
    for dtype in (*INTEGER_DTYPES, *FLOAT_DTYPES):
        x = np.arange(24).reshape(2, 3, 2, 2).astype(dtype)
        (y,) = call_operator(OPERATORS["GlobalMaxPool"], x)
        assert same_bits(y, np.array([3, 7, 11, 15, 19, 23], dtype).reshape(2, 3, 1, 1))


def test_values_that_are_not_finite_stay_in_their_windows():
    x = np.array([[[1.0, np.inf, 2.0, -np.inf, 3.0, np.nan, 4.0, 6.0]]], np.float32)
    (y,) = call_operator(OPERATORS["AveragePool"], x, kernel_shape=(2,), strides=(2,))
    assert str(y.tolist()) == "[[[inf, -inf, nan, 5.0]]]"
    (y,) = call_operator(OPERATORS["GlobalAveragePool"], x)
    assert np.isnan(y).all()


def test_sums_past_float16_do_not_overflow_the_mean():
    x = np.full((1, 1, 4), 60000, np.float16)
    for op_type, attributes in (("AveragePool", {"kernel_shape": (4,)}), ("GlobalAveragePool", {})):
        (y,) = call_operator(OPERATORS[op_type], x, **attributes)
        assert same_bits(y, np.array([[[60000]]], np.float16))


def test_what_does_not_fit_is_refused():
    x = np.zeros((1, 1, 4), np.float32)
    for op_type in ("MaxPool", "AveragePool"):
        with pytest.raises(OperatorError, match="'kernel_shape' is missing"):
            call_operator(OPERATORS[op_type], x)
        with pytest.raises(OperatorError, match="kernel_shape is"):
            call_operator(OPERATORS[op_type], x, kernel_shape=(2, 2))
        with pytest.raises(OperatorError, match="does not fit"):
            call_operator(OPERATORS[op_type], x, kernel_shape=(5,))
    with pytest.raises(OperatorError, match="int8"):
        call_operator(OPERATORS["AveragePool"], x.astype(np.int8), kernel_shape=(2,))
    with pytest.raises(OperatorError, match="bool"):
        call_operator(OPERATORS["MaxPool"], x.astype(np.bool_), kernel_shape=(2,))
    for op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        with pytest.raises(OperatorError, match="spatial"):
            call_operator(OPERATORS[op_type], x[0])
