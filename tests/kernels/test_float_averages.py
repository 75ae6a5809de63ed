"""Float means in ONNX Runtime's order: against fractions rounded at every addition, and against ONNX Runtime itself."""

from __future__ import annotations

import doctest
from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from npusim.kernels import float_averages as module
from npusim.kernels.float_averages import average_planes, average_windows, sum_rows
from support.float32_oracle import rounded_to_float32


def compute(op_type: str, x: np.ndarray, *, opset: int = 17, **attributes) -> np.ndarray:
    node = helper.make_node(op_type, ["x"], ["y"], **attributes)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
    graph = helper.make_graph([node], "one", [given], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_examples():
    assert doctest.testmod(module).failed == 0


def test_planes_are_summed_in_four_lanes():
    x = np.random.default_rng(0).normal(size=(1, 1, 11)).astype(np.float32)
    values = [Fraction(float(value)) for value in x[0, 0]]
    lanes = [rounded_to_float32(values[lane] + values[lane + 4]) for lane in range(4)]
    total = rounded_to_float32(rounded_to_float32(lanes[0] + lanes[2]) + rounded_to_float32(lanes[1] + lanes[3]))
    for value in values[8:]:
        total = rounded_to_float32(total + value)
    assert Fraction(float(average_planes(x)[0, 0, 0])) == rounded_to_float32(total / 11)


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 3, 7), (2, 5, 33), (2, 3, 7, 9), (1, 8, 5, 5), (2, 2, 3, 4, 5)])
def test_onnxruntime_averages_planes_the_same_way(shape):
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert np.array_equal(average_planes(x), compute("GlobalAveragePool", x))


GEOMETRIES = [
    ((17,), (3,)),
    ((30,), (30,)),
    ((9, 11), (2, 2)),
    ((9, 11), (3, 3)),
    ((16, 40), (3, 4)),
    ((40, 1), (8, 1)),
    ((7, 40), (7, 40)),
    ((5, 40), (2, 33)),
    ((5, 40), (2, 32)),
    ((5, 6, 7), (2, 3, 2)),
    ((5, 6, 7), (5, 6, 7)),
]


@pytest.mark.parametrize(("sizes", "kernel_shape"), GEOMETRIES)
@pytest.mark.parametrize("count_include_pad", [0, 1])
def test_onnxruntime_averages_windows_the_same_way(sizes, kernel_shape, count_include_pad):
    random, axes = np.random.default_rng(2), len(sizes)
    for strides in ((1,) * axes, (2,) * axes, kernel_shape):
        for pads in ((0,) * (2 * axes), 2 * tuple(min(1, size - 1) for size in kernel_shape)):
            x = random.normal(size=(2, 3, *sizes)).astype(np.float32)
            options = {"kernel_shape": kernel_shape, "strides": strides, "pads": pads}
            wanted = compute("AveragePool", x, count_include_pad=count_include_pad, **options)
            assert np.array_equal(average_windows(x, count_include_pad=bool(count_include_pad), **options), wanted)
            later = compute("AveragePool", x, opset=19, count_include_pad=count_include_pad, **options)
            found = average_windows(x, count_include_pad=bool(count_include_pad), in_window_order=True, **options)
            assert np.array_equal(found, later)


@pytest.mark.parametrize("count", [1, 3, 4, 8, 12, 20, 64, 100, 1140])
def test_onnxruntime_sums_rows_the_same_way(count):
    x = np.random.default_rng(3).normal(size=(40, count)).astype(np.float32)
    aligned = x if count % 4 == 0 else x[:1]
    wanted = compute("ReduceMean", aligned, axes=[1], keepdims=0)
    assert np.array_equal(sum_rows(aligned) / np.float32(count), wanted)
