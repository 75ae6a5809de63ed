"""Writing TensorFlow Lite files, and C headers that hold them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import flatbuffers
import numpy as np

from npusim.graph.tflite_model import TfliteModel, TfliteOperator, TfliteTensor
from npusim.graph.tflite_reader import IDENTIFIER
from npusim.graph.tflite_schema import CUSTOM, ENUMERATIONS, OPERATORS, OPTIONS, TYPE_NAMES

__all__ = ["c_header", "serialize_tflite"]

DATA_ALIGNMENT: Final = 16
"""Bytes; runtimes read weights in place, with vector instructions."""

BYTES_PER_LINE: Final = 12


def serialize_tflite(model: TfliteModel) -> bytes:
    """The bytes of a ``.tflite`` file, which :func:`~npusim.graph.tflite_reader.parse_tflite` reads back as the same model.

    Buffer 0 is empty, as the format demands; every constant has a buffer of its own, aligned to 16 bytes.
    """
    builder = flatbuffers.Builder(1024)
    constants = [tensor.data for tensor in model.tensors if tensor.data is not None]
    contents = [b"", *(np.ascontiguousarray(data, data.dtype.newbyteorder("<")).tobytes() for data in constants)]
    buffers = _tables(builder, [_buffer(builder, content) for content in contents])
    codes = list(dict.fromkeys((operator.name, operator.version) for operator in model.operators))
    operators = _tables(builder, [_operator(builder, operator, codes) for operator in model.operators])
    numbers = iter(range(1, len(contents)))
    placed = [0 if tensor.data is None else next(numbers) for tensor in model.tensors]
    tensors = _tables(builder, [_tensor(builder, tensor, buffer) for tensor, buffer in zip(model.tensors, placed, strict=True)])
    graph = _table(
        builder,
        5,
        tensors=(0, tensors),
        inputs=(1, _numbers(builder, model.inputs, 4)),
        outputs=(2, _numbers(builder, model.outputs, 4)),
        operators=(3, operators),
        name=(4, builder.CreateString("main")),
    )
    description = builder.CreateString(model.description)
    listed, graphs = _tables(builder, [_code(builder, name, version) for name, version in codes]), _tables(builder, [graph])
    builder.StartObject(5)
    builder.PrependUint32Slot(0, 3, 0)
    for slot, offset in ((1, listed), (2, graphs), (3, description), (4, buffers)):
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    builder.Finish(builder.EndObject(), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def c_header(content: bytes, name: str, *, source: bool = False) -> str:
    """A model as a C array that firmware compiles in: ``const unsigned char NAME[]``, aligned to 16 bytes, and ``NAME_len``.

    Parameters
    ----------
    content
        A model's bytes.
    name
        A C identifier.
    source
        For a file that is compiled and not included: both have external linkage in C++ as well, without name mangling.

    Raises
    ------
    ValueError
        If `name` is not a C identifier.

    Examples
    --------
    >>> print(c_header(b"TFL3", "model"))  # doctest: +ELLIPSIS
    #pragma once
    ...
    NPUSIM_ALIGN const unsigned char model[] = {
      0x54, 0x46, 0x4c, 0x33
    };
    const unsigned int model_len = 4;
    <BLANKLINE>
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(f"'{name}' is not a C identifier")
    lines = [
        "  " + ", ".join(f"0x{byte:02x}" for byte in content[first : first + BYTES_PER_LINE])
        for first in range(0, len(content), BYTES_PER_LINE)
    ]
    linkage = (
        "#if defined(__cplusplus)\n"
        f'extern "C" {{\nextern const unsigned char {name}[];\nextern const unsigned int {name}_len;\n}}\n#endif\n\n'
    )
    return (
        (linkage if source else "#pragma once\n\n")
        + "// A TensorFlow Lite model. Runtimes read it in place, so it is aligned.\n"
        "#if defined(__cplusplus)\n#define NPUSIM_ALIGN alignas(16)\n"
        "#elif defined(__GNUC__)\n#define NPUSIM_ALIGN __attribute__((aligned(16)))\n"
        "#else\n#define NPUSIM_ALIGN\n#endif\n\n"
        f"NPUSIM_ALIGN const unsigned char {name}[] = {{\n" + ",\n".join(lines) + f"\n}};\n"
        f"const unsigned int {name}_len = {len(content)};\n"
    )


def _table(builder: flatbuffers.Builder, count: int, **offsets: tuple[int, int]) -> int:
    builder.StartObject(count)
    for slot, offset in offsets.values():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _tables(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _numbers(builder: flatbuffers.Builder, values: Sequence[int] | Sequence[float], size: int, *, real: bool = False) -> int:
    put: Callable[[int | float], None] = (
        builder.PrependFloat32 if real else builder.PrependInt64 if size == 8 else builder.PrependInt32
    )
    builder.StartVector(size, len(values), size)
    for value in reversed(values):
        put(value)
    return int(builder.EndVector())


def _buffer(builder: flatbuffers.Builder, content: bytes) -> int:
    if not content:
        return _table(builder, 3)
    builder.StartVector(1, len(content), DATA_ALIGNMENT)
    builder.head -= len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    return _table(builder, 3, data=(0, int(builder.EndVector())))


def _code(builder: flatbuffers.Builder, name: str, version: int) -> int:
    custom = builder.CreateString(name.partition(":")[2]) if name.startswith("CUSTOM:") else 0
    number = CUSTOM if custom else OPERATORS.index(name)
    builder.StartObject(4)
    builder.PrependInt8Slot(0, min(number, 127), 0)
    builder.PrependUOffsetTRelativeSlot(1, custom, 0)
    builder.PrependInt32Slot(2, version, 1)
    builder.PrependInt32Slot(3, number, 0)
    return int(builder.EndObject())


def _operator(builder: flatbuffers.Builder, operator: TfliteOperator, codes: Sequence[tuple[str, int]]) -> int:
    inputs, outputs = _numbers(builder, operator.inputs, 4), _numbers(builder, operator.outputs, 4)
    options, listed = _options(builder, operator), OPTIONS.get(operator.name)
    builder.StartObject(9)
    builder.PrependUint32Slot(0, codes.index((operator.name, operator.version)), 0)
    builder.PrependUOffsetTRelativeSlot(1, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(2, outputs, 0)
    if listed is not None:
        builder.PrependUint8Slot(3, listed.number, 0)
        builder.PrependUOffsetTRelativeSlot(4, options, 0)
    return int(builder.EndObject())


def _options(builder: flatbuffers.Builder, operator: TfliteOperator) -> int:
    fields = OPTIONS[operator.name].fields if operator.name in OPTIONS else ()
    lists = {field.name: _numbers(builder, operator.integers(field.name), 4) for field in fields if field.kind == "int32s"}
    builder.StartObject(len(fields))
    for field in fields:
        slot, value = (field.slot - 4) // 2, operator.options.get(field.name, field.default)
        if field.kind == "int32s":
            builder.PrependUOffsetTRelativeSlot(slot, lists[field.name], 0)
        elif field.kind in ENUMERATIONS:
            builder.PrependInt8Slot(slot, ENUMERATIONS[field.kind].index(value) if isinstance(value, str) else value, None)
        elif field.kind == "float32":
            builder.PrependFloat32Slot(slot, value, None)
        elif field.kind == "bool":
            builder.PrependBoolSlot(slot, bool(value), None)
        else:
            builder.PrependInt32Slot(slot, value, None)
    return int(builder.EndObject())


def _tensor(builder: flatbuffers.Builder, tensor: TfliteTensor, buffer: int) -> int:
    name, shape = builder.CreateString(tensor.name), _numbers(builder, tensor.shape, 4)
    signature = _numbers(builder, tensor.signature, 4) if tensor.signature else 0
    quantization = 0
    if tensor.scales:
        scales = _numbers(builder, tensor.scales, 4, real=True)
        points = _numbers(builder, tensor.zero_points, 8)
        builder.StartObject(7)
        builder.PrependUOffsetTRelativeSlot(2, scales, 0)
        builder.PrependUOffsetTRelativeSlot(3, points, 0)
        builder.PrependInt32Slot(6, tensor.axis, 0)
        quantization = builder.EndObject()
    builder.StartObject(10)
    builder.PrependUOffsetTRelativeSlot(0, shape, 0)
    builder.PrependInt8Slot(1, TYPE_NAMES.index(tensor.type), 0)
    builder.PrependUint32Slot(2, buffer, 0)
    builder.PrependUOffsetTRelativeSlot(3, name, 0)
    builder.PrependUOffsetTRelativeSlot(4, quantization, 0)
    builder.PrependBoolSlot(5, tensor.variable, False)
    builder.PrependUOffsetTRelativeSlot(7, signature, 0)
    return int(builder.EndObject())
