"""``test_vector.c`` and ``user_input_config.h``, the two files of golden vectors that device projects compile in.

Symbols, types and their order are those that the projects expect: ``model_test_input`` in float, ``golden_output`` as int8_t
where the application defines OUTPUT_INT and as float where it does not; un-batched tensors in C order; a first set that is
active, and further ones in comments. A uint8 output stands there as the int8_t of the same 8 bits, which is what such an
application reads. Floats are printed so that a compiler reads the very value that the golden output was computed from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.golden.folder.c_text import array_lines, c_numbers, comment
from npusim.golden.folder.vectors import GoldenTensor, Role, Vectors
from npusim.graph import Array

__all__ = ["INPUT_CONFIG", "TEST_VECTOR", "as_signed_bytes", "input_config", "only_tensor", "test_vector"]

TEST_VECTOR: Final = "test_vector.c"
INPUT_CONFIG: Final = "user_input_config.h"

_INCLUDES: Final = """#if defined(__C29__) || defined(__TMS320C2000__)
#include "device.h"
#else
#include <stdint.h>
#endif
"""


def test_vector(vectors: Vectors, numbers: Sequence[int], sha256: str) -> str:
    """The text of ``test_vector.c``.

    Parameters
    ----------
    vectors
        What is to be tested.
    numbers
        For each set the number of its sample in the data it comes from.
    sha256
        Of the model file.

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
        f" * {vectors.sets} sets; take the comment marks from one and put them around the other. */",
        _INCLUDES,
    ]
    for index, sample in enumerate(numbers):
        label = f"Set: {index} (Index: {sample})"
        text = [
            f"//{label}: Extracted Features",
            *_array("float", "model_test_input", given.values[index]),
            f"//{label}: Expected Model Output",
            *_array(*_golden(output.values[index])),
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


def _golden(values: Array) -> tuple[str, str, Array]:
    if values.dtype.itemsize == 1:
        return "int8_t", "golden_output", as_signed_bytes(np.ascontiguousarray(values))
    return "float", "golden_output", values


def _array(type_name: str, symbol: str, values: Array) -> list[str]:
    return [f"{type_name} {symbol}[{values.size}] = {{", *array_lines(c_numbers(values)), "} ;"]


def _is_code(tensor: GoldenTensor) -> bool:
    return tensor.values.dtype.itemsize == 1


def _check(given: GoldenTensor, output: GoldenTensor) -> None:
    for tensor, kinds in ((given, ("float32",)), (output, ("int8", "uint8", "float32"))):
        if tensor.values.dtype.name not in kinds:
            raise UnsupportedError(
                f"tensor '{tensor.name}' is {tensor.values.dtype}, and test_vector.c knows {' and '.join(kinds)} there only; "
                "leave c out of --format"
            )
