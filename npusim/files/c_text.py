"""Numbers, names and comments in C source."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph import Array

__all__ = ["array_lines", "c_name", "c_numbers", "comment", "float_literal"]

WIDTH: Final = 110
"""Columns of a line of numbers."""


def float_literal(value: np.float32) -> str:
    """A float32 as a C literal that every compiler reads as this very value.

    Few digits where these are nearer to the value than a quarter of the distance to its neighbours, else nine: even a
    compiler that rounds to double first, or not quite right, then ends at the same float.

    Raises
    ------
    UnsupportedError
        If the value is not finite.

    Examples
    --------
    >>> float_literal(np.float32(0.1)), float_literal(np.float32(-3)), float_literal(np.float32(16777216))
    ('0.1f', '-3.0f', '1.6777216e+07f')
    """
    if not np.isfinite(value):
        raise UnsupportedError(f"the value {value} has no literal in C; leave c out of --format")
    text = str(value)
    exact = float(value)
    step = abs(exact - float(np.nextafter(value, np.float32(0))))
    if abs(float(text) - exact) > step / 4:
        text = f"{exact:.9g}"
    if not any(mark in text for mark in ".en"):
        text += ".0"
    return f"{text}f"


def c_numbers(values: Array) -> list[str]:
    """The values in C order as C literals."""
    flat = np.ravel(values)
    if flat.dtype.kind == "f":
        return [float_literal(value) for value in flat.astype(np.float32, copy=False)]
    return [str(value) for value in flat.tolist()]


def array_lines(numbers: Iterable[str]) -> list[str]:
    """Numbers, each with a comma behind it, in lines."""
    lines, line = [], ""
    for number in numbers:
        if line and len(line) + len(number) + 2 > WIDTH:
            lines.append(line)
            line = ""
        line += f"{' ' if line else ''}{number},"
    return [*lines, line] if line else lines


def c_name(text: str) -> str:
    """A name as an identifier of C: everything but letters, digits and ``_`` becomes ``_``.

    Examples
    --------
    >>> c_name("/conv/Clip_output_0"), c_name("serving_default:0")
    ('_conv_Clip_output_0', 'serving_default_0')
    """
    name = re.sub(r"[^0-9A-Za-z_]", "_", text)
    return f"_{name}" if name[:1].isdigit() else name


def comment(text: str) -> str:
    """A text that can stand in any comment: one line of ASCII without the marks that begin or end comments or join lines."""
    plain = " ".join(text.split()).encode("ascii", "replace").decode()
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("//", "/ /").replace("\\", "/").replace("??", "? ?")
