"""Fuzzing of the command line: models, data, dumps and golden folders, damaged but nearly right, in every command.

A case is a seed and nothing else: ``python benchmarks/fuzz.py --first 4711 --cases 1`` repeats case 4711. A fault is an
internal error, a traceback, a warning of NumPy, more than 10 s of CPU or 1 GB of memory, an undocumented exit code, control
characters, a message of more than 1,000 characters, text of a model that HTML, C or a spreadsheet would run, a file that is
left over or that a refused command has touched.
"""

from __future__ import annotations

import gc
import importlib
import json
import random
import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from npusim.errors import NpusimError
from npusim.graph.tflite_reader import parse_tflite
from npusim.graph.tflite_writer import serialize_tflite
from support import isolated
from support.fuzz_seeds import SAMPLES, Seeds

__all__ = ["Case", "fuzz", "make_case"]

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
    target: str
    arguments: tuple[str, ...]
    changes: tuple[str, ...]


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


def _near(value: object, rng: random.Random) -> object:
    """A value of the same kind that is a little off."""
    if isinstance(value, bool | str | bytes):
        return value
    if isinstance(value, int):
        return value + rng.choice((-2, -1, 1, 2)) if rng.random() < 0.7 else _edge(rng)
    if isinstance(value, float):
        return rng.choice((value * 2, -value, value + 1, rng.choice(REALS)))
    if isinstance(value, list) and value:
        changed = list(value)
        action = rng.choice(("one", "one", "one", "longer", "shorter"))
        if action == "one":
            at = rng.randrange(len(changed))
            changed[at] = _near(changed[at], rng)
        elif action == "longer":
            changed.append(changed[-1])
        else:
            changed.pop()
        return changed
    return value


KNOWN_VALUES = {
    "auto_pad": ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "SAME"),
    "mode": ("constant", "reflect", "edge", "wrap", "nearest", "linear", "cubic"),
    "coordinate_transformation_mode": ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "tf_crop_and_resize"),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    "direction": ("forward", "reverse", "bidirectional"),
    "pads": ([0, 0, 0, 0], [1, 0, 1, 0], [1, 0], [3, 0, 0, 0], [0, 0, -1, 0]),
    "strides": ([1, 1], [2, 2], [3, 1], [0, 1], [-1, 1], [1]),
    "dilations": ([1, 1], [2, 1], [2**31, 1], [0, 1], [1]),
    "kernel_shape": ([1, 1], [2, 1], [3, 1], [3, 3], [2**31, 1], [0, 1]),
    "output_padding": ([0, 0], [1, 0], [5, 0]),
    "output_shape": ([8, 1], [16, 1], [2**40, 1]),
    "perm": ([0, 1, 2, 3], [0, 2, 3, 1], [0, 1, 2], [0, 0, 1, 2], [3, 2, 1]),
    "to": (1, 2, 3, 6, 7, 9, 10, 11, 16),
}
"""Values that an attribute may have somewhere, though perhaps not here."""


def _legal_attributes(model: onnx.ModelProto, node: onnx.NodeProto) -> dict[str, int]:
    try:
        schema = onnx.defs.get_schema(node.op_type, model.opset_import[0].version, node.domain)
    except (onnx.defs.SchemaError, IndexError, TypeError):
        return {}
    return {name: int(attribute.type.value) for name, attribute in schema.attributes.items()}


def _change_attribute(model: onnx.ModelProto, rng: random.Random) -> str:
    """Another value, mostly of an attribute that the operator has and mostly one that is nearly right."""
    node = rng.choice(model.graph.node)
    legal = _legal_attributes(model, node)
    held = {item.name: item for item in node.attribute}
    draw = rng.random()
    if held and draw < 0.15:
        name = rng.choice(sorted(held))
        node.attribute.remove(held[name])
        return f"{node.op_type}: {name} removed"
    if held and draw < 0.5:
        name = rng.choice(sorted(held))
        value = _near(helper.get_attribute_value(held[name]), rng)
    elif legal and draw < 0.85:
        name = rng.choice(sorted(legal))
        value = rng.choice(KNOWN_VALUES.get(name, (_edge(rng), rng.choice(REALS))))
        if isinstance(value, int | float) and legal[name] == onnx.AttributeProto.FLOAT:
            value = float(value)
    else:
        name = rng.choice((*ATTRIBUTES, *sorted(legal)))
        value = _attribute_value(rng)
    made = helper.make_attribute(name, value)
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, made])
    return f"{node.op_type}: {name} = {str(value)[:60]!r}"


def _rename(model: onnx.ModelProto, rng: random.Random) -> str:
    """A tensor or a node gets another name everywhere: the model stays right."""
    graph = model.graph
    new = rng.choice(NAMES)
    if rng.random() < 0.3:
        rng.choice(graph.node).name = new
        return f"node named {new[:20]!r}"
    held = [*graph.input, *graph.output, *graph.initializer, *graph.value_info]
    old = rng.choice([item.name for item in held] + [name for node in graph.node for name in node.output])
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for item in held:
        if item.name == old:
            item.name = new
    return f"tensor {old[:20]!r} named {new[:20]!r}"


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
        change = rng.choice((_change_attribute, _change_attribute, _change_constant, _change_node, _change_interface, _rename))
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


def _data(folder: Path, rng: random.Random, samples: np.ndarray, damaged: bool) -> tuple[str, list[str]]:
    """A file of samples."""
    suffix = rng.choice((".npy", ".npz", ".csv"))
    path = folder / f"data{suffix}"
    x = samples
    changes: list[str] = []
    if damaged and rng.random() < 0.6:
        kind = rng.choice(
            ("empty", "nan", "rank", "int", "one", "double", "object", "transpose", "large", "complex", "fortran")
        )
        changes.append(f"data: {kind}")
        with np.errstate(all="ignore"):
            x = {
                "empty": lambda: x[:0],
                "rank": lambda: x.reshape(-1),
                "int": lambda: (x * 50).astype(np.int8),
                "one": lambda: x[:1],
                "double": lambda: x.astype(np.float64),
                "object": lambda: x.astype(str),
                "transpose": lambda: x.T,
                "nan": lambda: np.where(x > 1, rng.choice((np.nan, np.inf, 1e38, -1e38)), x).astype(np.float32),
                "large": lambda: (x * np.float32(rng.choice((1e6, 1e20, 1e38, 1e-40)))).astype(np.float32),
                "complex": lambda: x.astype(np.complex64),
                "fortran": lambda: np.asfortranarray(x),
            }[kind]()
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".npz":
        np.savez(path, **{rng.choice(("input", "input", "x", "other") if damaged else ("input",)): x})
    else:
        text = "\n".join(",".join(str(value) for value in row.reshape(-1)) for row in x.reshape(len(x), -1)) if x.size else ""
        if damaged and rng.random() < 0.7:
            text, what = _mutate_text(text.replace(",", " "), rng)
            text = text.replace(" ", rng.choice((",", ";", "\t")))
            changes.append(what)
        path.write_text(text, encoding="utf-8", errors="replace")
    if damaged and suffix != ".csv" and (not changes or rng.random() < 0.2):
        content, what = _mutate_bytes(path.read_bytes(), rng)
        path.write_bytes(content)
        changes.append(f"{suffix} {what}")
    return path.name, changes


def _dump(folder: Path, rng: random.Random, outputs: np.ndarray, damaged: bool) -> tuple[str, list[str]]:
    """The output of one sample, or of all, as a device writes it."""
    values = outputs[rng.randrange(SAMPLES)] if rng.random() < 0.6 else outputs
    numbers = [int(value) if value == int(value) else float(value) for value in values.reshape(-1).tolist()]
    form = rng.choice(("txt", "c", "csv", "hex", "bin", "dat", "npy", "npz"))
    name = f"dump.{form}"
    changes = [f"dump: {form}"]
    whole = [int(value) for value in numbers]
    text = {
        "txt": " ".join(map(str, numbers)),
        "c": f"int8_t y[{len(numbers)}] = {{ {', '.join(map(str, numbers))} }};\n",
        "csv": ", ".join(map(str, numbers)),
        "dat": "1651 1 c000 0 1\n" + "\n".join(f"0x{value % 65536:04x}" for value in whole),
        "hex": _intel_hex(bytes(value % 256 for value in whole)),
    }.get(form)
    if text is not None:
        for _ in range(rng.choice((1, 1, 2)) if damaged else 0):
            text, what = _mutate_text(text, rng)
            changes.append(what)
        (folder / name).write_bytes(text.encode("utf-8", "replace"))
        return name, changes
    if form == "bin":
        (folder / name).write_bytes(bytes(value % 256 for value in whole))
    elif form == "npy":
        np.save(folder / name, values)
    else:
        np.savez(folder / name, **{rng.choice(("output", "y")): values})
    if damaged:
        content, what = _mutate_bytes((folder / name).read_bytes() or b"\0", rng)
        (folder / name).write_bytes(content)
        changes.append(what)
    return name, changes


def _intel_hex(content: bytes) -> str:
    lines = []
    for start in range(0, len(content), 16):
        record = bytes((len(content[start : start + 16]), start >> 8, start & 255, 0)) + content[start : start + 16]
        lines.append(f":{(record + bytes((-sum(record) % 256,))).hex().upper()}\n")
    return "".join(lines) + ":00000001FF\n"


def _golden(folder: Path, rng: random.Random, files: Mapping[str, bytes], damaged: bool) -> list[str]:
    """A golden folder, one or two of its files damaged."""
    changes = []
    for name, content in files.items():
        path = folder / "golden" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for _ in range(rng.choice((1, 1, 2)) if damaged else 0):
        # the manifest is what everything else rests on
        name = "manifest.json" if rng.random() < 0.4 else rng.choice(sorted(files))
        path = folder / "golden" / name
        if path.is_dir():  # by the change before
            continue
        draw = rng.random()
        if draw < 0.1:
            path.unlink(missing_ok=True)
            changes.append(f"{name}: removed")
        elif draw < 0.2:
            path.unlink(missing_ok=True)
            path.mkdir(exist_ok=True)
            changes.append(f"{name}: a folder")
        elif path.is_file() and name == "manifest.json":
            text, what = _mutate_json(path.read_text(encoding="utf-8"), rng)
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            changes.append(f"{name}: {what}")
        elif path.is_file():
            text_file = path.suffix in (".c", ".h", ".json")
            if text_file:
                text, what = _mutate_text(path.read_text(encoding="utf-8", errors="replace"), rng)
                path.write_text(text, encoding="utf-8", errors="replace")
            else:
                content, what = _mutate_bytes(path.read_bytes() or b"\0", rng)
                path.write_bytes(content)
            changes.append(f"{name}: {what}")
    return changes


def _mutate_json(text: str, rng: random.Random) -> tuple[str, str]:
    """A value somewhere inside becomes another, or is gone."""
    try:
        document = json.loads(text)
    except ValueError:
        return _mutate_text(text, rng)
    holder, place = document, None
    while isinstance(holder, dict | list) and holder:
        key = rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        if not isinstance(holder[key], dict | list) or not holder[key] or rng.random() < 0.3:
            place = key
            break
        holder = holder[key]
    if place is None or rng.random() < 0.1:
        return _mutate_text(text, rng)
    if rng.random() < 0.2:
        del holder[place]
        return json.dumps(document), f"{place} removed"
    values = (None, True, -1, 0, 2**64, 1.5, "", [], {}, "../../up", "/dev/zero", *NAMES, [[[]]], {"a": 1}, "9" * 300)
    held = holder[place]
    holder[place] = rng.choice(values)
    if isinstance(held, int) and rng.random() < 0.5:
        holder[place] = held + rng.choice((-1, 1, 2**31))
    return json.dumps(document), f"{place} = {str(holder[place])[:30]!r}"


# ------------------------------------------------------------------------------------------------------------------------ cases


def _damaged_model(name: str, content: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    suffix = Path(name).suffix
    if rng.random() < 0.1:
        damaged, what = _mutate_bytes(content, rng)
        return damaged, [what]
    if suffix == ".onnx":
        return _mutate_onnx(content, rng)
    if suffix == ".tflite":
        return _mutate_tflite(content, rng)
    text, what = _mutate_text(content.decode("utf-8", "replace"), rng)
    return text.encode("utf-8", "replace"), [what]


TARGETS = ("model",) * 11 + ("data",) * 3 + ("dump",) * 3 + ("folder",) * 2 + ("two",)
"""What is damaged, and how often of twenty."""


def make_case(number: int, seeds: Seeds, folder: Path) -> Case:
    """Write the files of a case into a folder and choose its command; the number decides everything."""
    rng = random.Random(number)
    target = rng.choice(TARGETS)
    name = rng.choice(sorted(seeds.folders if target == "folder" else seeds.samples))
    # models beside those that samples are known for are read like the TINPU ones
    content = seeds.models[name]
    if target == "model" and (more := sorted(set(seeds.models) - set(seeds.samples))) and rng.random() < 0.5:
        content = seeds.models[rng.choice(more)]
    changes = [name]
    if target in ("model", "two"):
        content, made = _damaged_model(name, content, rng)
        changes.extend(made)
    model = f"model{Path(name).suffix}"
    (folder / model).write_bytes(content)
    (folder / "source.onnx").write_bytes(seeds.models["float.onnx"])
    data, made = _data(folder, rng, seeds.samples[name], target in ("data", "two"))
    dump, dumped = _dump(folder, rng, seeds.outputs[name], target in ("dump", "two"))
    if target == "folder":
        changes.extend(_golden(folder, rng, seeds.folders[name], True))
    command = rng.choice(_commands(target, model, data, dump))
    if data in command:
        changes.extend(made)
    if dump in command:
        changes.extend(dumped)
    if rng.random() < 0.3:
        command = (*command, "--json")
    return Case(number, target, command, tuple(changes))


def _commands(target: str, model: str, data: str, dump: str) -> tuple[tuple[str, ...], ...]:
    """The commands that read what is damaged."""
    with_dump = (
        ("compare", model, "--against", dump, "--data", data),
        ("golden", "check", model, "--inputs", data, "--dump", dump),
        ("golden", "check", model, "--inputs", data, "--dump", dump, "--set", "2"),
    )
    if target == "dump":
        return with_dump
    if target == "folder":
        return (
            ("golden", "verify", "golden"),
            ("golden", "verify", "golden", "--model", model),
            ("golden", "check", "golden", "--dump", dump),
            ("golden", "write", model, data, "-o", "golden", "--force", "--samples", "2"),
        )
    with_data = (
        ("verify", model, data),
        ("run", model, data, "-o", "out.npz", "--trace", "*"),
        ("run", model, data, "-o", "out.npz", "--engine", "reference"),
        ("run", model, data, "-o", "out.npz", "--codes"),
        ("quantize", model, "--calibration", data, "-o", "q.onnx"),
        ("quantize", "source.onnx", "--calibration", data, "-o", "q.onnx", "--weight-bits", "4"),
        ("compare", model, "--against", "source.onnx", "--data", data, "--csv", "t.csv", "--report", "r.html"),
        ("compare", "source.onnx", "--against", model, "--data", data, "--csv", "t.csv", "--csv-samples", "s.csv"),
        ("compare", model, "--against", model, "--data", data),
        ("golden", "write", model, data, "-o", "g", "--format", "c,npz,bin"),
        ("golden", "write", model, data, "-o", "g", "--format", "onnx", "--samples", "2"),
    )
    if target == "data":
        return (*with_data, *with_dump)
    alone = (
        ("inspect", model),
        ("verify", model, "--samples", "8"),
        ("verify", model, "--directed", "--seconds", "0.2"),
        ("bounds", model, "-o", "cert.json"),
        ("bounds", model, "--channels"),
        ("lint", model, "--device", "f28p55x", "--format", "sarif", "-o", "r.sarif"),
        ("lint", model, "--device", "f28p55x", "--fix", "fixed.onnx"),
        ("compare", model, "--against", "ort", "--samples", "8"),
        ("golden", "write", model, "-o", "g", "--samples", "2"),
    )
    return (*alone, *with_data, *with_dump)


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
    gc.collect()
    gc.freeze()  # a collection in a forked process would copy every page


def fuzz(numbers: Iterable[int], seeds: Seeds, report: Callable[[Case, Sequence[str], isolated.Outcome], None]) -> Counter[str]:
    """Run cases; `report` is told of each, with its faults. Returns how often each kind was seen, and the exit codes."""
    _warm()
    counts: Counter[str] = Counter()
    worker = isolated.Worker()
    for number in numbers:
        folder = Path(tempfile.mkdtemp(prefix="npusim-fuzz-"))
        try:
            case = make_case(number, seeds, folder)
            before = isolated.contents(folder)
            outcome = worker.run(case.arguments, folder)
            found = isolated.faults(outcome, folder, before, as_json="--json" in case.arguments)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        counts["cases"] += 1
        counts[f"{case.target}: {'answered' if outcome.code in (0, 1) else 'refused'}"] += 1
        counts.update(found)
        report(case, found, outcome)
    worker.close()
    return counts
