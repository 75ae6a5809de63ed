"""Float Conv and ConvTranspose: against loops over every product, against onnxruntime, and against themselves."""

from __future__ import annotations

import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from npusim.errors import OperatorError
from npusim.graph.operators.convolution import OPERATORS
from npusim.kernels.convolution import convolve, convolve_transpose
from npusim.kernels.geometry import output_sizes, pad_spatial, padded_sizes, resolve_pads, tap_slices, window_view
from npusim.kernels.transposed_geometry import resolve_transposed
from support.single_operator import compute_by_onnxruntime, same_bits
from support.window_cases import Window, call_operator, integer_arrays, small_integers, window_cases

pytestmark = pytest.mark.filterwarnings("error")

DTYPES = st.sampled_from([np.float16, np.float32, np.float64])


def loop_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, window: Window, group: int) -> np.ndarray:
    """One output after the other, one product after the other, in Python integers."""
    inputs, outputs = weight.shape[1], weight.shape[0] // group
    y = np.zeros((x.shape[0], weight.shape[0], len(window.windows())), np.int64)
    for n, o, (p, start) in product(range(x.shape[0]), range(weight.shape[0]), enumerate(window.windows())):
        total = int(bias[o])
        for c, (tap, position) in product(range(inputs), list(window.taps(start))):
            if window.holds(position):
                total += int(x[(n, o // outputs * inputs + c, *position)]) * int(weight[(o, c, *tap)])
        y[n, o, p] = total
    return y.reshape(*y.shape[:2], *window.output_sizes())


def loop_transposed(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, window: Window, group: int, output_shape: tuple[int, ...]
) -> np.ndarray:
    """Every input element adds its kernel to the output; `window.sizes` are the sizes of the input."""
    outputs, inputs = weight.shape[1], weight.shape[0] // group
    y = np.zeros((x.shape[0], outputs * group, *output_shape), np.int64) + bias.reshape(-1, *(1,) * len(output_shape))
    axes = len(output_shape)
    for n, c, o, place in product(range(x.shape[0]), range(x.shape[1]), range(outputs), np.ndindex(*window.sizes)):
        for tap in np.ndindex(*window.kernel_shape):
            target = tuple(
                place[axis] * window.strides[axis] + tap[axis] * window.dilations[axis] - window.pads[axis]
                for axis in range(axes)
            )
            if all(0 <= target[axis] < output_shape[axis] for axis in range(axes)):
                y[(n, c // inputs * outputs + o, *target)] += int(x[(n, c, *place)]) * int(weight[(c, o, *tap)])
    return y


@given(st.data(), window_cases(), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), DTYPES)
def test_convolution_is_the_sum_of_its_products(data, window, group, inputs, outputs, dtype):
    draw = data.draw
    x = small_integers(draw, (draw(st.integers(1, 2)), group * inputs, *window.sizes))
    weight = small_integers(draw, (group * outputs, inputs, *window.kernel_shape))
    bias = small_integers(draw, (group * outputs,))
    (y,) = call_operator(
        OPERATORS["Conv"],
        x.astype(dtype),
        weight.astype(dtype),
        bias.astype(dtype) if draw(st.booleans()) or bias.any() else None,
        group=group,
        **window.attributes,
    )
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, loop_convolution(x, weight, bias, window, group))
    assert y.shape[2:] == window.output_sizes()


@given(st.data(), window_cases(), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), DTYPES)
def test_transposed_convolution_adds_a_kernel_for_every_input(data, window, group, inputs, outputs, dtype):
    draw = data.draw
    x = small_integers(draw, (draw(st.integers(1, 2)), group * inputs, *window.sizes))
    weight = small_integers(draw, (group * inputs, outputs, *window.kernel_shape))
    bias = small_integers(draw, (group * outputs,))
    output_padding = tuple(draw(st.integers(0, stride - 1)) for stride in window.strides)
    axes = len(window.sizes)
    output_shape = tuple(
        (window.sizes[axis] - 1) * window.strides[axis]
        + output_padding[axis]
        + (window.kernel_shape[axis] - 1) * window.dilations[axis]
        + 1
        - window.pads[axis]
        - window.pads[axis + axes]
        for axis in range(axes)
    )
    operands = x.astype(dtype), weight.astype(dtype), bias.astype(dtype)
    attributes = {**window.attributes, "group": group, "output_padding": output_padding}
    if min(output_shape) < 1:
        with pytest.raises(OperatorError, match="leave nothing"):
            call_operator(OPERATORS["ConvTranspose"], *operands, **attributes)
        return
    (y,) = call_operator(OPERATORS["ConvTranspose"], *operands, **attributes)
    assert y.dtype == dtype
    assert y.shape[2:] == output_shape
    np.testing.assert_array_equal(y, loop_transposed(x, weight, bias, window, group, output_shape))


ONNXRUNTIME_CASES = [
    {"strides": [2, 1], "pads": [1, 2, 0, 1]},
    {"dilations": [2, 3], "pads": [2, 0, 2, 0]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "VALID", "strides": [1, 2]},
    {"group": 4},
    {"group": 2, "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("attributes", ONNXRUNTIME_CASES)
@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
def test_onnxruntime_computes_the_same_from_integers(op_type, attributes):
    group = attributes.get("group", 1)
    weight_shape = (8, 4 // group, 3, 4) if op_type == "Conv" else (4, 8 // group, 3, 4)
    x, weight, bias = integer_arrays(0, (2, 4, 11, 13), weight_shape, (8,))
    expected = compute_by_onnxruntime(op_type, x, weight, bias, **attributes)
    given_attributes = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    (y,) = call_operator(OPERATORS[op_type], x, weight, bias, **given_attributes)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "extra"), list(product((1, 4), (1, 3, 4), (1, 2, 3), (1, 2), (0, 1)))
)
def test_onnxruntime_places_a_given_output_shape_the_same_way(auto_pad, size, kernel, stride, dilation, extra):
    x, weight = integer_arrays(1, (1, 2, size), (2, 3, kernel))
    extra = min(extra, stride - 1)
    full = (size - 1) * stride + extra + (kernel - 1) * dilation + 1
    for wanted in range(max(1, full - 3), full + 1):
        attributes = {"strides": [stride], "dilations": [dilation], "output_padding": [extra], "output_shape": [wanted]}
        expected = compute_by_onnxruntime("ConvTranspose", x, weight, auto_pad=auto_pad, **attributes)
        pads, sizes = resolve_transposed((size,), kernel_shape=(kernel,), auto_pad=auto_pad, **attributes)
        assert sizes == (wanted,)
        y = convolve_transpose(x, weight, strides=[stride], dilations=[dilation], pads=pads, output_shape=sizes)
        np.testing.assert_array_equal(y, expected)


BATCHES = [
    ("Conv", (16, 70, 1), (24, 16, 40, 1), {}),
    ("Conv", (6, 20, 20), (8, 3, 3, 3), {"group": 2, "pads": (1, 1, 1, 1), "strides": (2, 1)}),
    ("Conv", (9, 33), (9, 1, 7), {"group": 9}),
    ("Conv", (5, 6, 6, 6), (7, 5, 3, 3, 3), {}),
    ("ConvTranspose", (32, 9, 10), (32, 6, 3, 3), {"strides": (2, 2)}),
    ("ConvTranspose", (8, 40), (8, 3, 5), {"group": 4}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op_type", "shape", "weight_shape", "attributes"), BATCHES)
def test_a_sample_does_not_depend_on_the_batch_or_on_threads(op_type, shape, weight_shape, attributes, dtype):
    random = np.random.default_rng(2)
    x = random.standard_normal((33, *shape)).astype(dtype)
    # One sample spans many binades, so that it needs more digits than the others.
    x[5] *= np.exp(random.uniform(-40, 40, shape)).astype(dtype)
    weight = random.standard_normal(weight_shape).astype(dtype)
    alone = [call_operator(OPERATORS[op_type], x[n : n + 1], weight, **attributes)[0].tobytes() for n in range(33)]
    for count in (2, 7, 33):
        (y,) = call_operator(OPERATORS[op_type], x[:count], weight, **attributes)
        assert [y[n].tobytes() for n in range(count)] == alone[:count]
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            (y,) = call_operator(OPERATORS[op_type], x, weight, **attributes)
        assert [y[n].tobytes() for n in range(33)] == alone


def test_a_sum_is_rounded_once():
    random = np.random.default_rng(3)
    x, weight = (random.standard_normal(shape).astype(np.float32) for shape in ((1, 50, 9), (20, 50, 9)))
    y = convolve(x, weight, strides=(1,), dilations=(1,), pads=(0, 0))
    products = x[0].astype(np.float64) * weight.astype(np.float64)
    assert y.ravel().tolist() == [float(np.float32(math.fsum(terms))) for terms in products.reshape(20, -1)]


def test_large_samples_are_worked_off_in_small_blocks():
    x, weight = integer_arrays(4, (2, 16, 150, 70), (8, 16, 3, 3))
    tracemalloc.start()
    y = convolve(x, weight, strides=(1, 1), dilations=(1, 1), pads=(1, 1, 1, 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.int64)
    expected = sum(
        np.einsum("nchw,oc->nohw", padded[:, :, i : i + 150, j : j + 70], weight[:, :, i, j].astype(np.int64))
        for i, j in np.ndindex(3, 3)
    )
    np.testing.assert_array_equal(y, expected)


def test_large_transposed_samples_are_worked_off_in_small_blocks():
    x, weight = integer_arrays(5, (2, 16, 60, 70), (16, 8, 5, 5))
    tracemalloc.start()
    y = convolve_transpose(x, weight, strides=(1, 1), dilations=(1, 1), pads=(2, 2, 2, 2), output_shape=(60, 70))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6
    turned = np.ascontiguousarray(weight.swapaxes(0, 1)[:, :, ::-1, ::-1])
    assert same_bits(y, convolve(x, turned, strides=(1, 1), dilations=(1, 1), pads=(2, 2, 2, 2)))


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
def test_values_that_are_not_finite_reach_what_they_touch(op_type, group):
    weight = np.array([[[1.0, 0.0, -2.0]], [[3.0, 1e-30, 1.0]]] if group == 2 else [[[1.0, 0.0, -2.0], [3.0, 1e-30, 1.0]]])
    weight = weight.astype(np.float32) if op_type == "Conv" or group == 2 else weight.swapaxes(0, 1).astype(np.float32)
    for special in (np.inf, -np.inf, np.nan):
        x = np.ones((2, 2, 6), np.float32)
        x[1, 1, 2] = special
        (y,) = call_operator(OPERATORS[op_type], x, weight, group=group)
        padded = weight[:, :, ::-1] if op_type == "ConvTranspose" else weight
        source = np.pad(x, ((0, 0), (0, 0), (2, 2))) if op_type == "ConvTranspose" else x
        with np.errstate(invalid="ignore"):
            terms = np.stack([source[:, :, i : i + y.shape[2]] * padded.reshape(2, 3)[:, i, np.newaxis] for i in range(3)])
            if op_type == "ConvTranspose":
                # Positions that no tap reaches add nothing, whatever the kernel holds.
                terms[:, :, :, :] = np.where(terms == 0, 0, terms)
            expected = terms.sum(0) if group == 2 else terms.sum((0, 2))[:, np.newaxis]
        assert np.isnan(y).tolist() == np.isnan(expected).tolist()
        assert y[np.isfinite(expected)].tolist() == expected[np.isfinite(expected)].tolist()
        assert y[np.isinf(expected)].tolist() == expected[np.isinf(expected)].tolist()


REFUSED = [
    ((1, 3, 5), (2, 2, 3), {}, "do not fit with group 1"),
    ((1, 4, 5), (3, 2, 3), {"group": 2}, "do not fit with group 2"),
    ((1, 2, 5), (2, 2, 3), {"kernel_shape": (2,)}, "kernel_shape"),
    ((1, 2, 5), (2, 2, 6), {}, "does not fit"),
    ((1, 2, 5), (2, 2, 3), {"strides": (0,)}, "strides"),
    ((1, 2, 5), (2, 2, 3), {"pads": (0, -1)}, "pads"),
    ((1, 2, 5), (2, 2, 3), {"pads": (0,)}, "pads"),
    ((1, 2, 5), (2, 2, 3), {"auto_pad": "SAME"}, "auto_pad"),
    ((1, 2), (2, 2), {}, "spatial"),
]


@pytest.mark.parametrize(("shape", "weight_shape", "attributes", "message"), REFUSED)
def test_what_does_not_fit_is_refused(shape, weight_shape, attributes, message):
    with pytest.raises(OperatorError, match=message):
        call_operator(OPERATORS["Conv"], np.zeros(shape, np.float32), np.zeros(weight_shape, np.float32), **attributes)


def test_integer_convolution_and_wrong_bias_are_refused():
    with pytest.raises(OperatorError, match="int8"):
        call_operator(OPERATORS["Conv"], np.zeros((1, 1, 4), np.int8), np.zeros((1, 1, 2), np.int8))
    zeros = np.zeros((1, 1, 4), np.float32)
    with pytest.raises(OperatorError, match="bias"):
        call_operator(OPERATORS["Conv"], zeros, zeros, np.zeros(2, np.float32))
    with pytest.raises(OperatorError, match="output_shape"):
        call_operator(OPERATORS["ConvTranspose"], zeros, zeros, output_shape=(8,))


@given(window_cases(pads_below_kernel=True), st.booleans())
def test_geometry_finds_every_window(window, ceil_mode):
    geometry = {"kernel_shape": window.kernel_shape, "strides": window.strides, "dilations": window.dilations}
    counts = output_sizes(window.sizes, **geometry, pads=window.pads, ceil_mode=ceil_mode)
    assert counts == window.output_sizes(ceil_mode=ceil_mode)
    axes = len(window.sizes)
    sizes = padded_sizes(window.sizes, counts, **geometry, pads=window.pads)
    x = np.arange(1, math.prod(window.sizes) + 1).reshape(1, 1, *window.sizes)
    padded = pad_spatial(x, begins=window.pads[:axes], sizes=sizes, value=0)
    view = window_view(padded, counts, **geometry)[0, 0]
    for place, start in zip(np.ndindex(*counts), window.windows(ceil_mode=ceil_mode), strict=True):
        for tap, position in window.taps(start):
            assert view[tap + place] == (x[(0, 0, *position)] if window.holds(position) else 0)
    for tap, region in zip(np.ndindex(*window.kernel_shape), tap_slices(counts, **geometry), strict=True):
        np.testing.assert_array_equal(padded[0, 0][region], view[tap])


@given(window_cases(), st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
def test_same_padding_gives_one_output_for_each_stride(window, auto_pad):
    geometry = {"kernel_shape": window.kernel_shape, "strides": window.strides, "dilations": window.dilations}
    pads = resolve_pads(window.sizes, **geometry, auto_pad=auto_pad)
    counts = output_sizes(window.sizes, **geometry, pads=pads)
    assert counts == tuple(math.ceil(size / stride) for size, stride in zip(window.sizes, window.strides, strict=True))
    axes = len(window.sizes)
    larger, smaller = (pads[axes:], pads[:axes]) if auto_pad == "SAME_UPPER" else (pads[:axes], pads[axes:])
    assert all(0 <= more - less <= 1 for more, less in zip(larger, smaller, strict=True))


def test_a_view_past_the_end_is_refused():
    with pytest.raises(ValueError, match="windows need"):
        window_view(np.zeros((1, 1, 4)), (3,), kernel_shape=(3,), strides=(1,), dilations=(1,))
