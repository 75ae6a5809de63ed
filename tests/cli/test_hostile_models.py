"""Models that contradict themselves or grow when they are read: one sentence and its exit code, or the right result."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import npusim
from npusim.errors import ModelError, UnsupportedError
from npusim.graph.onnx_reader import MAXIMUM_NODES
from npusim.kernels.convolution import convolve
from support.builders import GraphBuilder
from support.command_line import call

WIDTH = 6


def small() -> onnx.ModelProto:
    """A convolution, a pool and a matrix product behind an input stage."""
    graph = GraphBuilder((1, 2, WIDTH, 1), dialect="ts17")
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    weights = np.arange(-9, 9).reshape(3, 2, 3, 1)
    current = graph.convolution(codes, weights, np.arange(3), [1] * 3, [4] * 3, (-128, 127), pads=[1, 0, 1, 0])
    current = graph.node("MaxPool", current, kernel_shape=[2, 1], strides=[2, 1])
    current = graph.node("Flatten", current)
    columns = np.arange(9 * 4).reshape(9, 4) % 7 - 3
    return onnx.load_from_string(
        graph.model(graph.fully_connected(current, columns, np.arange(4), [1] * 4, [3] * 4, (-128, 127)))
    )


def node_of(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


def give(model: onnx.ModelProto, op_type: str, **attributes: object) -> None:
    node = node_of(model, op_type)
    kept = [item for item in node.attribute if item.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in attributes.items())])


def set_bias(model: onnx.ModelProto, value: float) -> None:
    name = node_of(model, "Gemm").input[2]
    tensor = next(item for item in model.graph.initializer if item.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.full((1, 4), value, np.float32), name))


def many_dimensions(model: onnx.ModelProto) -> None:
    name = node_of(model, "Floor").input[0]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1,) * 62, np.float32), "many"))
    model.graph.node.append(helper.make_node("Add", [name, "many"], ["wide"]))
    model.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, None))


def grow(model: onnx.ModelProto, levels: int = 20) -> None:
    """Local functions of which each calls the next twice: 2^levels nodes from a few bytes."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    for level in range(levels):
        inner = ("Identity", "") if level == levels - 1 else (f"f{level + 1}", "local")
        nodes = [
            helper.make_node(inner[0], ["a"], ["b"], domain=inner[1]),
            helper.make_node(inner[0], ["b"], ["c"], domain=inner[1]),
        ]
        model.functions.append(helper.make_function("local", f"f{level}", ["a"], ["c"], nodes, imports))
    model.opset_import.append(helper.make_opsetid("local", 1))
    last = model.graph.node[-1]
    model.graph.node.append(helper.make_node("f0", ["before"], [last.output[0]], domain="local"))
    last.output[0] = "before"


def call_itself(model: onnx.ModelProto) -> None:
    grow(model, 2)
    model.functions[1].node[0].op_type, model.functions[1].node[0].domain = "f0", "local"


def many_nodes(model: onnx.ModelProto) -> None:
    output = model.graph.output[0].name
    names = [output, *(f"i{number}" for number in range(MAXIMUM_NODES))]
    model.graph.node.extend(helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names))


def swell(model: onnx.ModelProto) -> None:
    """Constants of some bytes that become 100 times 64 MiB."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**12, 2**12], np.int64), "size"))
    total = ""
    for number in range(100):
        model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], [f"large{number}"]))
        if total:
            model.graph.node.append(helper.make_node("Add", [total, f"large{number}"], [f"sum{number}"]))
        total = f"sum{number}" if total else "large0"
    model.graph.output.append(helper.make_tensor_value_info(total, TensorProto.FLOAT, None))


def no_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def no_shape_and_unknown_operator(model: onnx.ModelProto) -> None:
    no_shape(model)
    node_of(model, "Floor").op_type = "Det"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "bounds", "verify", "lint", "quantize"])
@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda model: give(model, "Conv", auto_pad="cubic"), 2, "auto_pad is 'cubic', wanted NOTSET"),
        (lambda model: give(model, "MaxPool", auto_pad="cubic"), 2, "auto_pad is 'cubic', wanted NOTSET"),
        (lambda model: give(model, "Conv", auto_pad="VALID"), 2, "'VALID' and pads [1, 0, 1, 0], which contradict each other"),
        (lambda model: give(model, "Conv", strides=[0, 1]), 2, "does not fit its input"),
        (lambda model: give(model, "Gemm", transB=-(2**63)), 2, "has transB = -9223372036854775808, wanted 0 or 1"),
        (lambda model: give(model, "MaxPool", ceil_mode=7), 2, "has ceil_mode = 7, wanted 0 or 1"),
        (many_dimensions, 3, "has 62 dimensions, more than the 16 that npusim accepts"),
        (grow, 3, f"more than the {MAXIMUM_NODES} that npusim accepts"),
        (call_itself, 2, "calls itself"),
        (many_nodes, 3, f"more than the {MAXIMUM_NODES} that npusim accepts"),
        (swell, 3, "no microcontroller holds that"),
        (no_shape, 3, "declares no shape at all for its input 'input'"),
        (
            no_shape_and_unknown_operator,
            3,
            "(producing 't7_Floor') uses an operator that npusim does not support",
        ),
    ],
)
def test_models_that_are_refused(
    command: str, change: Callable[[onnx.ModelProto], object], code: int, says: str, tmp_path: Path
) -> None:
    model = small()
    change(model)
    path, data = tmp_path / "model.onnx", tmp_path / "x.npy"
    path.write_bytes(model.SerializeToString())
    np.save(data, np.zeros((16, 2, WIDTH, 1), np.float32))
    if command == "lint" and change in (no_shape, no_shape_and_unknown_operator):
        # lint tells it as a finding
        outcome = call(command, path, "--device", "f28p55x")
        assert (outcome.code, outcome.err) == (1, "")
        assert "input 'input' leaves its rank open" in outcome.out
        return
    more = {"lint": ["--device", "f28p55x"], "quantize": ["--calibration", data, "-o", tmp_path / "q.onnx"]}
    outcome = call(command, path, *more.get(command, []))
    assert says in outcome.err, outcome
    assert outcome.code == code
    assert outcome.out == ""
    assert len(outcome.err) < 1000


@pytest.mark.parametrize(("value", "beta"), [(1.0, 1e30), (2.0**62, 1.0), (2.0**62, 2.0), (1e30, 1e30), (-(2.0**41), 1.0)])
def test_biases_beyond_all_integers_stay_what_they_are(value: float, beta: float) -> None:
    """Such a layer is no layer of the NPU; the graph's own arithmetic saturates it to one end."""
    model = small()
    set_bias(model, value)
    give(model, "Gemm", beta=beta)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = npusim.InferenceSession(model.SerializeToString())
        (y,) = session.run(None, {"input": np.zeros((1, 2, WIDTH, 1), np.float32)})
    assert y.tolist() == [[127.0 if value > 0 else -128.0] * 4]
    assert "its bias passes" in str(session.program.host_operations)


def test_sparse_initializers_are_read_like_plain_ones() -> None:
    plain = small()
    x = np.random.default_rng(3).integers(-100, 100, (5, 2, WIDTH, 1)).astype(np.float32)
    (expected,) = npusim.InferenceSession(plain.SerializeToString()).run(None, {"input": x})
    for pairs in (False, True):
        model = small()
        tensor = next(item for item in model.graph.initializer if item.name == node_of(model, "Gemm").input[1])
        values = numpy_helper.to_array(tensor)
        places = np.argwhere(values) if pairs else np.flatnonzero(values)
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(
                numpy_helper.from_array(values[values != 0], tensor.name), numpy_helper.from_array(places), values.shape
            )
        )
        model.graph.initializer.remove(tensor)
        (found,) = npusim.InferenceSession(model.SerializeToString()).run(None, {"input": x})
        np.testing.assert_array_equal(found, expected)
        sparse = model.graph.sparse_initializer[0]
        sparse.indices.CopyFrom(numpy_helper.from_array(places + 1000))
        with pytest.raises(ModelError, match="is damaged: "):
            npusim.InferenceSession(model.SerializeToString())
        sparse.dims[:] = [2**31, 2**31]
        with pytest.raises(UnsupportedError, match="wanted at most"):
            npusim.InferenceSession(model.SerializeToString())


def test_an_output_listed_twice_is_repaired_as_well(tmp_path: Path) -> None:
    model = small()
    model.graph.output.append(model.graph.output[0])
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    outcome = call("lint", path, "--device", "f28p55x", "--fix", tmp_path / "fixed.onnx")
    assert "internal error" not in outcome.err, outcome
    assert outcome.code in (0, 1)


@pytest.mark.parametrize("small_term", [1e-36, 2.0**-149, 2.0**-126])
@pytest.mark.parametrize("large", [1e28, 2.0**127])
def test_small_terms_beside_large_ones_that_count_nothing(small_term: float, large: float) -> None:
    """The large value meets the weight 0, so the sum is the small one, however far apart they are."""
    for x, weight in (([small_term, large], [1.0, 0.0]), ([1.0, 0.0], [small_term, large])):
        data = np.array(x, np.float32).reshape(1, 2, 1)
        kernel = np.array(weight, np.float32).reshape(1, 2, 1)
        found = convolve(data, kernel, strides=(1,), dilations=(1,), pads=(0, 0))
        assert found.item() == np.float32(small_term)
