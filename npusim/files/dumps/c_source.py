"""Arrays in C source: definitions like ``int8_t y[3] = { 1, 2, 3, };``, also those inside of comments."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.files.dumps.numbers import Numbers, Source, Token, as_array, shown

__all__ = ["C_TYPES", "CArray", "find_arrays", "find_structs", "misfit"]

_LEXEME: Final = re.compile(
    r"(?P<block>/\*.*?(?:\*/|\Z))|(?P<line>//[^\n]*)|(?P<text>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<directive>^[ \t]*\#[^\n]*)|(?P<name>[A-Za-z_]\w*)|(?P<mark>[{}\[\]=;,()*])|(?P<other>[^\s{}\[\]=;,()*]+)",
    re.DOTALL | re.MULTILINE,
)

C_TYPES: Final = {
    "int8_t": "int8",
    "uint8_t": "uint8",
    "int16_t": "int16",
    "uint16_t": "uint16",
    "int32_t": "int32",
    "uint32_t": "uint32",
    "int64_t": "int64",
    "uint64_t": "uint64",
    "float": "float32",
    "float32_t": "float32",
    "float32": "float32",
    "double": "float64",
    "float64_t": "float64",
    "char": "int8",
    "short": "int16",
}
"""Element types by their names in C; other names (int, long) have a width that depends on the device."""


@dataclass(frozen=True, slots=True)
class CArray:
    """An array definition.

    Attributes
    ----------
    name, c_type
        Symbol and element type; both empty for a bare list in braces.
    numbers
        Its elements, flattened.
    position
        Where it starts in the text.
    active
        False inside of a comment.
    label
        The comment before it, without the comment marks.
    """

    name: str
    c_type: str
    numbers: Numbers
    position: int
    active: bool
    label: str


def find_arrays(source: Source, *, base: int | None = None) -> list[CArray]:
    """Find all arrays with an initializer, in the order of the text.

    Raises
    ------
    InputError
        If an initializer is not closed, holds anything but numbers, or has another length than declared.

    Examples
    --------
    >>> [array.name for array in find_arrays(Source("x.c", "float a[1] = {1.5f}; /* float b[1] = {2.5f}; */"))]
    ['a', 'b']
    """
    return list(_arrays(source, 0, len(source.text), True, base))


def find_structs(source: Source) -> dict[str, tuple[str, ...]]:
    r"""The structs of a header: their names and the names of their pointer members, in order.

    Examples
    --------
    >>> find_structs(Source("x.h", "struct tvmgen_default_inputs {\n  void* input;\n};"))
    {'tvmgen_default_inputs': ('input',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for match in re.finditer(r"\bstruct\s+([A-Za-z_]\w*)\s*\{([^{}]*)\}", source.text):
        plain = re.sub(r"/\*.*?\*/|//[^\n]*", " ", match.group(2), flags=re.DOTALL)
        found[match.group(1)] = tuple(re.findall(r"\*\s*([A-Za-z_]\w*)\s*;", plain))
    return found


def _arrays(source: Source, start: int, end: int, active: bool, base: int | None) -> Iterator[CArray]:
    """Arrays between two positions; comments are searched as well, once."""
    words: list[str] = []
    sizes: list[str] | None = None
    behind: list[str] = []
    label = ""
    begin = position = start
    # braces without a name are a list only in a file of nothing else; elsewhere they may be a function's body
    only_lists = True
    while (match := _LEXEME.search(source.text, position, end)) is not None:
        position = match.end()
        kind, text = match.lastgroup, match.group()
        if kind == "block":
            if active and "{" in text and "=" in text:
                yield from _arrays(source, match.start() + 2, position - 2 * text.endswith("*/"), False, base)
            continue
        if kind == "line":
            label = text.lstrip("/").strip()
            continue
        only_lists = only_lists and text in "{,;"
        if sizes is not None and (kind == "name" or text == "("):
            # what stands between a declarator and its values is an attribute, unless it turns out to be a declarator itself
            behind = [*behind, text] if kind == "name" else []
            position = _behind_parentheses(source, position, end) if text == "(" else position
            continue
        if text == "[" and behind:
            words, sizes, behind = behind, None, []
        if kind == "name":
            begin = begin if words else match.start()
            words = [*words[-7:], text]
            continue
        if text == "[" and words:
            closing = source.text.find("]", position, end)
            if closing < 0:
                raise source.error(match.start(), "'[' is never closed; the file is cut off")
            sizes = [*(sizes or []), source.text[position:closing].strip()]
            position = closing + 1
            continue
        if text == "=" and sizes is not None:
            continue
        if text == "{" and (sizes is not None or only_lists):
            tokens, position = _elements(source, match.start(), end)
            name = words[-1] if words else ""
            yield _array(source, name, words[:-1], sizes, tokens, begin if words else match.start(), active, label, base)
            label = ""
        if not (kind == "mark" and text == "*"):
            words, sizes, behind = [], None, []


def _behind_parentheses(source: Source, position: int, end: int) -> int:
    """Where the parenthesis that was just opened is closed."""
    depth = 1
    while depth and (match := _LEXEME.search(source.text, position, end)) is not None:
        position = match.end()
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
    return position


def _elements(source: Source, start: int, end: int) -> tuple[list[Token], int]:
    """The numbers between a brace and its partner, and where that ends."""
    depth = 0
    tokens: list[Token] = []
    wants_number = True
    position = start
    while (match := _LEXEME.search(source.text, position, end)) is not None:
        position = match.end()
        text = match.group()
        if match.lastgroup in ("block", "line"):
            continue
        if text == "{":
            depth += 1
            wants_number = True
        elif text == "}":
            depth -= 1
            wants_number = False
            if depth == 0:
                return tokens, position
        elif text == ",":
            if wants_number:
                raise source.error(match.start(), "a number is missing before this comma")
            wants_number = True
        elif not wants_number or match.lastgroup in ("text", "directive", "mark"):
            raise source.error(match.start(), f"{shown(text)} inside of an array; wanted numbers with commas between them")
        else:
            tokens.append(Token(text, match.start()))
            wants_number = False
    raise source.error(start, f"'{{' is never closed: the file is cut off after {len(tokens)} values")


def _array(
    source: Source,
    name: str,
    words: list[str],
    sizes: list[str] | None,
    tokens: list[Token],
    position: int,
    active: bool,
    label: str,
    base: int | None,
) -> CArray:
    shown_name = f"array '{name}'" if name else "the list"
    if not tokens:
        raise source.error(position, f"{shown_name} holds no numbers")
    for token in tokens:
        octal = token.text.lstrip("+-")
        if name and len(octal) > 1 and octal.isdecimal() and octal.startswith("0"):
            raise source.error(token.position, f"{shown(token.text)} is octal in C; write it in decimal or with 0x")
    if sizes and all(size.isdecimal() and len(size) < 12 for size in sizes):
        declared = math.prod(int(size) for size in sizes)
        if declared != len(tokens):
            raise source.error(
                position, f"{shown_name} is declared with {declared} elements and holds {len(tokens)}; it is cut off or edited"
            )
    c_type = next((word for word in reversed(words) if word in C_TYPES), words[-1] if words else "")
    if c_type in ("char", "short") and "unsigned" in words:
        c_type = "uint8_t" if c_type == "char" else "uint16_t"
    numbers = as_array(source, tokens, base=base, mixed=bool(name))
    return CArray(name, c_type, numbers, position, active, label)


def misfit(array: CArray) -> str:
    """The first integer that does not fit the declared type, as a sentence; empty where all fit."""
    kind = C_TYPES.get(array.c_type, "")
    values: npt.NDArray[Any] = array.numbers.values
    if not kind or kind.startswith("float") or values.dtype.kind == "f":
        return ""
    info = np.iinfo(kind)
    # hexadecimal constants are often written as bit patterns
    largest = 2**info.bits - 1 if array.numbers.base == 16 else info.max
    outside = np.less(values, info.min) | np.greater(values, largest)
    if not outside.any():
        return ""
    index = int(outside.argmax())
    return (
        f"array '{array.name}' of {array.c_type} holds {values[index]} at index {index}, which is out of {info.min}..{info.max}"
    )
