"""Operators on codes, those of ONNX and those of ONNX Runtime: every one against ONNX Runtime, by equality."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import npusim
from npusim.graph.foreign import FOREIGN_DOMAIN, FOREIGN_OPERATORS

RANGES = {"uint8": (0, 255), "int8": (-128, 127)}
Arrays = dict[str, np.ndarray]


def model_of(node, arrays: Arrays, variable: list[str], output: int, opset: int = 17, ir_version: int = 8) -> bytes:
    """A model of one node; arrays that are not variable are initializers."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(arrays[name].dtype) for name in variable}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, kinds[name], arrays[name].shape) for name in variable],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(value, name) for name, value in arrays.items() if name not in variable],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(FOREIGN_DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()


def both(node, arrays: Arrays, variable: list[str], output: int) -> tuple[np.ndarray, np.ndarray]:
    """What npusim and ONNX Runtime compute."""
    model = model_of(node, arrays, variable, output)
    feeds = {name: arrays[name] for name in variable}
    runtime = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = npusim.InferenceSession(model).run(None, feeds)
    return found, runtime.run(None, feeds)[0]


class Case:
    """Random codes, scales and zero points of one element type; half of the scales are powers of two."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype, self.arrays = dtype, {}
        self.output = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def codes(self, name: str, shape: tuple[int, ...], dtype: str = "") -> str:
        lower, upper = RANGES[dtype or self.dtype]
        self.arrays[name] = self.random.integers(lower, upper + 1, shape).astype(dtype or self.dtype)
        return name

    def scale(self, name: str, count: int = 0) -> str:
        exponents = self.random.uniform(-8, -2, count or None)
        exponents = np.rint(exponents) if self.random.random() < 0.5 else exponents
        self.arrays[name] = np.asarray(2.0**exponents, np.float32)
        return name

    def zero(self, name: str, dtype: str = "", count: int = 0) -> str:
        dtype = dtype or self.dtype
        lower, upper = RANGES[dtype]
        self.arrays[name] = np.asarray(self.random.integers(lower, upper + 1, count or None), dtype)
        return name

    def bias(self, name: str, count: int) -> str:
        self.arrays[name] = self.random.integers(-5000, 5000, count).astype(np.int32)
        return name

    def affine(self, name: str) -> list[str]:
        return [self.scale(f"s{name}"), self.zero(f"z{name}")]


@pytest.mark.parametrize(("dtype", "weights"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize("per_channel", [True, False])
def test_convolutions(dtype, weights, per_channel):
    for seed in range(6):
        case, group = Case(seed, dtype), int(np.random.default_rng(seed).choice([1, 2, 4]))
        count = 8 if per_channel else 0
        inputs = [
            case.codes("x", (2, 4, 7, 6)),
            *case.affine("x"),
            case.codes("w", (8, 4 // group, 3, 2), weights),
            case.scale("sw", count),
            case.zero("zw", weights) if not per_channel else "zw",
            *case.affine("y"),
            case.bias("b", 8),
        ]
        if per_channel:
            case.arrays["zw"] = np.zeros(8, weights)
        attributes = {"group": group, "pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}
        node = helper.make_node("QLinearConv", inputs, ["y"], **attributes)
        assert np.array_equal(*both(node, case.arrays, ["x"], case.output))


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_and_without_requantization(dtype, per_channel, transposed):
    for seed in range(6):
        case, count = Case(seed, dtype), 5 if per_channel else 0
        inputs = [
            case.codes("x", (3, 16)),
            *case.affine("x"),
            case.codes("w", (5, 16) if transposed else (16, 5), "int8"),
            case.scale("sw", count),
            "zw",
            case.bias("b", 5),
        ]
        case.arrays["zw"] = np.zeros(count or (), np.int8)
        for tail, output in (([], TensorProto.FLOAT), (case.affine("y"), case.output)):
            node = helper.make_node("QGemm", [*inputs, *tail], ["y"], domain=FOREIGN_DOMAIN, transB=transposed)
            arrays = {name: value for name, value in case.arrays.items() if name in node.input}
            assert np.array_equal(*both(node, arrays, ["x"], output))


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize("constant", [True, False])
def test_matrix_products(dtype, constant):
    for seed in range(6):
        case = Case(seed, dtype)
        right = "int8" if constant else dtype
        inputs = [
            case.codes("a", (2, 3, 16)),
            *case.affine("a"),
            case.codes("b", (16, 5) if constant else (2, 16, 5), right),
            case.scale("sb"),
            case.zero("zb", right),
            *case.affine("y"),
        ]
        node = helper.make_node("QLinearMatMul", inputs, ["y"])
        assert np.array_equal(*both(node, case.arrays, ["a"] if constant else ["a", "b"], case.output))


def test_integer_convolutions_and_products():
    case = Case(1, "uint8")
    inputs = [case.codes("x", (1, 3, 5, 5)), case.codes("w", (4, 3, 2, 2), "int8"), case.zero("zx")]
    node = helper.make_node("ConvInteger", inputs, ["y"], pads=[1, 1, 0, 0])
    assert np.array_equal(*both(node, case.arrays, ["x"], TensorProto.INT32))
    case = Case(2, "uint8")
    inputs = [case.codes("a", (2, 9)), case.codes("b", (9, 4), "int8"), case.zero("za"), case.zero("zb", "int8")]
    node = helper.make_node("MatMulInteger", inputs, ["y"])
    assert np.array_equal(*both(node, case.arrays, ["a"], TensorProto.INT32))


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1), (1,)])
def test_sums_and_products_broadcast(op_type, dtype, shape):
    for seed in range(6):
        case = Case(seed, dtype)
        inputs = [case.codes("a", (2, 3, 4)), *case.affine("a"), case.codes("b", shape), *case.affine("b"), *case.affine("y")]
        node = helper.make_node(op_type, inputs, ["y"], domain=FOREIGN_DOMAIN)
        assert np.array_equal(*both(node, case.arrays, ["a", "b"], case.output))


UNARY = {
    "QLinearAveragePool": [
        {"kernel_shape": [2, 3]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1},
    ],
    "QLinearGlobalAveragePool": [{"channels_last": 0}],
    "QLinearLeakyRelu": [{}, {"alpha": 0.3}],
    "QLinearSigmoid": [{}],
    "QLinearSoftmax": [{"axis": -1, "opset": 13}, {"axis": 1, "opset": 13}, {"axis": 2, "opset": 12}],
}


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize(("op_type", "attributes"), [(name, item) for name, items in UNARY.items() for item in items])
def test_functions_of_one_tensor(op_type, attributes, dtype):
    for seed in range(6):
        case = Case(seed, dtype)
        inputs = [case.codes("x", (2, 3, 6, 5)), *case.affine("x"), *case.affine("y")]
        node = helper.make_node(op_type, inputs, ["y"], domain=FOREIGN_DOMAIN, **attributes)
        assert np.array_equal(*both(node, case.arrays, ["x"], case.output))


@pytest.mark.parametrize("dtype", sorted(RANGES))
def test_concatenation_requantizes_each_operand(dtype):
    for seed in range(6):
        case = Case(seed, dtype)
        inputs = [
            *case.affine("y"),
            case.codes("a", (2, 3, 4)),
            *case.affine("a"),
            case.codes("b", (2, 5, 4)),
            *case.affine("b"),
        ]
        node = helper.make_node("QLinearConcat", inputs, ["y"], domain=FOREIGN_DOMAIN, axis=1)
        assert np.array_equal(*both(node, case.arrays, ["a", "b"], case.output))


def test_every_operator_of_the_domain_is_tested():
    tested = {"QGemm", "QLinearAdd", "QLinearMul", "QLinearConcat", "QuantizeLinear", "DequantizeLinear", *UNARY}
    assert tested == set(FOREIGN_OPERATORS)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint8", "int8"])
def test_quantization_in_the_domain_of_onnxruntime(dtype):
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32) * 300
    arrays = {"x": x, "s": np.array(0.0625, np.float32), "z": np.array(limits.max // 3, dtype)}
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], domain=FOREIGN_DOMAIN)
    assert np.array_equal(*both(node, arrays, ["x"], helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))
    arrays = {"x": arrays["z"] + np.arange(-9, 9).astype(dtype), "s": arrays["s"], "z": arrays["z"]}
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], domain=FOREIGN_DOMAIN)
    assert np.array_equal(*both(node, arrays, ["x"], TensorProto.FLOAT))


@pytest.mark.parametrize(("kind", "lowest"), [(TensorProto.INT4, -8), (TensorProto.UINT4, 0)])
@pytest.mark.parametrize("domain", ["", FOREIGN_DOMAIN])
def test_codes_of_four_bits_are_unpacked(kind, lowest, domain):
    codes = [lowest + (5 * place) % 16 for place in range(15)]
    tensors = [
        helper.make_tensor("w", kind, [3, 5], codes),
        helper.make_tensor("z", kind, [3], [lowest + 1, lowest + 9, lowest + 15]),
        numpy_helper.from_array(np.array([0.5, 0.25, 3.0], np.float32), "s"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["r"], domain=domain, axis=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    shaped = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 5]) for name in "xy"]
    graph = helper.make_graph(nodes, "four", shaped[:1], shaped[1:], tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(FOREIGN_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    x = np.zeros((3, 5), np.float32)
    (found,) = npusim.InferenceSession(model).run(None, {"x": x})
    points, scales = [lowest + 1, lowest + 9, lowest + 15], [0.5, 0.25, 3.0]
    assert found.tolist() == [[(codes[5 * row + place] - points[row]) * scales[row] for place in range(5)] for row in range(3)]
    runtime = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert np.array_equal(found, runtime.run(None, {"x": x})[0])


def refused(node, arrays: Arrays, variable: list[str], output: int, error: type[npusim.NpusimError], says: str) -> None:
    model = model_of(node, arrays, variable, output)
    with pytest.raises(error, match=says):
        npusim.InferenceSession(model).run(None, {name: arrays[name] for name in variable})


def test_other_operators_of_the_domain_are_named():
    node = helper.make_node("FusedGemm", ["x", "x"], ["y"], name="fused", domain=FOREIGN_DOMAIN)
    says = "FusedGemm 'fused'.*of domain 'com.microsoft'.*QGemm"
    refused(node, {"x": np.ones((2, 2), np.float32)}, ["x"], TensorProto.FLOAT, npusim.UnsupportedError, says)


def test_unsupported_operators_on_codes_are_not_taken_for_open_shapes():
    """An integer input may decide shapes, but that is not an excuse for an operator that there is not."""
    node = helper.make_node("BitwiseNot", ["x"], ["y"])
    model = model_of(node, {"x": np.zeros((1, 4), np.uint8)}, ["x"], TensorProto.UINT8, opset=18)
    with pytest.raises(npusim.UnsupportedError, match=r"BitwiseNot.*does not support"):
        npusim.InferenceSession(model)


def test_channels_last_and_missing_inputs_are_refused():
    case = Case(0, "uint8")
    inputs = [case.codes("x", (1, 4, 4, 3)), *case.affine("x"), *case.affine("y")]
    node = helper.make_node("QLinearGlobalAveragePool", inputs, ["y"], domain=FOREIGN_DOMAIN, channels_last=1)
    refused(node, case.arrays, ["x"], case.output, npusim.UnsupportedError, "channels last")
    node = helper.make_node("QLinearAdd", inputs[:3], ["y"], domain=FOREIGN_DOMAIN)
    arrays = {name: case.arrays[name] for name in inputs[:3]}
    refused(node, arrays, ["x"], case.output, npusim.ModelError, "3 inputs, which are too few")


def test_dynamic_quantization_is_refused_with_what_to_do():
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    says = "dynamic quantization.*quantize the model statically"
    refused(node, {"x": np.ones((1, 4), np.float32)}, ["x"], TensorProto.UINT8, npusim.UnsupportedError, says)
