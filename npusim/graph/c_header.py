"""TensorFlow Lite models as firmware compiles them in: an array of bytes in C or C++ source, and its length beside it."""

from __future__ import annotations

import re
from typing import Final

from npusim.errors import ModelError

__all__ = ["find_model"]

_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_ARRAY: Final = re.compile(r"([A-Za-z_]\w*)\s*\[\s*(\w*)\s*\]([^={};]*)=\s*\{([^{}]*)\}")
_LENGTH: Final = re.compile(
    r"\b([A-Za-z_]\w*?)_?(?:len|length|size|LEN|SIZE)\s*=\s*(?:sizeof[^;]*|(0[xX][0-9a-fA-F]+|\d+))[uUlL]*\s*;"
)
_DEFINED: Final = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(\d+|0[xX][0-9a-fA-F]+)\b", re.MULTILINE)
_IDENTIFIER: Final = b"TFL3"
LARGEST_WORD: Final = 8
"""Characters of a byte as C writes it (0x1c, 28, -4, 034); longer ones are not bytes."""


def find_model(content: bytes, label: str) -> bytes | None:
    r"""The model that C or C++ source holds; None where there is none.

    Macros and attributes may stand around the array (``alignas(16) const unsigned char model[] DATA_ALIGN = {...}``); of
    several arrays the one with the identifier of TensorFlow Lite in bytes 4 to 7 is taken.

    Parameters
    ----------
    content
        A file's bytes.
    label
        How messages name the file.

    Raises
    ------
    ModelError
        If two arrays hold models, a number of the array is not a byte, or its length is not the one that the source declares.

    Examples
    --------
    >>> find_model(b"const unsigned char m[] = {0x1c,0,0,0,0x54,0x46,0x4c,0x33}; const int m_len = 8;", "m.h")
    b'\x1c\x00\x00\x00TFL3'
    """
    if b"{" not in content or b"[" not in content or b"\0" in content[:1000]:
        return None
    text = _COMMENT.sub(" ", content.decode("utf-8", "replace"))
    found = [(match, body) for match in _ARRAY.finditer(text) if (body := _bytes(match.group(4))) is not None]
    models = [(match, body) for match, body in found if body[4:8] == _IDENTIFIER]
    if not models:
        return None
    names = [match.group(1) for match, _ in models]
    if len(models) > 1:
        raise ModelError(f"{label} holds {len(models)} models, the arrays {', '.join(names)}; keep one of them in the file")
    match, body = models[0]
    _check_length(text, label, names[0], match.group(2), len(body))
    return body


def _bytes(body: str) -> bytes | None:
    """The numbers between braces as bytes; None where they are not all bytes."""
    words = body.replace(",", " ").split()
    if len(words) < len(_IDENTIFIER) + 4 or any(len(word) > LARGEST_WORD for word in words):
        return None
    try:
        return bytes(_number(word) % 256 for word in words)
    except ValueError:
        return None


def _number(word: str) -> int:
    plain = word.rstrip("uUlL")
    octal = len(plain) > 1 and plain[0] == "0" and plain.isdigit()
    value = int(plain, 8) if octal else int(plain, 0)
    if not -128 <= value <= 255:
        raise ValueError(f"{word} is not a byte")
    return value


def _check_length(text: str, label: str, name: str, declared: str, length: int) -> None:
    """Compare the array with what the source says of its length: in its brackets, or in a constant beside it."""
    defined = {key: int(value, 0) for key, value in _DEFINED.findall(text)}
    said = {match.group(1).rstrip("_"): match.group(2) for match in _LENGTH.finditer(text) if match.group(2)}
    numbers = {
        f"{name}[{declared}]": int(declared, 0) if declared[:1].isdigit() else defined.get(declared),
        f"{name}_len": int(said[name], 0) if name in said else None,
    }
    for what, number in numbers.items():
        if number is not None and number != length:
            raise ModelError(
                f"{label} says that array '{name}' has {number} bytes ({what}), but it has {length}; the file is cut off or "
                "was edited"
            )
