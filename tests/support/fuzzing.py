"""Fuzzing of the command line: models, data and dumps, damaged so that they stay nearly right, are read by every command.

A case is a seed and nothing else: ``python benchmarks/fuzz.py --first 4711 --cases 1`` repeats case 4711. Each has a process of
its own (`isolated.py`); a fault is an internal error, a traceback, a warning of NumPy, more than 10 s of CPU or 1 GB of
memory, an undocumented exit code, control characters, a message of more than 1,000 characters, or a file left over.

"""

from __future__ import annotations

import importlib
import random
import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from npusim.errors import NpusimError
from npusim.graph.tflite_reader import parse_tflite
from npusim.graph.tflite_writer import c_header, serialize_tflite
from support import isolated
from support.builders import GraphBuilder
from support.tflite_models import operator, tensor, write

__all__ = ["Case", "fuzz", "make_case", "seeds"]

EDGES = (0, 1, -1, 2, 3, 7, 127, 128, -128, 255, 256, 32767, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
REALS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-45,
    1e-38,
    1e30,
    3.4e38,
    -3.4e38,
    2.0**24,
    2.0**31,
    2.0**62,
    2.0**63,
    np.nan,
    np.inf,
    -np.inf,
)
NAMES = (
    "",
    "x\x1b[31mred\x1b[0m",
    "a\nb",
    "\u202eevil",
    "=1+1",
    "../../up",
    "a/b",
    'x";int f(void);//',
    "n" * 3000,
    "\x00",
    "<script>",
    "é\ud7ff",
)
OPERATORS = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Relu",
    "Clip",
    "Floor",
    "Round",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Reshape",
    "Flatten",
    "Transpose",
    "Concat",
    "Pad",
    "Slice",
    "Squeeze",
    "Unsqueeze",
    "ReduceSum",
    "ReduceMean",
    "Softmax",
    "Sigmoid",
    "Resize",
    "Cast",
    "Identity",
    "QuantizeLinear",
    "QLinearConv",
    "Where",
    "DequantizeLinear",
    "Gather",
    "Shape",
    "Expand",
    "Tile",
    "Split",
    "BatchNormalization",
    "If",
    "NonZero",
    "Nonsense",
)
ATTRIBUTES = (
    "auto_pad",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "group",
    "axis",
    "axes",
    "keepdims",
    "transA",
    "transB",
    "alpha",
    "beta",
    "ceil_mode",
    "count_include_pad",
    "to",
    "perm",
    "mode",
    "output_shape",
    "min",
    "max",
    "bits",
)


@dataclass(frozen=True)
class Case:
    """A command, and what was done to what it reads."""

    number: int
    arguments: tuple[str, ...]
    changes: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------------------------ seeds


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


def _quantized(folder: Path, form: str) -> bytes:
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


def _tflite() -> bytes:
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


def seeds(folder: Path) -> dict[str, bytes]:
    """A small model of each format by file name."""
    tflite = _tflite()
    return {
        **{f"tinpu_{dialect}.onnx": _tinpu(dialect) for dialect in ("ts17", "dyn18v", "nosim")},
        "float.onnx": bytes(_float().SerializeToString()),
        "qdq.onnx": _quantized(folder, "qdq"),
        "qoperator.onnx": _quantized(folder, "qoperator"),
        "match.onnx": _match(),
        "small.tflite": tflite,
        "model.h": c_header(tflite, "model").encode(),
    }


# -------------------------------------------------------------------------------------------------------------------- mutations


def _edge(rng: random.Random) -> int:
    return rng.choice(EDGES) if rng.random() < 0.7 else rng.randint(-10, 10)


def _attribute_value(rng: random.Random) -> object:
    return rng.choice(
        (
            lambda: _edge(rng),
            lambda: rng.choice(REALS),
            lambda: [_edge(rng) for _ in range(rng.choice((1, 2, 4, 4, 5)))],
            lambda: rng.choice(
                ("SAME_UPPER", "SAME_LOWER", "VALID", "cubic", "", "reflect", "edge", "nearest", rng.choice(NAMES))
            ),
            lambda: [rng.choice(REALS) for _ in range(rng.choice((1, 2, 4)))],
            lambda: numpy_helper.from_array(np.array([1, 2], np.float32)),
        )
    )()


def _change_attribute(model: onnx.ModelProto, rng: random.Random) -> str:
    node = rng.choice(model.graph.node)
    if node.attribute and rng.random() < 0.75:
        old = rng.choice(node.attribute)
        name = old.name
        action = rng.choice(("drop", "element", "value"))
        if action == "element" and old.ints:
            old.ints[rng.randrange(len(old.ints))] = max(min(_edge(rng), 2**63 - 1), -(2**63))
            return f"{node.op_type}: an element of {name} changed to {list(old.ints)}"
        node.attribute.remove(old)
        if action == "drop":
            return f"{node.op_type}: {name} removed"
    else:
        name = rng.choice(ATTRIBUTES)
    value = _attribute_value(rng)
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return f"{node.op_type}: {name} = {str(value)[:60]!r}"


def _change_constant(model: onnx.ModelProto, rng: random.Random) -> str:
    if not model.graph.initializer:
        return _change_node(model, rng)
    proto = rng.choice(model.graph.initializer)
    kind = rng.choice(("values", "all", "shape", "dtype", "truncate", "dims", "sparse", "external"))
    try:
        array = numpy_helper.to_array(proto).copy()
    except Exception:  # noqa: BLE001 - damaged by an earlier change
        return "nothing"
    if kind in ("values", "all") and array.size:
        value = rng.choice(REALS) if array.dtype.kind == "f" else _edge(rng)
        with np.errstate(all="ignore"):
            number = np.array(value).astype(array.dtype) if array.dtype.kind in "fiub" else array.reshape(-1)[0]
        places = slice(None) if kind == "all" else rng.randrange(array.size)
        array.reshape(-1)[places] = number
    elif kind == "shape":
        array = rng.choice(
            (array.reshape(-1), array[..., None], array[None], array.T, array[:0], array.reshape((1,) * 40 + array.shape))
        )
    elif kind == "dtype":
        with np.errstate(all="ignore"):
            array = array.astype(
                rng.choice((np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_, np.uint64))
            )
    name = proto.name
    if kind == "sparse":
        places = np.flatnonzero(array) + rng.choice((0, 0, 1, -1, 2**40))
        sparse = helper.make_sparse_tensor(
            numpy_helper.from_array(array[array != 0], name), numpy_helper.from_array(places), array.shape
        )
        model.graph.sparse_initializer.append(sparse)
        model.graph.initializer.remove(proto)
    elif kind == "truncate":
        proto.raw_data = numpy_helper.to_array(proto).tobytes()[: rng.randrange(array.nbytes + 1)]
    elif kind == "dims":
        proto.dims[:] = [_edge(rng) for _ in proto.dims]
    elif kind == "external":
        proto.data_location = TensorProto.EXTERNAL
        proto.external_data.add(key="location", value=rng.choice(("none.bin", "../x", "/dev/zero", "fifo", rng.choice(NAMES))))
    else:
        proto.CopyFrom(numpy_helper.from_array(array, name))
    return f"constant {name}: {kind}"


def _change_node(model: onnx.ModelProto, rng: random.Random) -> str:
    nodes = model.graph.node
    at = rng.randrange(len(nodes))
    node = nodes[at]
    kind = rng.choice(
        ("drop", "twice", "operator", "swap", "input", "missing", "extra", "name", "output", "domain", "tensor name")
    )
    described = f"{node.op_type}: {kind}"
    names = [name for item in nodes for name in (*item.input, *item.output)]
    if kind == "drop":
        if node.input and node.output:
            for item in nodes:
                for place, name in enumerate(item.input):
                    if name == node.output[0]:
                        item.input[place] = node.input[0]
        del nodes[at]
    elif kind == "twice":
        copy = nodes.add()
        copy.CopyFrom(node)
        copy.output[0] += "_2"
    elif kind == "operator":
        node.op_type = rng.choice(OPERATORS)
        described += f" {node.op_type}"
    elif kind == "swap" and len(node.input) > 1:
        node.input[0], node.input[1] = node.input[1], node.input[0]
    elif kind == "input" and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == "missing" and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif kind == "extra":
        node.input.append(rng.choice(("", *names)))
    elif kind == "name":
        node.name = rng.choice(NAMES)
    elif kind == "output" and node.output:
        node.output.append(rng.choice((*names, "new")))
    elif kind == "domain":
        node.domain = rng.choice(("com.microsoft", "ai.onnx", "local", rng.choice(NAMES)))
    elif kind == "tensor name":
        old, new = rng.choice(names), rng.choice(NAMES)
        for item in nodes:
            item.input[:] = [new if name == old else name for name in item.input]
            item.output[:] = [new if name == old else name for name in item.output]
    return described


def _change_interface(model: onnx.ModelProto, rng: random.Random) -> str:
    graph = model.graph
    kind = rng.choice(
        ("size", "rank", "no shape", "dtype", "output", "twice", "no output", "opset", "input", "value_info", "name")
    )
    info = rng.choice([*graph.input, *graph.output])
    kept = info.type.tensor_type
    if kind == "size" and kept.shape.dim:
        size = rng.choice(kept.shape.dim)
        if rng.random() < 0.3:
            size.dim_param = rng.choice(("N", "", *NAMES))
        else:
            size.dim_value = _edge(rng)
    elif kind == "rank":
        sizes = rng.choice(([], [1], [1] * 62, [1, 2, 8], [0, 2, 8, 1], [2**31, 2, 8, 1], [2**16, 2**16, 2**16, 2**16]))
        kept.shape.ClearField("dim")
        for number in sizes:
            kept.shape.dim.add(dim_value=number)
    elif kind == "no shape":
        kept.ClearField("shape")
    elif kind == "dtype":
        kept.elem_type = rng.choice((0, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 22, 99))
    elif kind == "output":
        node = rng.choice(graph.node)
        graph.output.add(name=rng.choice([*node.output, *node.input, "none"]))
    elif kind == "twice":
        graph.output.append(graph.output[0])
    elif kind == "no output":
        del graph.output[:]
    elif kind == "opset":
        model.opset_import[0].version = rng.choice((0, 1, 6, 7, 9, 10, 11, 13, 18, 21, 23, 99, -1, 2**40))
    elif kind == "input":
        graph.input.append(
            helper.make_tensor_value_info(rng.choice(("second", *NAMES)), TensorProto.FLOAT, rng.choice(([], [1], None)))
        )
    elif kind == "value_info":
        node = rng.choice(graph.node)
        graph.value_info.append(helper.make_tensor_value_info(node.output[0], 1, [_edge(rng) for _ in range(rng.randrange(5))]))
    elif kind == "name":
        new = rng.choice(NAMES)
        for item in graph.node:
            item.input[:] = [new if name == info.name else name for name in item.input]
            item.output[:] = [new if name == info.name else name for name in item.output]
        info.name = new
    return f"interface: {kind}"


def _mutate_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    data = bytearray(content)
    kind = rng.choice(("flip", "flip", "truncate", "splice", "words", "insert"))
    if kind == "flip":
        for _ in range(rng.choice((1, 1, 4, 30))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del data[rng.randrange(len(data)) :]
    elif kind == "splice":
        start, size, to = rng.randrange(len(data)), rng.randrange(1, 64), rng.randrange(len(data))
        data[to : to + size] = data[start : start + size]
    elif kind == "words":
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(max(len(data) // 4, 1)) * 4
            data[at : at + 4] = struct.pack("<i", rng.choice((0, 1, -1, 2**31 - 1, -(2**31), 4, 255, 65536, len(data))))
    else:
        at = rng.randrange(len(data))
        data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
    return bytes(data), f"bytes: {kind}"


def _mutate_onnx(content: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    model = onnx.load_from_string(content)
    changes = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice((_change_attribute, _change_constant, _change_node, _change_interface))
        if not model.graph.node:
            break
        try:
            changes.append(change(model, rng))
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
            changes.append(f"{change.__name__} not possible: {type(error).__name__}")
    return bytes(model.SerializeToString()), changes


def _mutate_tflite(content: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    try:
        model = parse_tflite(content, "seed")
        tensors, operators = list(model.tensors), list(model.operators)
        at, op = rng.randrange(len(tensors)), rng.randrange(len(operators))
        held, call = tensors[at], operators[op]
        kind = rng.choice(
            ("scale", "zero", "shape", "type", "option", "inputs", "operator", "data", "name", "signature", "axis")
        )
        if kind == "scale":
            held = replace(held, scales=tuple(rng.choice(REALS) for _ in range(rng.choice((1, 4, len(held.scales))))))
        elif kind == "zero":
            held = replace(held, zero_points=tuple(_edge(rng) for _ in held.zero_points))
        elif kind == "shape":
            held = replace(
                held, shape=tuple(rng.choice((0, 1, 2, 3, 64, -1, 2**31 - 1)) for _ in range(rng.choice((0, 1, 4, 5, 30))))
            )
        elif kind == "type":
            held = replace(
                held, type=rng.choice(("INT8", "UINT8", "INT16", "INT32", "FLOAT32", "INT64", "BOOL", "FLOAT16")), data=None
            )
        elif kind == "option" and call.options:
            name = rng.choice(sorted(call.options))
            value = rng.choice((0, 1, 2, -1, 127, 2**31 - 1)) if isinstance(call.options[name], int) else call.options[name]
            call = replace(call, options={**call.options, name: value})
        elif kind == "inputs":
            call = replace(call, inputs=tuple(rng.randrange(-1, len(tensors)) for _ in range(rng.randrange(5))))
        elif kind == "operator":
            call = replace(
                call,
                name=rng.choice(("ADD", "MUL", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "PAD", "LOGISTIC", "CONCATENATION")),
                options={},
            )
        elif kind == "data":
            held = replace(held, data=None if held.data is not None else np.zeros(held.shape, np.int8))
        elif kind == "name":
            held = replace(held, name=rng.choice(NAMES))
        elif kind == "signature":
            held = replace(held, signature=tuple(rng.choice((-1, 0, 1, 8)) for _ in held.shape))
        else:
            held = replace(held, axis=rng.choice((0, 1, 3, 5, -1, 2**31 - 1)))
        tensors[at], operators[op] = held, call
        changed = replace(model, tensors=tuple(tensors), operators=tuple(operators))
        return serialize_tflite(changed), [f"tflite: {kind}"]
    except (NpusimError, ValueError, KeyError, TypeError, OverflowError, AttributeError, struct.error) as error:
        damaged, what = _mutate_bytes(content, rng)
        return damaged, [f"{what} (instead of {type(error).__name__})"]


def _mutate_text(text: str, rng: random.Random) -> tuple[str, str]:
    kind = rng.choice(("token", "token", "drop", "repeat", "separator", "character", "truncate"))
    tokens = text.split(" ")
    at = rng.randrange(len(tokens))
    if kind == "token":
        tokens[at] = rng.choice(
            (
                "nan",
                "inf",
                "1e400",
                "0x",
                "-",
                "=1+1",
                "1_0",
                "9" * 400,
                "0xFFFFFFFFFFFFFFFFFF",
                "\x1b[2J",
                "é",
                "",
                "{",
                "};",
                "1.5",
            )
        )
    elif kind == "drop":
        del tokens[at]
    elif kind == "repeat":
        tokens[at:at] = [tokens[at]] * rng.choice((2, 1000))
    elif kind == "separator":
        return text.replace(rng.choice((" ", ",", "\n")), rng.choice((";", "\t", "", "\r\n", "|", ", "))), "text: separator"
    elif kind == "character":
        place = rng.randrange(len(text) + 1)
        return text[:place] + rng.choice(("\x00", "\x07", "\u202e", "{", '"', "/*", "#", ";", "\\")) + text[
            place:
        ], "text: character"
    else:
        return text[: rng.randrange(len(text) + 1)], "text: truncate"
    return " ".join(tokens), f"text: {kind}"


def _samples(rng: random.Random, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(rng.randrange(1000)).normal(0, 2, (12, *shape)).astype(np.float32)


def _data(folder: Path, rng: random.Random, shape: tuple[int, ...]) -> tuple[str, list[str]]:
    """A file of samples, mostly a good one."""
    suffix = rng.choice((".npy", ".npz", ".csv"))
    path = folder / f"data{suffix}"
    x = _samples(rng, shape)
    changes: list[str] = []
    if rng.random() < 0.3:
        kind = rng.choice(("empty", "nan", "rank", "int", "one", "double", "object", "transpose"))
        changes.append(f"data: {kind}")
        if kind == "nan":
            x.reshape(-1)[3] = rng.choice((np.nan, np.inf))
        x = {
            "empty": lambda: x[:0],
            "rank": lambda: x.reshape(-1),
            "int": lambda: (x * 50).astype(np.int8),
            "one": lambda: x[:1],
            "double": lambda: x.astype(np.float64),
            "object": lambda: x.astype(str),
            "transpose": lambda: x.T,
            "nan": lambda: x,
        }[kind]()
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".npz":
        np.savez(path, **{rng.choice(("input", "x", "other")): x})
    else:
        text = "\n".join(",".join(str(value) for value in row.reshape(-1)) for row in x.reshape(len(x), -1)) if x.size else ""
        if rng.random() < 0.5:
            text, what = _mutate_text(text.replace(",", " "), rng)
            text = text.replace(" ", rng.choice((",", ";", "\t")))
            changes.append(what)
        path.write_text(text, encoding="utf-8", errors="replace")
    if suffix != ".csv" and rng.random() < 0.3:
        content, what = _mutate_bytes(path.read_bytes(), rng)
        path.write_bytes(content)
        changes.append(f"{suffix} {what}")
    return path.name, changes


def _dump(folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    numbers = [rng.randint(-128, 127) for _ in range(rng.choice((3, 3, 4, 36)))]
    form = rng.choice(("txt", "c", "csv", "hex", "bin", "dat"))
    text = {
        "txt": " ".join(map(str, numbers)),
        "c": f"int8_t y[{len(numbers)}] = {{ {', '.join(map(str, numbers))} }};\n",
        "csv": ", ".join(map(str, numbers)),
        "hex": ":0300000002337A1E\n:00000001FF\n",
        "bin": "".join(chr(value % 128) for value in numbers),
        "dat": "1651 1 c000 0 1\n" + "\n".join(f"0x{value % 65536:04x}" for value in numbers),
    }[form]
    changes = [f"dump: {form}"]
    for _ in range(rng.choice((0, 1, 2))):
        text, what = _mutate_text(text, rng)
        changes.append(what)
    (folder / f"dump.{form}").write_bytes(text.encode("utf-8", "replace"))
    return f"dump.{form}", changes


# ------------------------------------------------------------------------------------------------------------------------ cases


def make_case(number: int, models: dict[str, bytes], folder: Path) -> Case:
    """Write the files of a case into a folder and choose its command; the number decides everything."""
    rng = random.Random(number)
    name = rng.choice(sorted(models))
    content, changes = models[name], [name]
    suffix = Path(name).suffix
    draw = rng.random()
    if draw < 0.12:
        content, what = _mutate_bytes(content, rng)
        changes.append(what)
    elif draw < 0.9 and suffix == ".onnx":
        content, made = _mutate_onnx(content, rng)
        changes.extend(made)
    elif draw < 0.9 and suffix == ".tflite":
        content, made = _mutate_tflite(content, rng)
        changes.extend(made)
    elif draw < 0.9:
        text, what = _mutate_text(content.decode("utf-8", "replace"), rng)
        content, changes = text.encode("utf-8", "replace"), [*changes, what]
    model = f"model{suffix}"
    (folder / model).write_bytes(content)
    (folder / "source.onnx").write_bytes(models["float.onnx"])
    data, made = _data(folder, rng, (8, 8, 2) if suffix != ".onnx" else (2, 8, 1))
    dump, dumped = _dump(folder, rng)
    command = rng.choice(
        (
            ("inspect", model),
            ("verify", model),
            ("verify", model, data),
            ("bounds", model),
            ("bounds", model, "--channels"),
            ("run", model, data, "-o", "out.npz", "--trace", "*"),
            ("run", model, data, "-o", "out.npz", "--engine", "reference"),
            ("lint", model, "--device", "f28p55x"),
            ("lint", model, "--device", "f28p55x", "--fix", "fixed.onnx"),
            ("quantize", model, "--calibration", data, "-o", "q.onnx"),
            ("compare", model, "--against", "source.onnx", "--data", data, "--csv", "t.csv", "--report", "r.html"),
            ("compare", model, "--against", "ort"),
            ("compare", model, "--against", dump, "--data", data),
            ("golden", "write", model, data, "-o", "g", "--format", "c,npz,bin"),
            ("golden", "write", model, "-o", "g", "--samples", "2"),
            ("golden", "check", model, "--inputs", data, "--dump", dump),
        )
    )
    if data in command:
        changes.extend(made)
    if dump in command:
        changes.extend(dumped)
    if rng.random() < 0.3:
        command = (*command, "--json")
    return Case(number, command, tuple(changes))


def _warm() -> None:
    """Import what the commands import, so that forked processes need not."""
    from npusim.cli.application import COMMANDS

    for place in COMMANDS.values():
        importlib.import_module(place.partition(":")[0])
    for module in ("golden_write", "golden_check", "golden_verify", "compare_exact", "compare_float"):
        importlib.import_module(f"npusim.cli.{module}")
    for module in ("onnxruntime", "pandas", "jinja2"):
        try:
            importlib.import_module(module)
        except ImportError:
            continue


def fuzz(
    numbers: Iterable[int], models: dict[str, bytes], report: Callable[[Case, Sequence[str], isolated.Outcome], None]
) -> Counter[str]:
    """Run cases; `report` is told of each that has faults. Returns how often each kind was seen, and the exit codes."""
    _warm()
    counts: Counter[str] = Counter()
    for number in numbers:
        folder = Path(tempfile.mkdtemp(prefix="npusim-fuzz-"))
        try:
            case = make_case(number, models, folder)
            outcome = isolated.run(case.arguments, folder)
            found = isolated.faults(outcome, folder, as_json="--json" in case.arguments)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        counts["cases"] += 1
        counts[f"exit {outcome.code}"] += 1
        counts.update(found)
        if found:
            report(case, found, outcome)
    return counts
