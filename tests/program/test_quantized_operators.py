"""Every operator of QDQ and QOperator models alone: a layer on codes, equal to ONNX Runtime in every bit, by both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import npusim
from npusim.program import Program
from npusim.program.dequantized_sum import DequantizedSum
from npusim.program.float_multiplier import FloatMultiplier

SCALES = {"x": 0.05, "z": 0.031, "y": 0.07}
POINTS = {"x": 7, "z": 130, "y": 121}
RESULT = ("y_scale", "y_point")
MICROSOFT = "com.microsoft"
IMAGE = (1, 4, 6, 5)


class Model:
    """Codes of two tensors x and z, an operator, codes of y."""

    def __init__(self, shape: tuple[int, ...], *, opset: int = 17, signed: bool = False, lowest: bool = False) -> None:
        self.rng = np.random.default_rng(4)
        self.shape, self.opset, self.signed = shape, opset, signed
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.points = {**POINTS, "y": 0} if lowest else POINTS
        self.coded("y")

    def keep(self, name: str, value: object) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, name: str, shape: tuple[int, ...], scales: int = 1) -> list[str]:
        """Names of codes, scale and zero point; several scales lie along one axis."""
        codes = self.rng.integers(-127, 128, shape).astype(np.int8)
        steps = (0.01 + 0.003 * np.arange(scales)).astype(np.float32)
        names = [self.keep(f"{name}_codes", codes), self.keep(f"{name}_scale", steps if scales > 1 else steps[0])]
        return [*names, self.keep(f"{name}_point", np.zeros(scales if scales > 1 else (), np.int8))]

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def coded(self, name: str) -> list[str]:
        """Names of a tensor of codes, its scale and its zero point."""
        kind = np.int8 if self.signed else np.uint8
        self.keep(f"{name}_scale", np.float32(SCALES[name]))
        self.keep(f"{name}_point", kind(self.points[name] - 128 * self.signed))
        return [name, f"{name}_scale", f"{name}_point"]

    def dequantized(self, name: str, codes: list[str], **attributes: object) -> str:
        return self.node("DequantizeLinear", codes, name, **attributes)

    def file(self, *, inputs: tuple[str, ...] = ("x",)) -> bytes:
        kind = TensorProto.INT8 if self.signed else TensorProto.UINT8
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info(name, kind, self.shape) for name in inputs],
            [helper.make_tensor_value_info("y", kind, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return onnx.ModelProto.SerializeToString(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def check(content: bytes, layers: list[str]) -> Program:
    """The layers are those, nothing is left to the host, and codes are ONNX Runtime's."""
    runtime = onnxruntime.InferenceSession(content)
    rng = np.random.default_rng(9)
    feeds = {}
    for item in runtime.get_inputs():
        lower = 0 if item.type == "tensor(uint8)" else -128
        drawn = rng.integers(lower, lower + 256, (40, *item.shape[1:]))
        drawn[0], drawn[1] = lower, lower + 255
        feeds[item.name] = drawn.astype(np.uint8 if lower == 0 else np.int8)
    wanted = np.concatenate(
        [runtime.run(None, {name: values[at : at + 1] for name, values in feeds.items()})[0] for at in range(40)]
    )
    for engine in ("fast", "reference"):
        session = npusim.InferenceSession(content, engine=engine)
        assert [layer.kind for layer in session.program.layers] == layers
        assert not session.program.host_operations
        (found,) = session.run(None, feeds)
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(found, wanted, err_msg=engine)
    return session.program


def qlinear_convolution(per_channel: bool, group: int, bias: bool, **attributes: object) -> bytes:
    model = Model(IMAGE)
    weights = model.weights("w", (8, 4 // group, 3, 2), 8 if per_channel else 1)
    inputs = [*model.coded("x"), *weights, *RESULT]
    if bias:
        inputs.append(model.keep("b", model.rng.integers(-900, 900, 8).astype(np.int32)))
    model.node("QLinearConv", inputs, "y", group=group, **attributes)
    return model.file()


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("group", "kind", "attributes"),
    [
        (1, "GCONV", {}),
        (2, "GCONV", {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        (4, "DWCONV", {"dilations": [2, 3], "auto_pad": "VALID"}),
        (1, "GCONV", {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_convolution_on_codes(per_channel: bool, bias: bool, group: int, kind: str, attributes: dict[str, object]) -> None:
    program = check(qlinear_convolution(per_channel, group, bias, **attributes), [kind])
    assert program.layers[0].requantization.channels == 8


@pytest.mark.parametrize("scale", [0.0, 1e-45, 3e38, np.inf])
@pytest.mark.parametrize("name", ["x_scale", "y_scale"])
def test_scales_without_a_factor_in_float32_leave_the_layer_to_its_operator(name: str, scale: float) -> None:
    """Found by fuzzing: scales whose product or quotient is 0 or infinite."""
    model = onnx.load_from_string(qlinear_convolution(per_channel=False, group=1, bias=False))
    for constant in model.graph.initializer:
        if constant.name == name:
            constant.CopyFrom(numpy_helper.from_array(np.float32(scale), name))
    scales = {**{key: np.float32(value) for key, value in SCALES.items()}, name[0]: np.float32(scale)}
    with np.errstate(all="ignore"):
        factor = scales["x"] * np.float32(0.01) / scales["y"]
    x = np.zeros((1, *IMAGE[1:]), np.uint8)
    if 0 < factor < np.inf:
        (y,) = npusim.InferenceSession(model.SerializeToString()).run(None, {"x": x})
        np.testing.assert_array_equal(y, onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])
    else:
        with pytest.raises(npusim.NpusimError, match="scale"):
            npusim.InferenceSession(model.SerializeToString()).run(None, {"x": x})


@pytest.mark.parametrize("per_channel", [False, True])
def test_matrix_product_on_codes(per_channel: bool) -> None:
    model = Model((1, 6))
    model.node("QLinearMatMul", [*model.coded("x"), *model.weights("w", (6, 5), 5 if per_channel else 1), *RESULT], "y")
    check(model.file(), ["FC"])


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("scales", [1, 5])
def test_gemm_on_codes(turned: int, scales: int) -> None:
    model = Model((1, 6))
    weights = model.weights("w", (5, 6) if turned else (6, 5), scales)
    bias = model.keep("b", model.rng.integers(-900, 900, 5).astype(np.int32))
    model.node("QGemm", [*model.coded("x"), *weights, bias, *RESULT], "y", domain=MICROSOFT, transB=turned)
    check(model.file(), ["FC"])


@pytest.mark.parametrize(("operator", "kind"), [("QLinearAdd", "ADD"), ("QLinearMul", "MUL")])
@pytest.mark.parametrize("signed", [False, True])
def test_two_operands_on_codes(operator: str, kind: str, signed: bool) -> None:
    model = Model((1, 3, 5), signed=signed)
    model.node(operator, [*model.coded("x"), *model.coded("z"), *RESULT], "y", domain=MICROSOFT)
    check(model.file(inputs=("x", "z")), [kind])


@pytest.mark.parametrize("included", [0, 1])
def test_average_on_codes(included: int) -> None:
    model = Model(IMAGE)
    attributes = {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1], "count_include_pad": included}
    model.node("QLinearAveragePool", [*model.coded("x"), *RESULT], "y", domain=MICROSOFT, **attributes)
    check(model.file(), ["AVGPOOL"])


def test_average_of_a_plane_on_codes() -> None:
    model = Model(IMAGE)
    model.node("QLinearGlobalAveragePool", [*model.coded("x"), *RESULT], "y", domain=MICROSOFT)
    check(model.file(), ["AVGPOOL"])


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concatenation_on_codes(axis: int) -> None:
    """Three operands with scales of their own, one of them read twice."""
    model = Model((1, 3, 3, 3))
    model.node(
        "QLinearConcat",
        [*RESULT, *model.coded("x"), *model.coded("z"), "x", "x_scale", "x_point"],
        "y",
        domain=MICROSOFT,
        axis=axis,
    )
    check(model.file(inputs=("x", "z")), ["CONCAT"])


@pytest.mark.parametrize(
    ("operator", "attributes"), [("QLinearLeakyRelu", {}), ("QLinearLeakyRelu", {"alpha": 0.3}), ("QLinearSigmoid", {})]
)
def test_functions_on_codes(operator: str, attributes: dict[str, float]) -> None:
    """All 256 codes."""
    model = Model((1, 256))
    model.node(operator, [*model.coded("x"), *RESULT], "y", domain=MICROSOFT, **attributes)
    check(model.file(), ["TABLE"])


@pytest.mark.parametrize(("opset", "attributes"), [(17, {}), (17, {"axis": 1}), (11, {}), (11, {"axis": 2})])
def test_softmax_on_codes(opset: int, attributes: dict[str, int]) -> None:
    model = Model((1, 3, 5), opset=opset)
    model.node("QLinearSoftmax", [*model.coded("x"), *RESULT], "y", domain=MICROSOFT, opset=opset, **attributes)
    check(model.file(), ["SOFTMAX"])


# ---------------------------------------------------------------------------------------------------------------------- QDQ


def quantized(model: Model, *, inputs: tuple[str, ...] = ("x",)) -> bytes:
    """The model whose last operator has given `real`."""
    model.node("QuantizeLinear", ["real", *RESULT], "y")
    return model.file(inputs=inputs)


@pytest.mark.parametrize("limit", [None, "Relu", "Clip"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("group", "kind", "attributes"), [(1, "GCONV", {"pads": [1, 0, 2, 1], "strides": [2, 1]}), (4, "DWCONV", {})]
)
def test_convolution_between_codes(limit: str | None, bias: bool, group: int, kind: str, attributes: dict[str, object]) -> None:
    # where 0 is the lowest code, the limits are those of the codes; elsewhere ONNX Runtime computes such a layer in float
    model = Model(IMAGE, lowest=limit is not None)
    source = model.dequantized("x_real", model.coded("x"))
    operands = [source, model.dequantized("w_real", model.weights("w", (8, 4 // group, 3, 2), 8), axis=0)]
    if bias:
        steps = np.float32(SCALES["x"]) * (0.01 + 0.003 * np.arange(8)).astype(np.float32)
        names = [model.keep("b_codes", model.rng.integers(-900, 900, 8).astype(np.int32)), model.keep("b_scale", steps)]
        operands.append(model.dequantized("b_real", [*names, model.keep("b_point", np.zeros(8, np.int32))], axis=0))
    model.node("Conv", operands, "sum" if limit else "real", group=group, **attributes)
    if limit == "Clip":
        model.node("Clip", ["sum", model.keep("low", np.float32(0)), model.keep("high", np.float32(18))], "real")
    elif limit:
        model.node(limit, ["sum"], "real")
    check(quantized(model), [kind])


@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize(
    "limits",
    [None, (0.0, None), (0.0, 18.0), (0.0, 17.82), (0.0, 17.81), (0.03, 18.0), (0.04, 18.0), (-8.5, 18.0), (-8.4, 18.0)],
)
def test_an_activation_that_cuts_codes_leaves_a_convolution_in_float(
    lowest: bool, limits: tuple[float, float | None] | None, tmp_path: Path
) -> None:
    """As in the model that ONNX Runtime makes of the file. The highest number is 17.85, and 17.82 rounds to its code."""
    model = Model(IMAGE, lowest=lowest)
    operands = [model.dequantized("x_real", model.coded("x")), model.dequantized("w_real", model.weights("w", (8, 4, 3, 2)))]
    model.node("Conv", operands, "sum" if limits else "real")
    if limits is not None and limits[1] is None:
        model.node("Relu", ["sum"], "real")
    elif limits is not None:
        ends = [model.keep(name, np.float32(value)) for name, value in zip(("low", "high"), limits, strict=True)]
        model.node("Clip", ["sum", *ends], "real")
    content = quantized(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options)
    fused = "QLinearConv" in [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    (layer,) = npusim.InferenceSession(content, arithmetic="ort").program.layers
    assert isinstance(layer.requantization, FloatMultiplier if fused else DequantizedSum)


@pytest.mark.parametrize(
    ("operator", "turned", "axis"),
    [("MatMul", 0, None), ("MatMul", 0, 1), ("MatMul", 0, -1), ("Gemm", 0, None), ("Gemm", 1, 0)],
)
def test_matrix_product_between_codes(operator: str, turned: int, axis: int | None) -> None:
    """A DequantizeLinear without the attribute has its scales along axis 1."""
    model = Model((1, 6))
    source = model.dequantized("x_real", model.coded("x"))
    named = {} if axis is None else {"axis": axis}
    weights = model.dequantized("w_real", model.weights("w", (5, 6) if turned else (6, 5), 5), **named)
    model.node(operator, [source, weights], "real", **({"transB": 1} if turned else {}))
    program = check(quantized(model), ["FC"])
    assert len(set(program.layers[0].requantization.gain.tolist())) == 5


@pytest.mark.parametrize(("operator", "kind"), [("Add", "ADD"), ("Mul", "MUL")])
def test_two_operands_between_codes(operator: str, kind: str) -> None:
    model = Model((1, 3, 5))
    model.node(operator, [model.dequantized(f"{name}_real", model.coded(name)) for name in ("x", "z")], "real")
    check(quantized(model, inputs=("x", "z")), [kind])


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1]}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
        ("GlobalAveragePool", {}),
    ],
)
def test_average_between_codes(operator: str, attributes: dict[str, object]) -> None:
    model = Model(IMAGE)
    model.node(operator, [model.dequantized("x_real", model.coded("x"))], "real", **attributes)
    check(quantized(model), ["AVGPOOL"])


@pytest.mark.parametrize(
    ("operator", "attributes"), [("LeakyRelu", {"alpha": 0.3}), ("Sigmoid", {}), ("Tanh", {}), ("HardSigmoid", {}), ("Elu", {})]
)
def test_functions_between_codes(operator: str, attributes: dict[str, float]) -> None:
    model = Model((1, 256))
    model.node(operator, [model.dequantized("x_real", model.coded("x"))], "real", **attributes)
    check(quantized(model), ["TABLE"])


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concatenation_between_codes(axis: int) -> None:
    model = Model((1, 3, 3, 3))
    parts = [model.dequantized(f"{name}_real", model.coded(name)) for name in ("x", "z")]
    model.node("Concat", parts, "real", axis=axis)
    check(quantized(model, inputs=("x", "z")), ["CONCAT"])


@pytest.mark.parametrize(("opset", "attributes"), [(17, {}), (17, {"axis": 1})])
def test_softmax_between_codes(opset: int, attributes: dict[str, int]) -> None:
    model = Model((1, 3, 5), opset=opset)
    model.node("Softmax", [model.dequantized("x_real", model.coded("x"))], "real", **attributes)
    check(quantized(model), ["SOFTMAX"])
