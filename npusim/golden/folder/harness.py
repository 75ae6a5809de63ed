"""``npusim_check.h`` and ``npusim_check.c``: C99 that runs all sets on the device and compares exactly; nothing to edit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Final

from npusim.errors import UnsupportedError
from npusim.golden.folder.c_text import C_TYPES, array_lines, c_name, c_numbers
from npusim.golden.folder.vectors import GoldenTensor, Role, Vectors, crc_of
from npusim.golden.folder.vendor_files import only_tensor
from npusim.graph import Array

__all__ = ["CHECK_HEADER", "CHECK_SOURCE", "FIRST_VALUES", "check_header", "check_source", "checked_layers"]

CHECK_HEADER: Final = "npusim_check.h"
CHECK_SOURCE: Final = "npusim_check.c"

FIRST_VALUES: Final = 16
"""Values of each layer, and in bounded mode of each output, that stand in flash; the others are held by their CRC-32 only."""

_KINDS: Final = {
    "int8": "NPUSIM_INT8",
    "uint8": "NPUSIM_UINT8",
    "int16": "NPUSIM_INT16",
    "uint16": "NPUSIM_UINT16",
    "int32": "NPUSIM_INT32",
    "float32": "NPUSIM_FLOAT",
}


def check_header(vectors: Vectors, module: str, sha256: str) -> str:
    """The text of ``npusim_check.h``.

    Parameters
    ----------
    vectors
        What is to be checked.
    module
        Module name of the compiled model, ``default`` unless the compiler was told otherwise.
    sha256
        Of the model file.

    Raises
    ------
    UnsupportedError
        If the compiled model has several inputs or outputs, or elements that devices do not hold.
    """
    given, output = _ends(vectors)
    layers = checked_layers(vectors)
    return Template(_template("npusim_check.h.txt")).substitute(
        sha256=sha256,
        module=c_name(module),
        first=FIRST_VALUES,
        sets=vectors.sets,
        layers=len(layers),
        input_values=_size(given),
        output_values=_size(output),
        layer_names="\n".join(f"#define {name} {number}" for number, name in enumerate(_layer_names(layers))),
        input_type=C_TYPES[given.values.dtype.name],
        output_type=C_TYPES[output.values.dtype.name],
    )


def check_source(vectors: Vectors, module: str) -> str:
    """The text of ``npusim_check.c``: the golden data and the functions that compare with it.

    Raises
    ------
    UnsupportedError
        As :func:`check_header`.
    """
    given, output = _ends(vectors)
    layers = checked_layers(vectors)
    table = [f"    {{{_KINDS[layer.values.dtype.name]}, {_size(layer)}}}," for layer in layers]
    data = [line for number in range(vectors.sets) for line in _set_data(number, given, output, layers)]
    return Template(_template("npusim_check.c.txt")).substitute(
        module=c_name(module),
        input_field=c_name(only_tensor(vectors, Role.INPUT).name),
        output_field=c_name(output.name),
        output_kind=_KINDS[output.values.dtype.name],
        layer_table="\n".join(table),
        data="\n".join(data),
        set_table="\n".join(
            line
            for number in range(vectors.sets)
            for line in (
                f"#if NPUSIM_CHECK_SETS > {number}",
                f"    {{set{number}_input, set{number}_output, {_crc(output.values[number])}, set{number}_layers}},",
                "#endif",
            )
        ),
    )


def checked_layers(vectors: Vectors) -> list[GoldenTensor]:
    """The tensors that ``npusim_check_layer`` knows, in the order of their numbers: all but inputs and 64-bit values."""
    return [tensor for tensor in vectors.tensors if tensor.role is not Role.INPUT and tensor.values.dtype.name in C_TYPES]


def _ends(vectors: Vectors) -> tuple[GoldenTensor, GoldenTensor]:
    only_tensor(vectors, Role.INPUT)
    given, output = vectors[vectors.calls[0]], only_tensor(vectors, Role.OUTPUT)
    for tensor in (given, output):
        if tensor.values.dtype.name not in C_TYPES:
            raise UnsupportedError(
                f"tensor '{tensor.name}' is {tensor.values.dtype}, which the C files do not hold; leave c out of --format"
            )
    return given, output


def _template(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _size(tensor: GoldenTensor) -> int:
    return math.prod(tensor.values.shape[1:])


def _layer_names(layers: Sequence[GoldenTensor]) -> list[str]:
    names = [f"NPUSIM_LAYER_{c_name(layer.name).lstrip('_')}" for layer in layers]
    return [f"{name}_{number}" if names.count(name) > 1 else name for number, name in enumerate(names)]


def _set_data(number: int, given: GoldenTensor, output: GoldenTensor, layers: Sequence[GoldenTensor]) -> list[str]:
    """The arrays of one set."""
    lines = [f"#if NPUSIM_CHECK_SETS > {number}"]
    lines += _array("npusim_input", f"set{number}_input", c_numbers(given.values[number]))
    lines += _array("npusim_output", f"set{number}_output", c_numbers(output.values[number]), bounded=True)
    rows = []
    for place, layer in enumerate(layers):
        orders = [layer.values[number], layer.channels_last()[number]]
        same = orders[0].ndim < 2 or crc_of(orders[0]) == crc_of(orders[1])
        names = [f"set{number}_layer{place}", f"set{number}_layer{place}{'' if same else '_nhwc'}"]
        for name, values in list(zip(names, orders, strict=True))[: 1 if same else 2]:
            lines += _array(C_TYPES[values.dtype.name], name, c_numbers(values.ravel()[:FIRST_VALUES]))
        rows.append(f"    {{{{{names[0]}, {names[1]}}}, {{{_crc(orders[0])}, {_crc(orders[1])}}}}},")
    return [*lines, f"static const npusim_layer_golden set{number}_layers[NPUSIM_LAYERS] = {{", *rows, "};", "#endif"]


def _array(type_name: str, name: str, numbers: Sequence[str], *, bounded: bool = False) -> list[str]:
    lines = [f"static const {type_name} {name}[] = {{"]
    if not bounded or len(numbers) <= FIRST_VALUES:
        return [*lines, *array_lines(numbers), "};"]
    rest = array_lines(numbers[FIRST_VALUES:])
    return [*lines, *array_lines(numbers[:FIRST_VALUES]), "#ifndef NPUSIM_CHECK_BOUNDED", *rest, "#endif", "};"]


def _crc(values: Array) -> str:
    return f"(uint32_t)0x{crc_of(values)}UL"
