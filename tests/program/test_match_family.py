"""Models of the PLiNIO and MATCH family against plain Python integers: multiplier and addend, shift or division, means."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from npusim import InferenceSession
from npusim.errors import InputError, UnsupportedError, UsageError
from npusim.graph.model_file import open_model
from npusim.graph.model_reader import read_model
from npusim.program import Clip, Requantization
from npusim.program.lowering.match.dialect import without_types
from npusim.program.scale_divide import ScaleDivide
from npusim.search.sampling import generate_inputs


@given(
    st.integers(-300, 300),
    st.integers(-(2**30), 2**30),
    st.integers(1, 2**24),
    st.booleans(),
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=5),
    st.integers(-200, 200),
)
def test_scale_and_division_in_python_integers(
    scale: int, addend: int, divisor: int, toward_zero: bool, values: list[int], code: int
) -> None:
    part = ScaleDivide(*(np.array([value]) for value in (scale, addend, divisor)), toward_zero, clip=Clip(-128, 127))
    rounding = math.trunc if toward_zero else math.floor
    expected = [rounding(Fraction(value * scale + addend, divisor)) for value in values]
    assert part.unclipped(np.array([values]))[0].tolist() == expected
    assert [part.text(value, 0)[-1].value for value in values] == expected
    goal = np.array([code])
    found, bisected = int(part.first(goal)[0]), int(Requantization.first(part, goal)[0])
    inside = part.domain.lower < found <= part.domain.upper
    assert found == bisected if inside else not part.domain.lower < bisected <= part.domain.upper


def match_model(weights: np.ndarray, factor: np.ndarray, addend: np.ndarray, divisor: int, *, annotated: bool) -> bytes:
    """Conv, Mul, Add, Div, Floor, Clip, an average over windows of 2, MatMul to raw sums; all in float32."""
    outputs = weights.shape[0]
    constants = {
        "w": weights,
        "factor": factor.reshape(1, outputs, 1, 1),
        "addend": addend.reshape(1, outputs, 1, 1),
        "divisor": np.array([divisor]),
        "last": np.arange(outputs * 4).reshape(-1, 2) - 5,
    }
    bits = {"weight_bits": 8, "bias_bits": 32} if annotated else {}
    nodes = [
        helper.make_node("Conv", ["0", "w"], ["acc"], pads=[1, 0, 1, 0], **bits),
        helper.make_node("Mul", ["acc", "factor"], ["scaled"], **({"mult_bits": 32} if annotated else {})),
        helper.make_node("Add", ["scaled", "addend"], ["added"], **({"add_bits": 32} if annotated else {})),
        helper.make_node("Div", ["added", "divisor"], ["divided"]),
        helper.make_node("Floor", ["divided"], ["floored"]),
        helper.make_node("Clip", ["floored"], ["codes"], min=0.0, max=255.0, **({"out_bits": 8} if annotated else {})),
        helper.make_node("AveragePool", ["codes"], ["mean"], kernel_shape=[3, 1], strides=[3, 1]),
        helper.make_node("Flatten", ["mean"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "last"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "match",
        [helper.make_tensor_value_info("0", TensorProto.FLOAT, [1, weights.shape[1], 6, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    return onnx.ModelProto.SerializeToString(model)


def by_definition(
    x: np.ndarray, weights: np.ndarray, factor: np.ndarray, addend: np.ndarray, divisor: int
) -> tuple[list[list[list[int]]], list[list[int]]]:
    codes, results = [], []
    for sample in x[..., 0].astype(int).tolist():
        padded = [[0, *row, 0] for row in sample]
        one = []
        for output, kernel in enumerate(weights[..., 0].astype(int).tolist()):
            sums = [sum(kernel[c][k] * padded[c][i + k] for c in range(len(padded)) for k in range(3)) for i in range(6)]
            one.append([min(max((total * int(factor[output]) + int(addend[output])) // divisor, 0), 255) for total in sums])
        codes.append(one)
        flat = [sum(row[start : start + 3]) // 3 for row in one for start in (0, 3)]
        last = (np.arange(len(one) * 4).reshape(-1, 2) - 5).tolist()
        results.append([sum(value * row[column] for value, row in zip(flat, last, strict=True)) for column in range(2)])
    return codes, results


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("divisor", [2**15, 2**24, 2**24 - 1])
@pytest.mark.parametrize("annotated", [True, False])
def test_a_network_equals_python_integers(engine: str, divisor: int, annotated: bool) -> None:
    generator = np.random.default_rng([divisor, annotated])
    weights = generator.integers(-128, 128, (3, 2, 3, 1))
    factor = generator.integers(1, max(divisor // 100, 2), 3)
    addend = generator.integers(-4 * divisor, 60 * divisor, 3)
    addend = addend.astype(np.float32).astype(np.int64)
    session = InferenceSession(match_model(weights, factor, addend, divisor, annotated=annotated), engine=engine)
    x = generator.integers(0, 256, (5, 2, 6, 1)).astype(np.float32)
    codes, results = by_definition(x, weights, factor, addend, divisor)
    trace = session.trace({"0": x}, ["codes", "y"])
    assert trace["codes"][..., 0].tolist() == codes
    assert trace["y"].tolist() == results
    assert [layer.kind for layer in session.program.layers] == ["GCONV", "AVGPOOL", "FC"]
    assert [step.operator for step in session.program.host_operations] == ["Flatten"]


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0])
def test_what_is_not_a_code_is_refused(value: float) -> None:
    weights = np.ones((1, 1, 3, 1))
    session = InferenceSession(match_model(weights, np.array([3]), np.array([0]), 2**10, annotated=True))
    x = np.zeros((2, 1, 6, 1), np.float32)
    x[1, 0, 4, 0] = value
    with pytest.raises(InputError, match=r"\[1, 0, 4, 0\].*whole numbers from 0 to 255"):
        session.run(None, {"0": x})


def test_options_choose_codes_and_means() -> None:
    weights = np.ones((1, 1, 3, 1))
    model = match_model(weights, np.array([1]), np.array([0]), 1024, annotated=True)
    signed = InferenceSession(model, input_codes="s8")
    assert (signed.format, signed.arithmetic) == ("match", "match")
    assert (signed.program.tensors["0"].lower, signed.program.tensors["0"].upper) == (-128, 127)
    with pytest.raises(UsageError, match="no codes 'x3'"):
        InferenceSession(model, input_codes="x3")
    with pytest.raises(UsageError, match="match, match_half_up, onnx"):
        InferenceSession(model, arithmetic="tvm")
    model = match_model(weights, np.array([512]), np.array([0]), 512, annotated=True)
    x = np.zeros((1, 1, 6, 1), np.float32)
    x[0, 0, 0] = 1  # the windows of the convolution hold 1, 1 and 0: a mean of two thirds
    means = {
        name: InferenceSession(model, arithmetic=name).trace({"0": x})["mean"].ravel().tolist()
        for name in ("match", "match_half_up")
    }
    assert means == {"match": [0, 0], "match_half_up": [1, 0]}
    (fraction, _) = InferenceSession(model, arithmetic="onnx").trace({"0": x})["mean"].ravel().tolist()
    assert fraction == pytest.approx(2 / 3)


@pytest.mark.parametrize("codes", ["u8", "s8", "u4"])
def test_generated_inputs_are_codes(codes: str) -> None:
    weights = np.ones((1, 1, 3, 1))
    model = match_model(weights, np.array([1]), np.array([0]), 1024, annotated=True)
    session = InferenceSession(model, input_codes=codes)
    x = generate_inputs(session.program, 40)["0"]
    ends = {"u8": (0, 255), "s8": (-128, 127), "u4": (0, 15)}[codes]
    assert x.dtype == np.float32
    assert (x == np.rint(x)).all()
    assert (x.min(), x.max()) == ends
    session.run(None, {"0": x})


def test_a_sum_beyond_int32_is_refused_and_not_saturated() -> None:
    weights = np.full((1, 2, 3, 1), 127)
    model = onnx.load_from_string(match_model(weights, np.array([2**24 - 1]), np.array([0]), 1, annotated=True))
    del model.graph.node[3:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("added", TensorProto.FLOAT, [1, 1, 6, 1]))
    with pytest.raises(UnsupportedError, match="beyond int32, and nothing saturates"):
        InferenceSession(onnx.ModelProto.SerializeToString(model))


def test_two_requantizations_in_a_row_are_a_table() -> None:
    weights = np.ones((1, 1, 3, 1))
    model = onnx.load_from_string(match_model(weights, np.array([3]), np.array([-7]), 4, annotated=True))
    del model.graph.node[6:]
    constants = {"again": 54.0, "by": 64.0}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()
    )
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["codes", "again"], ["twice"]),
            helper.make_node("Div", ["twice", "by"], ["real"]),
            helper.make_node("Floor", ["real"], ["whole"]),
        ]
    )
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("whole", TensorProto.FLOAT, [1, 1, 6, 1]))
    session = InferenceSession(onnx.ModelProto.SerializeToString(model))
    assert [layer.kind for layer in session.program.layers] == ["FCONV", "TABLE"]
    x = np.random.default_rng(1).integers(0, 256, (5, 1, 6, 1)).astype(np.float32)
    trace = session.trace({"0": x}, ["codes", "whole"])
    assert trace["whole"].ravel().tolist() == [int(code) * 54 // 64 for code in trace["codes"].ravel()]


@pytest.mark.parametrize(
    "operator",
    ["Reshape", "Pad", "Gather", "Squeeze", "Unsqueeze", "ReduceSum", "ReduceMean", "Slice", "Expand", "Tile", "Split"],
)
def test_sizes_axes_and_positions_stay_whole_numbers(operator: str) -> None:
    """Everything else becomes float64; which inputs they are, ONNX's own schema says: those that cannot be float."""
    schema = onnx.defs.get_schema(operator, 18)
    kinds = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
    whole = ["tensor(float)" not in kinds.get(item.type_str, [item.type_str]) for item in schema.inputs]
    assert any(whole)
    names = [f"c{place}" for place in range(len(whole))]
    constants = [numpy_helper.from_array(np.array([1], np.int64), name) for name in names]
    nodes = [helper.make_node(operator, names, ["y"])]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    model = helper.make_model(helper.make_graph(nodes, "g", [], output, constants), opset_imports=[helper.make_opsetid("", 18)])
    found = without_types(read_model(open_model(model.SerializeToString())), bytes_are_signed=False).constants
    assert [found[name].dtype == np.int64 for name in names] == whole
