"""The numbers behind ``npusim inspect``, held against the model file itself and against counts by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from npusim import InferenceSession
from npusim.program.inspection import Codes, inspect_program
from support import ROOT
from support.builders import GraphBuilder


@pytest.mark.parametrize(
    ("lower", "upper", "signed", "bits"),
    [
        (0, 255, False, 8),
        (0, 0, False, 1),
        (0, 6, False, 3),
        (0, 256, False, 9),
        (-128, 127, True, 8),
        (-129, 127, True, 9),
        (-255, 255, True, 9),
        (-8, 7, True, 4),
        (-1, 0, True, 1),
        (-5, -3, True, 4),
    ],
)
def test_codes_need_the_fewest_bits_of_twos_complement(lower: int, upper: int, signed: bool, bits: int) -> None:
    codes = Codes(lower, upper)
    assert (codes.signed, codes.bits) == (signed, bits)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    assert low <= lower <= upper <= high


@pytest.mark.parametrize("name", ["vibration_w8.onnx", "vibration_w4.onnx"])
def test_golden_models_are_described_as_the_file_says(name: str) -> None:
    path = ROOT / "golden" / name
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    nodes = {output: node for node in onnx.load(path).graph.node for output in node.output}
    found = inspect_program(InferenceSession(path).program)
    for layer in found.layers:
        chain = [nodes[f"{node}_output_0"] for node in layer.nodes if f"{node}_output_0" in nodes]
        for node in chain:
            if node.op_type == "Conv":
                weights = constants[node.input[1]]
                assert layer.weights == (weights.min(), weights.max())
                attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
                assert (layer.kernel_shape, layer.pads) == (tuple(attributes["kernel_shape"]), tuple(attributes["pads"]))
                assert layer.group == attributes["group"]
            elif node.op_type == "Add" and layer.bias is not None:
                assert layer.bias == (constants[node.input[1]].min(), constants[node.input[1]].max())
            elif node.op_type == "Mul" and node.name.endswith("/Mul") and layer.scale is not None:
                assert layer.scale == (constants[node.input[1]].min(), constants[node.input[1]].max())
            elif node.op_type == "Mul" and layer.shift is not None:
                power = constants[node.input[1]]
                assert (2.0 ** -layer.shift[1], 2.0 ** -layer.shift[0]) == (power.min(), power.max())
    assert sum(len(layer.nodes) for layer in found.layers) == len(nodes)
    assert found.totals.parameters == sum(layer.parameters for layer in found.layers)
    assert (found.opset, found.batching) == (17, "stacked")


def test_residual_with_other_layers_by_hand() -> None:
    graph = GraphBuilder((1, 4, 8, 1))
    codes = graph.input_stage([0] * 4, [1000, -1000, 500, 500], [5] * 4)
    ones = np.ones((4, 4, 1, 1), np.int64)
    left = graph.convolution(codes, 3 * ones, np.arange(4) - 1, np.ones(4), [5, 6, 7, 8], (0, 255))
    right = graph.convolution(codes, -2 * ones, np.zeros(4), np.ones(4), [4] * 4, (-255, 255))
    summed = graph.saturate(graph.node("Add", left, right), (0, 255))
    found = inspect_program(InferenceSession(graph.model(summed)).program)
    stage, first, second = found.layers
    assert stage.parameters == 3 * 4
    assert stage.multiplier == (-1000 / 32, 1000 / 32)
    assert (first.kind, first.bias, first.shift, first.scale, first.weight_bits) == ("PWCONV", (-1, 2), (5, 8), (1, 1), 4)
    assert first.multiply_accumulates == 8 * 4 * 4
    assert (second.kind, second.inner_clip, second.clip) == ("PWCONVRES", (-255, 255), (0, 255))
    assert second.output_codes == Codes(0, 255)
    assert found.totals.multiply_accumulates == 2 * 8 * 4 * 4


def test_output_that_is_a_constant_is_described() -> None:
    graph = GraphBuilder((1, 4), "nosim")
    constant = graph.constant([[1.5, 2.5]])
    found = inspect_program(InferenceSession(graph.model(graph.node("Relu", "input"), constant)).program)
    assert [(tensor.dtype, tensor.shape, tensor.codes) for tensor in found.outputs] == [
        ("float32", (1, 4), None),
        ("float32", (1, 2), None),
    ]
