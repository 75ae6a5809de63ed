"""The C files of a golden folder: numbers as C source, the vendor's two files, and the harness that compares on the device."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.files.c_text import array_lines, c_name, c_numbers, comment
from npusim.golden.folder.vectors import GoldenTensor, Role, Vectors, byte_sum_of, crc_of
from npusim.graph import Array

__all__ = [
    "CHECK_HEADER",
    "CHECK_SOURCE",
    "C_TYPES",
    "FIRST_VALUES",
    "INPUT_CONFIG",
    "TEST_VECTOR",
    "as_signed_bytes",
    "check_header",
    "check_source",
    "checked_layers",
    "input_config",
    "only_tensor",
    "read_arrays",
    "test_vector",
]

C_TYPES: Final = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "float32": "float",
}
"""C types of the element types that a device holds."""

_ARRAY: Final = re.compile(r"\b(\w+)\s*\[\s*(\d*)\s*\]\s*=\s*\{([^{}]*)\}")
_DIRECTIVE: Final = re.compile(r"^[ \t]*#.*$", re.MULTILINE)


def read_arrays(source: str) -> list[tuple[str, Array]]:
    """Every array of numbers defined in C source that npusim wrote, in order, commented-out ones too, with its values.

    Lines for the preprocessor are passed over, so that values under a condition count as present. Values are float32 where they
    end in ``f``, else int64.

    Raises
    ------
    ValueError
        If an array holds something other than numbers, or another number of them than it declares.
    """
    arrays = []
    for match in _ARRAY.finditer(_DIRECTIVE.sub("", source)):
        texts = [text.strip() for text in match[3].split(",") if text.strip()]
        if match[2] and len(texts) != int(match[2]):
            raise ValueError(f"array '{match[1]}' holds {len(texts)} values and declares {match[2]}")
        arrays.append((match[1], _values(texts)))
    return arrays


def _values(texts: list[str]) -> Array:
    if any(text.endswith("f") for text in texts):
        with np.errstate(over="ignore"):
            return np.array([float(text.removesuffix("f")) for text in texts]).astype(np.float32)
    return np.array([int(text) for text in texts], np.int64)


TEST_VECTOR: Final = "test_vector.c"
INPUT_CONFIG: Final = "user_input_config.h"

_INCLUDES: Final = """#if defined(__C29__) || defined(__TMS320C2000__)
#include "device.h"
#else
#include <stdint.h>
#endif
"""


def origin_lines(file_format: str = "tinpu", arithmetic: str = "npu") -> list[str]:
    """What a comment says of a model that is not for the NPU: the vectors hold in one arithmetic only.

    Examples
    --------
    >>> origin_lines("tflite", "tflm"), origin_lines("tinpu", "npu")
    ([" * Format: tflite; arithmetic: tflm. The vectors hold for this arithmetic only."], [])
    """
    if file_format in ("tinpu", "float"):
        return []
    return [f" * Format: {file_format}; arithmetic: {arithmetic}. The vectors hold for this arithmetic only."]


def test_vector(vectors: Vectors, numbers: Sequence[int], sha256: str, *origin: str) -> str:
    """The text of ``test_vector.c``.

    Parameters
    ----------
    vectors
        What is to be tested.
    numbers
        For each set the number of its sample in the data it comes from.
    sha256
        Of the model file.
    origin
        What the model is written in, and how its integer layers are computed; nothing for the NPU. 8-bit outputs are ``int8_t``
        for the NPU, as its device projects expect, else of their own type.

    Raises
    ------
    UnsupportedError
        If the model has several inputs or outputs, or their values have no literals of the types that the file knows.
    """
    given, output = only_tensor(vectors, Role.INPUT), only_tensor(vectors, Role.OUTPUT)
    _check(given, output)
    lines = [
        "/* Golden vectors, exact to the bit: compare golden_output for equality.",
        f" * Model: SHA-256 {sha256}",
        *origin_lines(*origin),
        f" * {vectors.sets} sets; take the comment marks from one and put them around the other. */",
        _INCLUDES,
    ]
    for index, sample in enumerate(numbers):
        label = f"Set: {index} (Index: {sample})"
        text = [
            f"//{label}: Extracted Features",
            *_array(C_TYPES[given.values.dtype.name], "model_test_input", given.values[index]),
            f"//{label}: Expected Model Output",
            *_array(*_golden(output.values[index], for_npu=not origin_lines(*origin))),
        ]
        lines += text if index == 0 else ["", "/*", *text, "*/"]
    return "\n".join(lines) + "\n"


def input_config(vectors: Vectors) -> str:
    """The text of ``user_input_config.h``."""
    given, output = only_tensor(vectors, Role.INPUT), only_tensor(vectors, Role.OUTPUT)
    _check(given, output)
    shape = given.values.shape[1:]
    flags = (["SKIP_NORMALIZE"] if given.name not in vectors.calls else []) + (["OUTPUT_INT"] if _is_code(output) else [])
    keys = {
        "FE_STACKING_CHANNELS": shape[0] if shape else 1,
        "FE_STACKING_FRAME_WIDTH": math.prod(shape[1:]),
        "FE_NN_OUT_SIZE": math.prod(output.values.shape[1:]),
    }
    lines = [
        "#ifndef INPUT_CONFIG_H_",
        "#define INPUT_CONFIG_H_",
        "",
        *(f"#define {flag}" for flag in flags),
        *(f"#define {key} {value}" for key, value in keys.items()),
        "",
        "#endif /* INPUT_CONFIG_H_ */",
    ]
    return "\n".join(lines) + "\n"


def only_tensor(vectors: Vectors, role: Role) -> GoldenTensor:
    """The one input or the one output.

    Raises
    ------
    UnsupportedError
        If there are several or none.
    """
    tensors = vectors.of(role)
    if len(tensors) != 1:
        names = comment(", ".join(f"'{tensor.name}'" for tensor in tensors)) or "none"
        raise UnsupportedError(
            f"C files hold one input and one output, the model's {role}s are {names}; leave c out of --format"
        )
    return tensors[0]


def as_signed_bytes(values: Array) -> Array:
    """8-bit codes as int8 of the same bits; everything else as it is."""
    return values.view(np.int8) if values.dtype == np.uint8 else values


def _golden(values: Array, *, for_npu: bool) -> tuple[str, str, Array]:
    if for_npu and values.dtype.itemsize == 1:
        return "int8_t", "golden_output", as_signed_bytes(np.ascontiguousarray(values))
    return C_TYPES[values.dtype.name], "golden_output", values


def _array(type_name: str, symbol: str, values: Array) -> list[str]:
    return [f"{type_name} {symbol}[{values.size}] = {{", *array_lines(c_numbers(values)), "} ;"]


def _is_code(tensor: GoldenTensor) -> bool:
    return tensor.values.dtype.kind != "f"


def _check(*tensors: GoldenTensor) -> None:
    for tensor in tensors:
        if tensor.values.dtype.name not in C_TYPES:
            raise UnsupportedError(
                f"tensor '{tensor.name}' is {tensor.values.dtype}, and test_vector.c knows {', '.join(C_TYPES)} only; "
                "leave c out of --format"
            )


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


def check_header(vectors: Vectors, module: str, sha256: str, *origin: str) -> str:
    """The text of ``npusim_check.h``.

    Parameters
    ----------
    vectors
        What is to be checked.
    module
        Module name of the compiled model, ``default`` unless the compiler was told otherwise.
    sha256
        Of the model file.
    origin
        As for :func:`test_vector`.

    Raises
    ------
    UnsupportedError
        If the compiled model has several inputs or outputs, or elements that devices do not hold.
    """
    given, output = _ends(vectors)
    layers = checked_layers(vectors)
    text = Template(_template("npusim_check.h.txt")).substitute(
        sha256=sha256,
        sha8=sha256[:8],
        origin="".join(f"\n{line}" for line in origin_lines(*origin)),
        wait="" if _is_invoked(*origin) else f", for example: while (!tvmgen_{c_name(module)}_finished) {{}}",
        macros="" if _is_invoked(*origin) else _COMPILED_MACROS,
        given=_GIVEN if _is_invoked(*origin) else "",
        first=FIRST_VALUES,
        sets=vectors.sets,
        layers=len(layers),
        input_values=_size(given),
        output_values=_size(output),
        layer_names="\n".join(f"#define {name} {number}" for number, name in enumerate(_layer_names(layers))),
        input_type=C_TYPES[given.values.dtype.name],
        output_type=C_TYPES[output.values.dtype.name],
    )
    return of_module(text, module)


def check_source(vectors: Vectors, module: str, *origin: str) -> str:
    """The text of ``npusim_check.c``: the golden data and the functions that compare with it.

    Parameters
    ----------
    vectors
        What is to be checked.
    module
        Module name of the compiled model.
    origin
        As for :func:`test_vector`. Models of TensorFlow Lite and of the MATCH family run in a function that the application
        gives, all others in what the NPU's compiler makes.

    Raises
    ------
    UnsupportedError
        As :func:`check_header`.
    """
    given, output = _ends(vectors)
    layers = checked_layers(vectors)
    table = [f"    {{{_KINDS[layer.values.dtype.name]}, {_size(layer)}}}," for layer in layers]
    data = [line for number in range(vectors.sets) for line in _set_data(number, given, output, layers)]
    names = {
        "module": c_name(module),
        "input_field": c_name(only_tensor(vectors, Role.INPUT).name),
        "output_field": c_name(output.name),
    }
    invoked = _is_invoked(*origin)
    text = Template(_template("npusim_check.c.txt")).substitute(
        model="" if invoked else Template(_COMPILED_MODEL).substitute(names),
        declarations="" if invoked else Template(_COMPILED_ARGUMENTS).substitute(names),
        call=_INVOKED_CALL if invoked else Template(_COMPILED_CALL).substitute(names),
        sums=_sums(vectors, layers) if invoked else "",
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
    return of_module(text, module)


_GIVEN_MACROS: Final = "|".join(
    (
        *("CHECK_BOUNDED", "WAIT", "LAYER_HOOK", "PUTCHAR", "GETCHAR", "PRINT_LAYER", "PRINT_SET", "PROBE"),
        *("MODEL_HEADER", "INPUT_FIELD", "OUTPUT_FIELD"),
    )
)
"""Macros that the application defines for the compiler, for each file by itself."""

_SYMBOL: Final = re.compile(rf"\b(npusim|NPUSIM)_(?!check\.[ch]\b)(?!(?:{_GIVEN_MACROS})\b)(?=\w)")


def of_module(text: str, module: str) -> str:
    """C text with the module's name in every symbol and constant, so that the files of two models link together.

    The module ``default`` has none, and macros that the application defines keep their names.

    Examples
    --------
    >>> of_module("npusim_check_all(NPUSIM_LAYERS); /* npusim_check.h */ NPUSIM_WAIT", "motor")
    'npusim_motor_check_all(NPUSIM_MOTOR_LAYERS); /* npusim_check.h */ NPUSIM_WAIT'
    """
    name = c_name(module)
    if name == "default":
        return text
    return _SYMBOL.sub(lambda found: f"{found[1]}_{name.upper() if found[1].isupper() else name}_", text)


def _is_invoked(file_format: str = "tinpu", arithmetic: str = "npu") -> bool:
    """Whether the application runs the model, not what the NPU's compiler makes of it."""
    return file_format in ("tflite", "match")


_COMPILED_MODEL: Final = """#ifndef NPUSIM_MODEL_HEADER
#define NPUSIM_MODEL_HEADER "tvmgen_${module}.h"
#endif
#include NPUSIM_MODEL_HEADER

#ifndef NPUSIM_INPUT_FIELD
#define NPUSIM_INPUT_FIELD ${input_field}
#endif
#ifndef NPUSIM_OUTPUT_FIELD
#define NPUSIM_OUTPUT_FIELD ${output_field}
#endif
"""

_COMPILED_ARGUMENTS: Final = """    struct tvmgen_${module}_inputs inputs;
    struct tvmgen_${module}_outputs outputs;
"""

_COMPILED_CALL: Final = """        inputs.NPUSIM_INPUT_FIELD = npusim_input_buffer;
        outputs.NPUSIM_OUTPUT_FIELD = npusim_output_buffer;
        status = tvmgen_${module}_run(&inputs, &outputs);
"""

_COMPILED_MACROS: Final = """ *   NPUSIM_MODEL_HEADER=file    header of the compiled model, in quotes
 *   NPUSIM_INPUT_FIELD, NPUSIM_OUTPUT_FIELD  members of its structs of inputs and outputs
"""

_INVOKED_CALL: Final = """        status = npusim_invoke(npusim_input_buffer, npusim_output_buffer);
"""

_GIVEN: Final = """
/* The application gives this function: it runs the model on an input of NPUSIM_INPUT_VALUES values, writes
 * NPUSIM_OUTPUT_VALUES of them, and returns 0. With TFLM it copies to interpreter.input(0)->data.raw, calls
 * interpreter.Invoke(), and copies from interpreter.output(0)->data.raw. */
int32_t npusim_invoke(const npusim_input *input, npusim_output *output);

/* The sum of all bytes of a layer's values, read as unsigned: what MATCH and DORY print of a layer. 0 for no such layer. */
uint32_t npusim_layer_sum(uint32_t set, uint32_t layer);
"""


def _sums(vectors: Vectors, layers: Sequence[GoldenTensor]) -> str:
    """The sums of the bytes of all layers, and the function that gives them."""
    rows = []
    for number in range(vectors.sets):
        sums = [f"{byte_sum_of(layer.values[number]) % 2**32}UL" for layer in layers]
        rows += [f"#if NPUSIM_CHECK_SETS > {number}", "    {", *array_lines(sums), "    },", "#endif"]
    return "\n".join(
        [
            "static const uint32_t npusim_sums[NPUSIM_CHECK_SETS][NPUSIM_LAYERS] = {",
            *rows,
            "};",
            "",
            "uint32_t npusim_layer_sum(uint32_t set, uint32_t layer)",
            "{",
            "    return set < NPUSIM_CHECK_SETS && layer < NPUSIM_LAYERS ? npusim_sums[set][layer] : 0;",
            "}",
            "",
            "",
        ]
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
    lines += _harness_array("npusim_input", f"set{number}_input", c_numbers(given.values[number]))
    lines += _harness_array("npusim_output", f"set{number}_output", c_numbers(output.values[number]), bounded=True)
    rows = []
    for place, layer in enumerate(layers):
        orders = [layer.values[number], layer.channels_last()[number]]
        same = orders[0].ndim < 2 or crc_of(orders[0]) == crc_of(orders[1])
        names = [f"set{number}_layer{place}", f"set{number}_layer{place}{'' if same else '_nhwc'}"]
        for name, values in list(zip(names, orders, strict=True))[: 1 if same else 2]:
            lines += _harness_array(C_TYPES[values.dtype.name], name, c_numbers(values.ravel()[:FIRST_VALUES]))
        rows.append(f"    {{{{{names[0]}, {names[1]}}}, {{{_crc(orders[0])}, {_crc(orders[1])}}}}},")
    return [*lines, f"static const npusim_layer_golden set{number}_layers[NPUSIM_LAYERS] = {{", *rows, "};", "#endif"]


def _harness_array(type_name: str, name: str, numbers: Sequence[str], *, bounded: bool = False) -> list[str]:
    lines = [f"static const {type_name} {name}[] = {{"]
    if not bounded or len(numbers) <= FIRST_VALUES:
        return [*lines, *array_lines(numbers), "};"]
    rest = array_lines(numbers[FIRST_VALUES:])
    return [*lines, *array_lines(numbers[:FIRST_VALUES]), "#ifndef NPUSIM_CHECK_BOUNDED", *rest, "#endif", "};"]


def _crc(values: Array) -> str:
    return f"(uint32_t)0x{crc_of(values)}UL"
