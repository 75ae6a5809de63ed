"""Tensors in text as PLiNIO's ``dump_features`` and DORY's examples have them: ``# name (shape [H, W, C])``, one value a line.

The values stand channels last, as a rule. Lines may end in a comma and a backslash, the ``#`` may be missing. Shapes in
headers are not relied on: DORY's own examples repeat that of their first layer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.files.dumps.dump import Dump, DumpArray, Role
from npusim.files.dumps.numbers import Source
from npusim.graph import Array

__all__ = [
    "FEATURES",
    "channels_first",
    "channels_last",
    "feature_text",
    "files_of",
    "is_feature_text",
    "read_features",
    "read_features_folder",
]

FEATURES: Final = "features"
"""Name of the format."""

_HEADER: Final = re.compile(
    r"#?[ \t]*(?P<name>[^\n]*?)[ \t]*\(shape (?:torch\.Size\()?\[(?P<shape>[0-9, ]*)\]\)?\)[ \t]*,?[ \t]*\\?[ \t\r]*(?:\n|$)"
)
_VALUE: Final = re.compile(r"[ \t]*([+-]?[0-9]+)(?:\.0*)?[ \t]*,?[ \t]*\\?[ \t\r]*")
_LAYER: Final = re.compile(r"out_layer([0-9]+)\.txt")
_INPUTS: Final = ("input.txt", "input_quantizer.txt")
_OUTPUT: Final = "output.txt"


def is_feature_text(text: str) -> bool:
    """Whether a text starts with the header."""
    return _HEADER.match(text.lstrip()) is not None


def read_features(source: Source) -> DumpArray:
    r"""Read one tensor.

    Parameters
    ----------
    source
        The text.

    Raises
    ------
    InputError
        If there is no header, no value, or a line that is not one whole number.

    Examples
    --------
    >>> array = read_features(Source("out_layer0.txt", "# relu1 (shape [1, 1, 2]),\\\n57.000,\\\n-3.000,\\\n"))
    >>> array.name, array.label, array.values
    ('out_layer0', 'relu1', array([57, -3]))
    """
    start = len(source.text) - len(source.text.lstrip())
    header = _HEADER.match(source.text, start)
    if header is None:
        raise source.error(start, "wanted the header '# name (shape [H, W, C])'")
    values, position = [], header.end()
    for line in source.text[position:].split("\n"):
        found = _VALUE.fullmatch(line)
        if found is not None:
            values.append(int(found.group(1)))
        elif line.strip(" \t\r\\"):
            raise source.error(position, f"'{line[:20]}' is not one whole number")
        position += len(line) + 1
    if not values:
        raise InputError(f"{source.path}: holds no values behind its header; save the values of one tensor")
    name = Path(source.path).stem
    role = Role.INPUT if Path(source.path).name in _INPUTS else None
    index = 0 if role is not None else None
    try:
        found_values = np.array(values, np.int64)
    except OverflowError:
        raise InputError(f"{source.path}: a value is beyond 64 bits") from None
    place = source.line(header.end()) if header.end() < len(source.text) else "line 2"
    return DumpArray(name, found_values, place, base=10, role=role, set_index=index, label=header.group("name"))


def read_features_folder(folder: Path, arrays: Sequence[DumpArray]) -> Dump:
    """The arrays of a folder as one dump: the input first, then the layers by their numbers, then the output.

    Parameters
    ----------
    folder
        The folder.
    arrays
        What its files hold, in the order of :func:`files_of`.
    """
    if not any(array.role is None for array in arrays):
        raise InputError(f"{folder}: is a directory without out_layerK.txt and output.txt; give one with a text for each layer")
    return Dump(str(folder), FEATURES, tuple(arrays))


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that hold tensors, in the order of the network."""
    layers = [(int(found.group(1)), path) for path in folder.iterdir() if (found := _LAYER.fullmatch(path.name))]
    inputs = [folder / name for name in _INPUTS if (folder / name).is_file()]
    last = [folder / _OUTPUT] if (folder / _OUTPUT).is_file() else []
    return [*inputs, *(path for _, path in sorted(layers)), *last]


def feature_text(name: str, values: Array) -> str:
    r"""One tensor of one sample as text.

    Parameters
    ----------
    name
        What the header says.
    values
        Integers in ONNX layout without the batch axis, ``[C, H, W]``; any number of axes.

    Examples
    --------
    >>> feature_text("relu1", np.array([[[1, 2]], [[3, 4]]]))
    '# relu1 (shape [1, 2, 2])\n1\n3\n2\n4\n'
    """
    last = channels_last(values)
    numbers = "\n".join(str(int(value)) for value in last.reshape(-1))
    return f"# {name} (shape {list(last.shape)})\n{numbers}\n"


def channels_last(values: Array) -> Array:
    """The first axis moved behind the others."""
    return np.moveaxis(values, 0, -1) if values.ndim > 1 else values


def channels_first(values: Array, shape: Sequence[int]) -> Array:
    """Values in the order of a file as a tensor of a shape ``[C, ...]``; their number is right."""
    return np.moveaxis(values.reshape(*shape[1:], shape[0]), -1, 0) if len(shape) > 1 else values.reshape(tuple(shape))
