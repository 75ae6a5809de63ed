"""The integer kernels against the plain-Python oracle, and the oracle against ONNX Runtime: equality, not closeness."""

from __future__ import annotations

import doctest
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from onnx import helper

from npusim.kernels import integer
from npusim.kernels.integer import (
    accumulate_convolution,
    accumulate_fully_connected,
    accumulate_transposed_convolution,
    window_maximum,
    window_sum,
)
from support.kernel_cases import (
    Case,
    convolutions,
    fully_connected_layers,
    maximum_pools,
    sum_pools,
    transposed_convolutions,
)
from support.models import model_of, outputs_of_onnxruntime, type_of
from support.oracle import (
    oracle_convolution,
    oracle_fully_connected,
    oracle_transposed_convolution,
    oracle_window_maximum,
    oracle_window_sum,
)

SUMS: dict[str, tuple[Callable[..., Any], Callable[..., Any], st.SearchStrategy[Case]]] = {
    "convolution": (accumulate_convolution, oracle_convolution, convolutions()),
    "transposed convolution": (accumulate_transposed_convolution, oracle_transposed_convolution, transposed_convolutions()),
    "fully connected": (accumulate_fully_connected, oracle_fully_connected, fully_connected_layers()),
    "sum": (window_sum, oracle_window_sum, sum_pools()),
}


@pytest.mark.slow
@pytest.mark.parametrize("layer", SUMS)
@settings(max_examples=200)
@given(data=st.data())
def test_sums_equal_the_oracle(layer, data):
    kernel, oracle, cases = SUMS[layer]
    case = data.draw(cases)
    acc = kernel(*case.arrays, **case.arguments)
    assert acc.dtype == np.int64
    assert acc.tolist() == oracle(*case.lists, **case.arguments)


@pytest.mark.slow
@settings(max_examples=300)
@given(maximum_pools())
def test_window_maximum_equals_the_oracle(case):
    try:
        expected = oracle_window_maximum(*case.lists, **case.arguments)
    except ValueError:
        with pytest.raises(ValueError, match="holds only padding"):
            window_maximum(*case.arrays, **case.arguments)
        return
    y = window_maximum(*case.arrays, **case.arguments)
    assert y.dtype == case.arrays[0].dtype
    assert y.tolist() == expected


def onnxruntime_output(op_type: str, inputs: list[npt.NDArray[Any]], attributes: dict[str, Any]) -> npt.NDArray[Any]:
    """Output of a model that holds one node."""
    names = [f"x{number}" for number in range(len(inputs))]
    feeds = dict(zip(names, inputs, strict=True))
    node = helper.make_node(op_type, names, ["y"], **attributes)
    ends = {name: type_of(x) for name, x in feeds.items()}
    model = model_of([node], ends, {"y": (inputs[0].dtype, [None] * inputs[0].ndim)})
    onnx.checker.check_model(model)
    ((y,),) = outputs_of_onnxruntime(model, feeds)
    return y


@pytest.mark.slow
@settings(max_examples=150)
@given(convolutions(wide=False))
def test_onnxruntime_confirms_convolution(case):
    y = onnxruntime_output("Conv", [x.astype(np.float32) for x in case.arrays], case.arguments)
    assert y.tolist() == oracle_convolution(*case.lists, **case.arguments)
    assert y.tolist() == accumulate_convolution(*case.arrays, **case.arguments).tolist()


@pytest.mark.slow
@settings(max_examples=150)
@given(transposed_convolutions(wide=False))
def test_onnxruntime_confirms_transposed_convolution(case):
    y = onnxruntime_output("ConvTranspose", [x.astype(np.float32) for x in case.arrays], case.arguments)
    assert y.tolist() == oracle_transposed_convolution(*case.lists, **case.arguments)
    assert y.tolist() == accumulate_transposed_convolution(*case.arrays, **case.arguments).tolist()


@pytest.mark.slow
@settings(max_examples=200)
@given(maximum_pools(pads_below_kernel=True))
def test_onnxruntime_confirms_window_maximum(case):
    (x,) = case.arrays
    try:
        expected = oracle_window_maximum(*case.lists, **case.arguments)
    except ValueError:
        reject()  # ONNX Runtime answers with the lowest number of the dtype where a window holds only padding
    native = x if x.dtype in (np.int8, np.uint8) else np.clip(x, -(2**24), 2**24).astype(np.float32)
    y = onnxruntime_output("MaxPool", [native], {**case.arguments, "ceil_mode": int(case.arguments["ceil_mode"])})
    expected = oracle_window_maximum(native.tolist(), **case.arguments)
    assert y.tolist() == expected
    assert y.tolist() == window_maximum(native.astype(np.int64), **case.arguments).tolist()


def test_an_empty_batch_gives_an_empty_result():
    x, w = np.empty((0, 2, 5), np.int64), np.ones((3, 2, 2), np.int64)
    one = {"strides": [1], "pads": [0, 0], "dilations": [1]}
    assert accumulate_convolution(x, w, **one, group=1).shape == (0, 3, 4)
    assert accumulate_transposed_convolution(x, w[:2], **one, group=1, output_padding=[0]).shape == (0, 2, 6)
    assert accumulate_fully_connected(x, np.ones((5, 7), np.int64)).shape == (0, 2, 7)
    assert window_sum(x, kernel_shape=[2], strides=[1], pads=[0, 0]).shape == (0, 2, 4)
    assert window_maximum(x, kernel_shape=[2], **one, ceil_mode=False).shape == (0, 2, 4)


ONES = np.ones((1, 4, 5), np.int64)
KERNEL = np.ones((4, 2, 3), np.int64)
CONVOLUTION = {"strides": [1], "pads": [0, 0], "dilations": [1], "group": 2}
TRANSPOSED = {**CONVOLUTION, "output_padding": [0]}
SUM = {"kernel_shape": [3], "strides": [1], "pads": [0, 0]}
MAXIMUM = {**SUM, "dilations": [1], "ceil_mode": False}


@pytest.mark.parametrize(
    ("kernel", "arrays", "arguments", "message"),
    [
        (accumulate_convolution, (ONES, KERNEL), {**CONVOLUTION, "group": 1}, "in 1 groups"),
        (accumulate_convolution, (ONES, KERNEL), {**CONVOLUTION, "group": 0}, "in 0 groups"),
        (accumulate_convolution, (ONES, KERNEL[:3]), CONVOLUTION, "in 2 groups"),
        (accumulate_convolution, (ONES, KERNEL), {**CONVOLUTION, "strides": [1, 1]}, "has 1 spatial axes"),
        (accumulate_convolution, (ONES, KERNEL[..., 0]), CONVOLUTION, "has 1 spatial axes"),
        (accumulate_convolution, (ONES[..., 0], KERNEL[..., 0]), {**CONVOLUTION, "pads": []}, "has 0 spatial axes"),
        (accumulate_convolution, (ONES, KERNEL), {**CONVOLUTION, "pads": [1]}, "has 1 spatial axes"),
        (accumulate_convolution, (ONES, KERNEL), {**CONVOLUTION, "pads": [1, -1]}, "pads must be at least 0"),
        (accumulate_convolution, (ONES, KERNEL), {**CONVOLUTION, "strides": [0]}, "all others at least 1"),
        (accumulate_convolution, (ONES[..., :0], KERNEL), {**CONVOLUTION, "pads": [3, 3]}, "all others at least 1"),
        (accumulate_convolution, (ONES, KERNEL), {**CONVOLUTION, "dilations": [3]}, "larger than 0\\+5\\+0 padded data"),
        (accumulate_transposed_convolution, (ONES, KERNEL), {**TRANSPOSED, "group": 3}, "in 3 groups"),
        (accumulate_transposed_convolution, (ONES, KERNEL[:2]), TRANSPOSED, "in 2 groups"),
        (accumulate_transposed_convolution, (ONES, KERNEL), {**TRANSPOSED, "output_padding": [-1]}, "output_padding"),
        (accumulate_transposed_convolution, (ONES, KERNEL), {**TRANSPOSED, "output_padding": []}, "output_padding"),
        (accumulate_transposed_convolution, (ONES, KERNEL), {**TRANSPOSED, "pads": [3, 4]}, "leave nothing"),
        (accumulate_fully_connected, (ONES, KERNEL[0]), {}, "do not fit"),
        (accumulate_fully_connected, (ONES[0, 0, 0], KERNEL[0]), {}, "do not fit"),
        (accumulate_fully_connected, (ONES[0, :, :2], KERNEL), {}, "do not fit"),
        (window_sum, (ONES,), {**SUM, "kernel_shape": [6]}, "larger than"),
        (window_maximum, (ONES,), {**MAXIMUM, "kernel_shape": [6]}, "larger than"),
        (window_maximum, (ONES,), {**MAXIMUM, "pads": [3, 0]}, "holds only padding"),
        (window_maximum, (ONES[..., :1],), {**MAXIMUM, "kernel_shape": [2], "dilations": [2], "pads": [1, 1]}, "only padding"),
        (window_maximum, (ONES.astype(np.float32),), MAXIMUM, "integer"),
    ],
)
def test_what_does_not_fit_is_refused(kernel, arrays, arguments, message):
    with pytest.raises(ValueError, match=message):
        kernel(*arrays, **arguments)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.float32, np.float64])
def test_dtypes_that_would_wrap_or_round_are_refused(dtype):
    x, w = ONES.astype(dtype), KERNEL.astype(dtype)
    for arrays in ((x, KERNEL), (ONES, w)):
        with pytest.raises(TypeError, match=f"{np.dtype(dtype)}, wanted int64"):
            accumulate_convolution(*arrays, **CONVOLUTION)
        with pytest.raises(TypeError, match="wanted int64"):
            accumulate_transposed_convolution(*arrays, **TRANSPOSED)
        with pytest.raises(TypeError, match="wanted int64"):
            accumulate_fully_connected(*arrays)
    with pytest.raises(TypeError, match="wanted int64"):
        window_sum(x, **SUM)


def test_inputs_are_left_as_they_are():
    x, w = np.arange(20).reshape(1, 4, 5), np.arange(24).reshape(4, 2, 3)
    before = x.copy(), w.copy()
    for array in (x, w):
        array.flags.writeable = False
    accumulate_convolution(x, w, **CONVOLUTION)
    accumulate_transposed_convolution(x, w, **TRANSPOSED)
    accumulate_fully_connected(x, x[0].T)
    window_sum(x, **SUM)
    window_maximum(x, **MAXIMUM)
    assert (x.tolist(), w.tolist()) == (before[0].tolist(), before[1].tolist())


def test_memory_stays_near_that_of_input_and_output():
    """Windows are not laid out side by side: that would take 25 times the input here."""
    x, w = np.ones((2, 8, 48, 48), np.int64), np.ones((8, 8, 5, 5), np.int64)
    tracemalloc.start()
    try:
        accumulate_convolution(x, w, strides=[1, 1], pads=[2, 2, 2, 2], dilations=[1, 1], group=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * x.nbytes


def test_examples_in_docstrings():
    """Each public function has an example, and each example holds."""
    with_examples = {test.name.rpartition(".")[2] for test in doctest.DocTestFinder().find(integer) if test.examples}
    assert with_examples == set(integer.__all__)
    assert doctest.testmod(integer).failed == 0
