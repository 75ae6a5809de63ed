"""Golden tensors as files without a format of their own: raw binary ones, and those of ONNX's test layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from npusim.files.tensors import tensor_bytes
from npusim.golden.folder.c_text import c_name
from npusim.golden.folder.vectors import GoldenTensor, Role, Vectors, little_endian
from npusim.graph import Array
from npusim.program import Program

__all__ = ["binary_files", "binary_patterns", "channels_last_layout", "declared_tensors", "onnx_files"]

LONGEST_STEM: Final = 80
"""Characters of a tensor's name in a file name; the number before it keeps file names apart."""


def binary_patterns(place: int, tensor: GoldenTensor) -> dict[str, str]:
    """Where a tensor lies as raw binary, by layout, with ``{set}`` for the set's number.

    Parameters
    ----------
    place
        The tensor's place in the folder.
    tensor
        With spatial axes it lies there twice, channels first and channels last.
    """
    stem = f"{place:02d}_{c_name(tensor.name).strip('_')[-LONGEST_STEM:]}"
    layouts = [tensor.layout] if tensor.values.ndim < 3 else [tensor.layout, channels_last_layout(tensor.layout)]
    return {layout: f"bin/set_{{set}}/{stem}.{layout.lower()}.bin" for layout in layouts}


def channels_last_layout(layout: str) -> str:
    """``NHWC`` for ``NCHW``."""
    return f"N{layout[2:]}C"


def binary_files(vectors: Vectors) -> Iterator[tuple[str, bytes]]:
    """Path and content of every raw binary file: one set of one tensor each, lowest byte first."""
    for place, tensor in enumerate(vectors.tensors):
        for layout, pattern in binary_patterns(place, tensor).items():
            values = tensor.values if layout == tensor.layout else tensor.channels_last()
            for number in range(vectors.sets):
                yield pattern.format(set=number), little_endian(values[number])


def onnx_files(program: Program, vectors: Vectors) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file of ONNX's test layout, ``test_data_set_0/input_0.pb`` and so on."""
    for number in range(vectors.sets):
        for role in (Role.INPUT, Role.OUTPUT):
            for place, (name, values) in enumerate(declared_tensors(program, vectors, role)):
                yield f"test_data_set_{number}/{role}_{place}.pb", tensor_bytes(name, values[number : number + 1])


def declared_tensors(program: Program, vectors: Vectors, role: Role) -> list[tuple[str, Array]]:
    """Inputs or outputs in the order and the element types that the model declares, all sets."""
    names = program.inputs if role is Role.INPUT else program.outputs
    return [(name, vectors[name].values.astype(program.tensors[program.resolve(name)].dtype, copy=False)) for name in names]
