"""What the fuzzing of the command line starts from: a small model of each format, samples that fit it, what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

import npusim
from npusim.graph.tflite_writer import c_header
from support import ROOT
from support.builders import GraphBuilder
from support.tflite_models import operator, tensor, write

__all__ = ["Seeds", "make_seeds", "quantized", "small_tflite"]

SAMPLES = 12


@dataclass(frozen=True)
class Seeds:
    """What is damaged.

    Attributes
    ----------
    models
        Bytes by file name.
    samples, outputs
        By the same names, a few samples and the model's output on them.
    folders
        The files of golden folders, by the name of their model and the path inside of the folder.
    """

    models: Mapping[str, bytes]
    samples: Mapping[str, npt.NDArray[np.generic]]
    outputs: Mapping[str, npt.NDArray[np.generic]]
    folders: Mapping[str, Mapping[str, bytes]]


def _tinpu(dialect: str) -> bytes:
    graph = GraphBuilder((1, 2, 8, 1), dialect=dialect)
    codes = graph.input_stage([0.5, 0], [40, 50], [3, 3])
    weights = np.arange(-12, 12).reshape(4, 2, 3, 1)
    current = graph.convolution(codes, weights, np.arange(4), [1] * 4, [4] * 4, (-128, 127), pads=[1, 0, 1, 0])
    current = graph.node("MaxPool", current, kernel_shape=[2, 1], strides=[2, 1])
    current = graph.node("Flatten", current)
    columns = np.arange(16 * 3).reshape(16, 3) % 9 - 4
    return graph.model(graph.fully_connected(current, columns, np.arange(3), [1] * 3, [3] * 3, (-128, 127)))


def _float() -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    constants = {
        "w": rng.normal(0, 0.3, (4, 2, 3, 1)),
        "b": rng.normal(0, 0.3, 4),
        "v": rng.normal(0, 0.3, (16, 3)),
        "c": rng.normal(0, 0.3, 3),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["a"], name="conv", pads=[1, 0, 1, 0], kernel_shape=[3, 1]),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 1], strides=[2, 1]),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "v", "c"], ["output"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 2, 8, 1])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantized(folder: Path, form: str) -> bytes:
    """The float network as ONNX Runtime's own quantization writes it."""
    import logging

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    logging.disable(logging.WARNING)

    class Data(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(2)
            self.rows = iter([{"input": rng.normal(0, 1, (1, 2, 8, 1)).astype(np.float32)} for _ in range(4)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    source, target = folder / "float.onnx", folder / f"{form}.onnx"
    source.write_bytes(_float().SerializeToString())
    form_of = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}
    quantize_static(source, target, Data(), quant_format=form_of[form], per_channel=True)
    return target.read_bytes()


def _match() -> bytes:
    """Conv, Mul, Add, Div, Floor, Clip and a last MatMul in floats that are integers, as the MATCH family writes them."""
    constants = {
        "w": np.arange(-12, 12).reshape(4, 2, 3, 1),
        "factor": np.array([3, 5, 7, 9]).reshape(1, 4, 1, 1),
        "addend": np.array([1, -2, 30, 4]).reshape(1, 4, 1, 1),
        "divisor": np.array([64]),
        "last": np.arange(4 * 8 * 2).reshape(-1, 2) % 11 - 5,
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["acc"], pads=[1, 0, 1, 0], weight_bits=8, bias_bits=32),
        helper.make_node("Mul", ["acc", "factor"], ["scaled"], mult_bits=32),
        helper.make_node("Add", ["scaled", "addend"], ["added"], add_bits=32),
        helper.make_node("Div", ["added", "divisor"], ["divided"]),
        helper.make_node("Floor", ["divided"], ["floored"]),
        helper.make_node("Clip", ["floored"], ["codes"], min=0.0, max=255.0, out_bits=8),
        helper.make_node("Flatten", ["codes"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "last"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "match",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 2, 8, 1])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5).SerializeToString())


def small_tflite() -> bytes:
    """Conv2D with scales per channel, Reshape, FullyConnected and Softmax, channels last."""
    rng = np.random.default_rng(0)
    tensors = (
        tensor("x", "INT8", (1, 8, 8, 2), 0.05, -3),
        tensor("w", "INT8", (4, 3, 3, 2), [0.01, 0.02, 0.03, 0.04], 0, rng.integers(-127, 128, (4, 3, 3, 2))),
        tensor("b", "INT32", (4,), [0.0005, 0.001, 0.0015, 0.002], 0, [1, -2, 3, -4]),
        tensor("c", "INT8", (1, 4, 4, 4), 0.1, 5),
        tensor("shape", "INT32", (2,), data=[1, 64]),
        tensor("r", "INT8", (1, 64), 0.1, 5),
        tensor("v", "INT8", (3, 64), 0.02, 0, rng.integers(-127, 128, (3, 64))),
        tensor("y", "INT8", (1, 3), 0.2, 1),
        tensor("z", "INT8", (1, 3), 1 / 256, -128),
    )
    conv = {"padding": "SAME", "stride_w": 2, "stride_h": 2, "activation": "RELU", "dilation_w": 1, "dilation_h": 1}
    operators = (
        operator("CONV_2D", (0, 1, 2), (3,), 3, **conv),
        operator("RESHAPE", (3, 4), (5,), new_shape=(1, 64)),
        operator("FULLY_CONNECTED", (5, 6, -1), (7,), 4, activation="NONE", weights_format="DEFAULT", keep_num_dims=0),
        operator("SOFTMAX", (7,), (8,), beta=1.0),
    )
    return write(tensors, operators, (0,), (8,))


def _operators() -> bytes:
    """Many operators of the host, each with its attributes."""
    ints = {
        "shape": [1, 4, 8],
        "axes": [0],
        "ends": [7, 4],
        "starts": [0, 1],
        "slice_axes": [1, 2],
        "parts": [1, 2],
        "pads": [0, 0, 1, 0, 0, 0, 1, 0],
        "repeats": [1, 1, 2],
        "places": [0, 2, -1],
        "expanded": [1, 3, 6],
    }
    floats = {
        "w": np.linspace(-1, 1, 4 * 2 * 3).reshape(4, 2, 3, 1),
        "t": np.linspace(-1, 1, 4 * 2 * 2).reshape(4, 2, 2, 1),
        "factors": [1, 1, 2, 1],
        "gamma": [1, 0.5],
        "beta": [0, 1],
        "mean": [0.1, -0.2],
        "variance": [1, 2],
        "value": 0.25,
        "lstm_w": np.linspace(-1, 1, 16 * 12).reshape(1, 16, 12),
        "lstm_r": np.linspace(-1, 1, 16 * 4).reshape(1, 16, 4),
    }
    make = helper.make_node
    nodes = [
        make("Pad", ["input", "pads", "value"], ["padded"], name="pad", mode="constant"),
        make("BatchNormalization", ["padded", "gamma", "beta", "mean", "variance"], ["normal"], name="norm", epsilon=1e-5),
        make("Conv", ["normal", "w"], ["conv"], name="conv", kernel_shape=[3, 1], strides=[2, 1], pads=[1, 0, 0, 0], group=1),
        make("LeakyRelu", ["conv"], ["leaky"], name="leaky", alpha=0.125),
        make("ConvTranspose", ["leaky", "t"], ["wide"], name="up", kernel_shape=[2, 1], strides=[2, 1], output_padding=[0, 0]),
        make(
            "AveragePool",
            ["wide"],
            ["pooled"],
            name="pool",
            kernel_shape=[3, 1],
            strides=[2, 1],
            ceil_mode=0,
            count_include_pad=1,
        ),
        make("Resize", ["pooled", "", "factors"], ["sized"], name="size", mode="nearest", nearest_mode="floor"),
        make("Concat", ["sized", "sized"], ["joined"], name="join", axis=1),
        make("Reshape", ["joined", "shape"], ["flat"], name="shape"),
        make("Transpose", ["flat"], ["turned"], name="turn", perm=[0, 2, 1]),
        make("Slice", ["turned", "starts", "ends", "slice_axes"], ["cut"], name="cut"),
        make("Softmax", ["cut"], ["soft"], name="soft", axis=-1),
        make("Split", ["soft", "parts"], ["left", "right"], name="split", axis=2),
        make("Tile", ["left", "repeats"], ["tiled"], name="tile"),
        make("Gather", ["right", "places"], ["picked"], name="pick", axis=1),
        make("ReduceMean", ["picked"], ["mean_of"], name="reduce", axes=[2], keepdims=1),
        make("Expand", ["mean_of", "expanded"], ["large"], name="expand"),
        make("LSTM", ["lines", "lstm_w", "lstm_r"], ["hidden"], name="lstm", hidden_size=4, direction="forward"),
        make("Transpose", ["flat"], ["lines_of"], name="turn2", perm=[1, 0, 2]),
        make("Concat", ["lines_of", "half"], ["lines"], name="join2", axis=2),
        make("Slice", ["lines_of", "zero", "four", "two"], ["half"], name="cut2"),
        make("Squeeze", ["hidden", "one"], ["states"], name="squeeze"),
        make("ReduceSum", ["states", "axes"], ["last"], name="sum", keepdims=0),
        make("Flatten", ["large"], ["row"], name="flatten", axis=1),
        make("Cast", ["row"], ["cast"], name="cast", to=TensorProto.FLOAT),
        make("Clip", ["cast", "low", "high"], ["clipped"], name="clip"),
        make("Unsqueeze", ["last", "one"], ["state"], name="unsqueeze"),
        make("Flatten", ["state"], ["state_row"], name="flatten2", axis=0),
        make("Concat", ["clipped", "state_row"], ["output"], name="last", axis=1),
    ]
    constants = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in ints.items()]
    constants += [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in floats.items()]
    for name, number in {"zero": 0, "four": 4, "two": 2, "one": 1}.items():
        constants.append(numpy_helper.from_array(np.array([number], np.int64), name))
    constants += [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in {"low": -1, "high": 1}.items()]
    graph = helper.make_graph(
        nodes,
        "operators",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 2, 8, 1])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        constants,
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def _models(folder: Path) -> dict[str, bytes]:
    tflite = small_tflite()
    return {
        **{f"tinpu_{dialect}.onnx": _tinpu(dialect) for dialect in ("ts17", "dyn18v", "nosim")},
        "residual.onnx": (ROOT / "golden" / "residual_w4.onnx").read_bytes(),
        "float.onnx": bytes(_float().SerializeToString()),
        "operators.onnx": _operators(),
        "qdq.onnx": quantized(folder, "qdq"),
        "qoperator.onnx": quantized(folder, "qoperator"),
        "match.onnx": _match(),
        "small.tflite": tflite,
        "model.h": c_header(tflite, "model").encode(),
    }


def make_seeds(folder: Path) -> Seeds:
    """The models, what they compute, and golden folders of some of them; `folder` is for files on the way."""
    models = _models(folder)
    samples, outputs, folders = {}, {}, {}
    for name, content in models.items():
        session = npusim.InferenceSession(content)
        given = session.get_inputs()[0]
        rng = np.random.default_rng(len(samples))
        shape = (SAMPLES, *given.shape[1:])
        # integers that int8 and the codes of a MATCH model both hold, or real values
        drawn = rng.integers(0, 128, shape) if name in ("match.onnx", "small.tflite", "model.h") else rng.normal(0, 2, shape)
        samples[name] = drawn.astype(np.float32 if given.type == "tensor(float)" else np.int8)
        outputs[name] = session.run(None, {given.name: samples[name]})[0]
        if name in ("tinpu_ts17.onnx", "qdq.onnx", "small.tflite", "match.onnx"):
            written = folder / f"golden_{name}"
            npusim.write_golden(session, written, {given.name: samples[name]}, formats=("c", "npz", "bin", "onnx"), sets=3)
            folders[name] = {
                path.relative_to(written).as_posix(): path.read_bytes() for path in sorted(written.rglob("*")) if path.is_file()
            }
    return Seeds(models, samples, outputs, folders)
