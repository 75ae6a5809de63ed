"""The files of a golden folder, raw ones included, held against its manifest and the numbers that they must hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from npusim.errors import InputError
from npusim.files.arrays import sha256_of
from npusim.files.c_text import c_name
from npusim.files.dumps import feature_text
from npusim.files.tensors import read_tensor_file, tensor_bytes
from npusim.findings import Finding
from npusim.golden.folder.c_files import (
    CHECK_HEADER,
    CHECK_SOURCE,
    INPUT_CONFIG,
    TEST_VECTOR,
    check_header,
    check_source,
    input_config,
    read_arrays,
    test_vector,
)
from npusim.golden.folder.manifest import MANIFEST
from npusim.golden.folder.vectors import GoldenTensor, Role, Vectors, little_endian
from npusim.graph import Array
from npusim.program import Program

__all__ = [
    "binary_files",
    "binary_patterns",
    "channels_last_layout",
    "check_contents",
    "check_files",
    "declared_tensors",
    "feature_files",
    "onnx_files",
]

_CRC: Final = re.compile(r"\b0x([0-9a-f]{8})UL\b")
_DEFINE: Final = re.compile(
    r"^#define ((?:FE_|SKIP_NORMALIZE|OUTPUT_INT|NPUSIM_(?:LAYER|ALL_SETS|FIRST_|INPUT_|OUTPUT_[VF]|MODEL_))\w*)(?: (\S+))?$",
    re.MULTILINE,
)
"""Macros that say something about the vectors; later versions of npusim may add others to the files."""

LARGEST_FILE: Final = 2**28
"""Bytes that no file of one tensor, and no C file, comes near to."""

REMEDY: Final = "write the folder again, or take it from where it came from"


def check_files(root: Path, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    """Every file that the manifest names, byte for byte, and none besides."""
    named = {item["path"]: item for item in manifest["files"]}
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}
    for name in sorted(present - named.keys() - {MANIFEST}):
        yield _finding("files", f"the file '{name}' is in the folder, and the manifest does not name it", "move it away")
    for name, item in sorted(named.items()):
        if name not in present:
            yield _finding("files", f"the file '{name}' is missing")
            continue
        if not (root / name).is_file():
            yield _finding("files", f"the file '{name}' is not a regular file but a pipe, a device or a broken link")
            continue
        try:
            # a size that is wrong spares reading a file that may be of any size
            is_same = (root / name).stat().st_size == item["bytes"] and sha256_of(root / name) == item["sha256"]
        except OSError as error:
            yield _finding("files", f"the file '{name}' cannot be read: {error.strerror or error}")
            continue
        if not is_same:
            yield _finding("files", f"the file '{name}' was changed after it was written: its SHA-256 is another one")


def check_contents(root: Path, manifest: Mapping[str, Any], program: Program, vectors: Vectors) -> Iterator[Finding]:
    """What stands in the C files, the binary ones and those of ONNX's layout, against the tensors computed."""
    if "c" in manifest["formats"]:
        yield from _check_c(root, manifest, vectors)
    if "bin" in manifest["formats"]:
        for name, content in binary_files(vectors):
            if _content(root, name) not in (None, content):
                yield _finding("binary", f"the file '{name}' does not hold the values of its tensor")
    if "features" in manifest["formats"]:
        for name, content in feature_files(program, vectors):
            if _content(root, name) not in (None, content):
                yield _finding("features", f"the file '{name}' does not hold the values of its tensor")
    if "onnx" in manifest["formats"]:
        yield from _check_onnx(root, program, vectors)


def _check_c(root: Path, manifest: Mapping[str, Any], vectors: Vectors) -> Iterator[Finding]:
    sha256, module = manifest["model"]["sha256"], manifest["module"]
    numbers = [item["sample"] for item in manifest["sets"]]
    origin = manifest["model"].get("format", "tinpu"), manifest["model"].get("arithmetic", "npu")
    texts = {
        TEST_VECTOR: test_vector(vectors, numbers, sha256, *origin),
        CHECK_SOURCE: check_source(vectors, module, *origin),
        INPUT_CONFIG: input_config(vectors),
        CHECK_HEADER: check_header(vectors, module, sha256, *origin),
    }
    for name, wanted in texts.items():
        content = _content(root, name)
        if content is None:
            continue
        seen = content.decode("ascii", "replace")
        if _DEFINE.findall(seen) != _DEFINE.findall(wanted):
            yield _finding("c_files", f"the file '{name}' defines other macros than it must")
        if _CRC.findall(seen) != _CRC.findall(wanted):
            yield _finding("c_files", f"the file '{name}' holds other CRC-32 sums than its sets have")
        difference = _array_difference(seen, wanted)
        if difference is not None:
            yield _finding("c_files", f"the file '{name}' {difference}")


def _array_difference(seen: str, wanted: str) -> str | None:
    """How the arrays of two C sources differ; None when they are the same."""
    try:
        found = read_arrays(seen)
    except ValueError as error:
        return f"cannot be read: {error}"
    expected = read_arrays(wanted)
    if [name for name, _ in found] != [name for name, _ in expected]:
        return f"defines {len(found)} arrays where {len(expected)} are to be, or others"
    for place, ((name, values), (_, right)) in enumerate(zip(found, expected, strict=True)):
        unequal = _unequal(values, right)
        if unequal is not None:
            return f"differs in array '{name}' (number {place}){unequal}"
    return None


def _unequal(values: Array, right: Array) -> str | None:
    if values.shape != right.shape or values.dtype != right.dtype:
        return f": {values.size} values of {values.dtype} instead of {right.size} of {right.dtype}"
    places = np.flatnonzero(values.view(f"V{values.itemsize}") != right.view(f"V{right.itemsize}"))
    return None if not places.size else f" at index {places[0]}: {values[places[0]]} instead of {right[places[0]]}"


def _check_onnx(root: Path, program: Program, vectors: Vectors) -> Iterator[Finding]:
    tensors = [(role, declared_tensors(program, vectors, role)) for role in (Role.INPUT, Role.OUTPUT)]
    for number in range(vectors.sets):
        for role, declared in tensors:
            for place, (name, values) in enumerate(declared):
                path = f"test_data_set_{number}/{role}_{place}.pb"
                if _content(root, path) is None:
                    continue
                try:
                    label, stored = read_tensor_file(root / path)
                except InputError as error:
                    yield _finding("onnx_files", str(error))
                    continue
                if not _same(label, name, stored, _of_set(program, name, values, number)):
                    yield _finding("onnx_files", f"the file '{path}' does not hold the values of tensor '{name}'")


def _same(label: str, name: str, stored: Array, values: Array) -> bool:
    alike = label == name and stored.dtype == values.dtype and stored.shape == values.shape
    return alike and little_endian(stored) == little_endian(values)


def _content(root: Path, name: str) -> bytes | None:
    """A file's bytes; None where it cannot be read, which `check_files` reports, and nothing of one that is far too large."""
    path = root / name
    try:
        if not path.is_file():
            return None
        return path.read_bytes() if path.stat().st_size <= LARGEST_FILE else b""
    except OSError:
        return None


def _finding(rule: str, message: str, remedy: str = REMEDY) -> Finding:
    return Finding(rule, "error", None, message, remedy)


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


def feature_files(program: Program, vectors: Vectors) -> Iterator[tuple[str, bytes]]:
    """Path and content of the texts that PLiNIO's and DORY's tools read: a folder for each set.

    The input is among them where the model has one input of whole numbers.
    """
    given = [tensor for tensor in vectors.tensors if tensor.role is Role.INPUT]
    whole = len(given) == 1 and bool((given[0].values == np.rint(given[0].values)).all())
    results = {step.output: step.name for step in program.layers}
    layers = [tensor for tensor in vectors.tensors if tensor.name in results]
    for number in range(vectors.sets):
        folder = f"features/set_{number}"
        if whole:
            yield f"{folder}/input.txt", feature_text(given[0].name, given[0].values[number]).encode("utf-8")
        for place, tensor in enumerate(layers):
            text = feature_text(results[tensor.name], tensor.values[number])
            yield f"{folder}/out_layer{place}.txt", text.encode("utf-8")


def onnx_files(program: Program, vectors: Vectors) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file of ONNX's test layout, ``test_data_set_0/input_0.pb`` and so on."""
    for number in range(vectors.sets):
        for role in (Role.INPUT, Role.OUTPUT):
            for place, (name, values) in enumerate(declared_tensors(program, vectors, role)):
                content = tensor_bytes(name, _of_set(program, name, values, number))
                yield f"test_data_set_{number}/{role}_{place}.pb", content


def declared_tensors(program: Program, vectors: Vectors, role: Role) -> list[tuple[str, Array]]:
    """Inputs or outputs in the order and the element types that the model declares, all sets; constants as they are."""
    names = program.inputs if role is Role.INPUT else program.outputs
    sources = {name: program.resolve(name) for name in names}
    passed = {name: vectors[source].values for name, source in sources.items() if source in program.inputs}
    values = {
        name: program.constants[source]
        if source in program.constants
        else passed[name]
        if name in passed
        else vectors[name].values
        for name, source in sources.items()
    }
    return [(name, values[name].astype(program.tensors[source].dtype, copy=False)) for name, source in sources.items()]


def _of_set(program: Program, name: str, values: Array, number: int) -> Array:
    """What one set has of a tensor of :func:`declared_tensors`."""
    source = program.resolve(name)
    if source in program.constants:
        return values
    return values[number : number + 1] if program.tensors[source].shape else values[number]
