"""Reading TensorFlow Lite files: with the writer the only module that knows their tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.graph.flat_tables import FlatTable, root_table
from npusim.graph.graph import Array, Attribute, Graph, Node, Quantization, TensorType, sort_topologically
from npusim.graph.tflite_model import TfliteModel, TfliteOperator, TfliteTensor
from npusim.graph.tflite_schema import CUSTOM, DTYPES, ENUMERATIONS, OPERANDS, OPERATORS, OPTIONS, TYPE_NAMES, OptionField

__all__ = ["IDENTIFIER", "is_tflite", "parse_tflite", "read_tflite", "tensor_names"]

IDENTIFIER: Final = b"TFL3"
LARGEST_TENSOR: Final = 2**31
"""Elements; a shape that asks for more is damage."""


def is_tflite(content: bytes) -> bool:
    """Whether bytes are a TensorFlow Lite file, by the identifier behind the first offset."""
    return content[4:8] == IDENTIFIER


def parse_tflite(content: bytes, label: str) -> TfliteModel:
    """Parse a file; nothing is interpreted, everything is checked.

    Parameters
    ----------
    content
        The bytes.
    label
        How messages name the file.

    Raises
    ------
    ModelError
        If an offset, a length, an index, a shape or a scale contradicts the rest of the file.
    UnsupportedError
        If the file is sound, but holds what npusim does not simulate: several subgraphs, sparse tensors, element types that
        NumPy does not have.
    """
    if not is_tflite(content):
        raise ModelError(f"{label} is not a TensorFlow Lite model: bytes 4 to 7 are {content[4:8]!r}, wanted {IDENTIFIER!r}")
    root = root_table(content, label)
    version = root.integer(4, "uint32")
    if version != 3:
        raise UnsupportedError(f"{label} has version {version} of the TensorFlow Lite schema, npusim reads version 3")
    subgraphs = root.tables(8)
    if len(subgraphs) != 1:
        raise UnsupportedError(
            f"{label} has {len(subgraphs)} subgraphs, npusim simulates models with one; export it without control flow"
        )
    file = _File(label, tuple(_operator_name(table, label) for table in root.tables(6)), tuple(root.tables(12)))
    graph = subgraphs[0]
    tensors = tuple(file.tensor(table, index) for index, table in enumerate(graph.tables(4)))
    operators = tuple(file.operator(table, len(tensors)) for table in graph.tables(10))
    inputs, outputs = file.indices(graph, 6, len(tensors)), file.indices(graph, 8, len(tensors))
    return TfliteModel(tensors, operators, inputs, outputs, root.text(10))


def read_tflite(content: bytes, label: str) -> Graph:
    """Parse a file into a graph with TensorFlow Lite's operators; tensors keep their scales and zero points.

    Tensors are named as in the file; where names are missing or used twice, their number is added.

    Raises
    ------
    ModelError
        If the file contradicts itself.
    UnsupportedError
        If it holds what npusim does not simulate.
    """
    model = parse_tflite(content, label)
    names = tensor_names(model)
    known = {name for name, tensor in zip(names, model.tensors, strict=True) if tensor.data is not None}
    inputs, outputs = (tuple(names[index] for index in places) for places in (model.inputs, model.outputs))
    if not outputs or len(set(inputs)) < len(inputs) or known & set(inputs):
        raise ModelError(
            f"{label} has inputs {list(inputs)} and outputs {list(outputs)}: outputs, and inputs that differ, are wanted"
        )
    nodes = tuple(
        Node(
            operator.name,
            "",
            tuple(names[index] if index >= 0 else "" for index in operator.inputs),
            tuple(names[index] for index in operator.outputs),
            operator.options,
        )
        for operator in model.operators
    )
    _check_operands(nodes, label)
    variable = next((name for name, tensor in zip(names, model.tensors, strict=True) if tensor.variable), None)
    types = {name: _type(tensor, name, label) for name, tensor in zip(names, model.tensors, strict=True)}
    return Graph(
        3,
        inputs,
        outputs,
        sort_topologically(nodes, {*inputs, *known} if variable is None else {*inputs, *known, variable}, outputs),
        {name: tensor.data for name, tensor in zip(names, model.tensors, strict=True) if tensor.data is not None},
        types,
        format="tflite",
        quantization={
            name: Quantization(np.array(tensor.scales, np.float32), np.array(tensor.zero_points, np.int64), tensor.axis)
            for name, tensor in zip(names, model.tensors, strict=True)
            if tensor.scales
        },
    )


def tensor_names(model: TfliteModel) -> list[str]:
    """The names that a graph's tensors have, by their numbers in the file; missing or double ones get their number."""
    return _unique_names([tensor.name for tensor in model.tensors])


def _unique_names(given: Sequence[str]) -> list[str]:
    count = Counter(given)
    return [name if name and count[name] == 1 else f"{name or 'tensor'}:{index}" for index, name in enumerate(given)]


def _check_operands(nodes: Sequence[Node], label: str) -> None:
    """Make sure that every operator has as many operands as its runtimes read."""
    for node in nodes:
        fewest, outputs = OPERANDS.get(node.op_type, (0, 0))
        if len(node.inputs) < fewest or not all(node.inputs[:fewest]) or len(node.outputs) < outputs:
            raise ModelError(
                f"a {node.op_type} of {label} has {len(node.inputs)} inputs, wanted {fewest} at least; the file is damaged"
            )


def _type(tensor: TfliteTensor, name: str, label: str) -> TensorType:
    dtype = DTYPES.get(tensor.type)
    if dtype is None:
        raise UnsupportedError(f"tensor '{name}' of {label} has elements of type {tensor.type}, which npusim does not simulate")
    return TensorType(dtype, tensor.shape)


def _operator_name(table: FlatTable, label: str) -> tuple[str, int]:
    """Name and version; files from before 128 operators existed keep the number in the first field, later ones in the last."""
    number = max(table.integer(4, "int8"), table.integer(10, "int32"))
    version = table.integer(8, "int32", 1)
    if number == CUSTOM:
        return f"CUSTOM:{table.text(6)}", version
    if not 0 <= number < len(OPERATORS):
        raise UnsupportedError(f"{label} uses the operator with number {number}, which npusim does not know")
    return OPERATORS[number], version


@dataclass(frozen=True, slots=True)
class _File:
    """What the parts of a file refer to."""

    label: str
    codes: tuple[tuple[str, int], ...]
    buffers: tuple[FlatTable, ...]

    def indices(self, table: FlatTable, slot: int, count: int, *, optional: bool = False) -> tuple[int, ...]:
        """A list of tensor numbers."""
        numbers = tuple(int(number) for number in table.numbers(slot, "int32"))
        for number in numbers:
            if not (0 <= number < count or (optional and number == -1)):
                raise ModelError(f"{self.label} is damaged: it refers to tensor {number}, but has {count}")
        return numbers

    def operator(self, table: FlatTable, count: int) -> TfliteOperator:
        """An operator call."""
        code = table.integer(4, "uint32")
        if code >= len(self.codes):
            raise ModelError(f"{self.label} is damaged: it refers to operator code {code}, but has {len(self.codes)}")
        name, version = self.codes[code]
        inputs, outputs = self.indices(table, 6, count, optional=True), self.indices(table, 8, count)
        return TfliteOperator(name, inputs, outputs, self._options(table, name), version)

    def _options(self, table: FlatTable, name: str) -> dict[str, Attribute]:
        listed = OPTIONS.get(name)
        if listed is None:
            return {}
        number, options = table.integer(10, "uint8"), table.table(12)
        if number not in (0, listed.number):
            raise ModelError(f"{self.label} is damaged: a {name} has options of kind {number}, wanted {listed.number}")
        if options is None or number == 0:
            return {field.name: _default(field) for field in listed.fields}
        return {field.name: self._option(options, field, name) for field in listed.fields}

    def _option(self, table: FlatTable, field: OptionField, operator: str) -> Attribute:
        if field.kind == "int32s":
            return tuple(int(number) for number in table.numbers(field.slot, "int32"))
        if field.kind == "float32":
            value = table.real(field.slot, float(field.default))
            if not math.isfinite(value):
                raise ModelError(f"{self.label} is damaged: option '{field.name}' of a {operator} is {value}")
            return value
        if field.kind in ENUMERATIONS:
            names, number = ENUMERATIONS[field.kind], table.integer(field.slot, "int8", int(field.default))
            if not 0 <= number < len(names):
                raise ModelError(f"{self.label} is damaged: option '{field.name}' of a {operator} is number {number}")
            return names[number]
        return table.integer(field.slot, field.kind, int(field.default))

    def tensor(self, table: FlatTable, index: int) -> TfliteTensor:
        """A tensor with its constant value and quantization."""
        where = f"tensor {index} '{table.text(10)}' of {self.label}"
        number = table.integer(6, "int8")
        if not 0 <= number < len(TYPE_NAMES):
            raise ModelError(f"{where} has element type number {number}, which the format does not define")
        if table.table(16) is not None:
            raise UnsupportedError(f"{where} is sparse, which npusim does not simulate; convert the model without sparsity")
        shape, signature = self._shape(table, 4, where), tuple(int(size) for size in table.numbers(18, "int32"))
        if signature and len(signature) != len(shape):
            raise ModelError(f"{where} has {len(shape)} axes, but a signature of {len(signature)}")
        data = self._data(table.integer(8, "uint32"), TYPE_NAMES[number], shape, where)
        scales, zero_points, axis = _quantization(table.table(12), shape, TYPE_NAMES[number], where)
        variable = bool(table.integer(14, "bool"))
        return TfliteTensor(table.text(10), TYPE_NAMES[number], shape, signature, data, scales, zero_points, axis, variable)

    def _shape(self, table: FlatTable, slot: int, where: str) -> tuple[int, ...]:
        shape = tuple(int(size) for size in table.numbers(slot, "int32"))
        if min(shape, default=0) < 0 or len(shape) > 8 or math.prod(shape) > LARGEST_TENSOR:
            raise ModelError(f"{where} has the shape {_shortened(shape)}, wanted at most 8 sizes of 0 or more, 2**31 elements")
        return shape

    def _data(self, buffer: int, type_name: str, shape: tuple[int, ...], where: str) -> Array | None:
        if buffer >= len(self.buffers):
            raise ModelError(f"{where} refers to buffer {buffer}, but there are {len(self.buffers)}")
        if self.buffers[buffer].integer(6, "uint64") > 1:
            raise UnsupportedError(
                f"{where} keeps its data behind the model, as files above 2 GB do; npusim does not read them"
            )
        content = self.buffers[buffer].numbers(4, "uint8")
        if content.size == 0:
            return None
        dtype = DTYPES.get(type_name)
        if dtype is None:
            raise UnsupportedError(f"{where} has elements of type {type_name}, which npusim does not simulate")
        if content.size != math.prod(shape) * dtype.itemsize:
            raise ModelError(
                f"{where} is damaged: its buffer has {content.size} bytes, wanted {math.prod(shape) * dtype.itemsize} "
                f"for shape {shape} of {type_name}"
            )
        return np.frombuffer(content.tobytes(), dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _default(field: OptionField) -> Attribute:
    if field.kind == "int32s":
        return ()
    return ENUMERATIONS[field.kind][int(field.default)] if field.kind in ENUMERATIONS else field.default


def _quantization(
    table: FlatTable | None, shape: tuple[int, ...], type_name: str, where: str
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    """Scales, zero points and axis; nothing where the tensor has no scale."""
    scales = () if table is None else tuple(float(scale) for scale in table.numbers(8, "float32"))
    if table is None or not scales:
        return (), (), 0
    zero_points = tuple(int(point) for point in table.numbers(10, "int64")) or (0,) * len(scales)
    axis = table.integer(16, "int32")
    if len(zero_points) == 1:
        zero_points *= len(scales)
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ModelError(f"{where} has the scale {next(s for s in scales if not (math.isfinite(s) and s > 0))}, wanted above 0")
    if len(zero_points) != len(scales):
        raise ModelError(f"{where} has {len(scales)} scales, but {len(zero_points)} zero points")
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise ModelError(f"{where} has {len(scales)} scales along axis {axis}, which does not fit its shape {shape}")
    dtype = DTYPES.get(type_name)
    if dtype is not None and dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        wrong = [point for point in zero_points if not limits.min <= point <= limits.max]
        if wrong:
            raise ModelError(f"{where} has the zero point {wrong[0]}, which {type_name} does not hold")
    return scales, zero_points, axis if len(scales) > 1 else 0


def _shortened(sizes: Sequence[int]) -> str:
    return f"({', '.join(map(str, sizes[:8]))}{', ...' if len(sizes) > 8 else ''})"
