"""Numbers in text: decimal, hexadecimal and floating point, as programs and debuggers print them, with their places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.graph import Array

__all__ = [
    "NUMBER",
    "Numbers",
    "Printed",
    "Source",
    "Token",
    "are_bare_hex",
    "as_array",
    "complaint",
    "is_number",
    "not_finite",
    "shown",
]

NUMBER: Final = (
    r"[+-]?(?:0[xX][0-9a-fA-F]+[uUlL]{0,3}"
    r"|(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE][+-]?[0-9]))(?:[eE][+-]?[0-9]+)?[fFlL]?|[0-9]+[uUlL]{0,3})(?![\w.])"
)
"""A number between other text."""

_NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)[uUlL]{0,3}"
    r"|(?P<integer>[0-9]+)[uUlL]{0,3}"
    r"|(?P<float>(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?)[fFlL]?)"
)
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan(?:\([^)]*\))?|inf(?:inity)?)", re.IGNORECASE)
_FRACTION: Final = re.compile(r"[+-]?(?P<whole>[0-9]*)(?:\.(?P<decimals>[0-9]*))?(?P<exponent>[eE][+-]?[0-9]+)?")
_BARE_HEX: Final = re.compile(r"[0-9a-fA-F]+")

_BARE_LETTER: Final = re.compile(r"[a-fA-F]")

LONGEST_INTEGER: Final = 40
"""Digits; a longer number is not an element of any array, and Python would take long to read it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the file it came from, to name places in it."""

    path: str
    text: str

    def place(self, position: int) -> str:
        """``line 3, column 7`` of a position, both counted from 1."""
        line = self.text.count("\n", 0, position) + 1
        column = position - (self.text.rfind("\n", 0, position) + 1) + 1
        return f"line {line}, column {column}"

    def line(self, position: int) -> str:
        """``line 3`` of a position."""
        return f"line {self.text.count(chr(10), 0, position) + 1}"

    def error(self, position: int, message: str) -> InputError:
        """An error that names the place."""
        return InputError(f"{self.path}: {self.place(position)}: {message}")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text and where it starts."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Printed:
    """How the decimal fractions of an array were printed: as C's ``%.3f``, ``%.3e`` or ``%.3g``.

    Attributes
    ----------
    kind
        ``f`` where all have the same number of decimals, ``e`` where all have exponents too, else ``g``.
    digits
        Decimals; of ``g`` the most significant digits that one has.
    """

    kind: str
    digits: int

    def gives(self, value: float) -> float:
        """What a value is after it was printed.

        Examples
        --------
        >>> Printed("f", 2).gives(0.126)
        0.13
        """
        return float(f"{value:.{self.digits}{self.kind}}")

    def __str__(self) -> str:
        """The conversion as C writes it."""
        return f"%.{self.digits}{self.kind}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of an array: their values, base, width and decimals as `npusim.files.dumps.DumpArray` describes them."""

    values: Array
    base: int | None
    word_bits: int | None
    printed: Printed | None = None


def as_array(source: Source, tokens: Sequence[Token], *, base: int | None = None, mixed: bool = False) -> Numbers:
    """Turn the pieces of a text into an array.

    Parameters
    ----------
    source
        The text they are from.
    tokens
        At least one.
    base
        16 to read digits without ``0x`` as hexadecimal; None to go by the prefix.
    mixed
        Whether decimal and hexadecimal numbers may stand beside each other, as C allows.

    Raises
    ------
    InputError
        If a piece is not a number, is NaN or infinite, or does not fit 64 bits, or if bases are mixed.

    Examples
    --------
    >>> as_array(Source("log.txt", "1 -2"), [Token("1", 0), Token("-2", 2)]).values
    array([ 1, -2])
    """
    parsed = [_parse(source, token, base) for token in tokens]
    hexadecimal = next((item for item in parsed if item.digits), None)
    decimal = next((item for item in parsed if item.decimal), None)
    if hexadecimal is not None and decimal is not None and not mixed:
        first, second = decimal.token, hexadecimal.token
        raise source.error(
            max(first.position, second.position),
            f"decimal and hexadecimal numbers are mixed: {shown(first.text)} ({source.place(first.position)}) and "
            f"{shown(second.text)} ({source.place(second.position)}); write all in one base",
        )
    integers = [item.value for item in parsed if isinstance(item.value, int)]
    if len(integers) < len(parsed):
        return Numbers(
            np.array([item.value for item in parsed], np.float64), None, None, _printed([token.text for token in tokens])
        )
    unsigned = max(integers) >= 2**63
    if unsigned and min(integers) < 0:
        raise source.error(tokens[0].position, "the numbers of this array do not fit 64 bits together")
    values: Array = np.array(integers, np.uint64 if unsigned else np.int64)
    if hexadecimal is None or decimal is not None:
        return Numbers(values, 10, None)
    widths = {item.digits for item in parsed}
    return Numbers(values, 16, 4 * hexadecimal.digits if len(widths) == 1 else None)


def _printed(texts: Sequence[str]) -> Printed:
    parts = [_FRACTION.match(text) for text in texts]
    decimals = {len(part["decimals"] or "") for part in parts if part is not None}
    exponents = {part["exponent"] is not None for part in parts if part is not None}
    if len(decimals) == len(exponents) == 1:
        return Printed("e" if exponents == {True} else "f", decimals.pop())
    lengths = [len(f"{part['whole']}{part['decimals'] or ''}".lstrip("0")) for part in parts if part is not None]
    return Printed("g", max(*lengths, 1))


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A number, its hexadecimal digits (0 for others), and whether it must be decimal: one digit is the same in both bases."""

    token: Token
    value: int | float
    digits: int = 0
    decimal: bool = False


def _parse(source: Source, token: Token, base: int | None) -> _Parsed:
    text = token.text
    if base == 16 and (bare := _BARE_HEX.fullmatch(text.removeprefix("0x").removeprefix("0X"))) is not None:
        return _Parsed(token, _integer(source, token, bare.group(), 16), len(bare.group()))
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise source.error(token.position, complaint(text, base))
    sign = -1 if match["sign"] == "-" else 1
    if match["hex"] is not None:
        return _Parsed(token, sign * _integer(source, token, match["hex"], 16), len(match["hex"]))
    if match["integer"] is not None:
        return _Parsed(token, sign * _integer(source, token, match["integer"], 10), decimal=len(match["integer"]) > 1)
    value = sign * float(match["float"])
    if not np.isfinite(value):
        raise source.error(token.position, f"{shown(text)} is beyond float64")
    return _Parsed(token, value, decimal=True)


def _integer(source: Source, token: Token, digits: str, base: int) -> int:
    value = int(digits, base) if len(digits) <= LONGEST_INTEGER else 2**64
    if value >= 2**64 or (token.text.startswith("-") and value > 2**63):
        raise source.error(token.position, f"{shown(token.text)} does not fit 64 bits")
    return value


def is_number(text: str) -> bool:
    """Whether a piece of text is a number."""
    return _NUMBER.fullmatch(text) is not None


def not_finite(text: str) -> bool:
    """Whether a piece of text is how programs print NaN or an infinity."""
    return _NOT_FINITE.fullmatch(text) is not None


def are_bare_hex(texts: Sequence[str]) -> bool:
    """Whether numbers without a prefix can be nothing but hexadecimal: pairs of digits of one length, and a letter among them.

    Examples
    --------
    >>> are_bare_hex(["d5", "05"]), are_bare_hex(["15", "05"]), are_bare_hex(["add", "bad"])
    (True, False, False)
    """
    lengths = {len(text) for text in texts}
    return (
        len(lengths) == 1
        and lengths.issubset((2, 4, 8, 16))
        and all(_BARE_HEX.fullmatch(text) for text in texts)
        and any(_BARE_LETTER.search(text) and not is_number(text) for text in texts)
    )


def complaint(text: str, base: int | None) -> str:
    """What is wrong with a piece of text that is not a number."""
    if _NOT_FINITE.fullmatch(text):
        return f"{shown(text)} is not a finite number; such a value compares with nothing"
    if base is None and _BARE_HEX.fullmatch(text):
        return f"{shown(text)} is not a decimal number; if all numbers are hexadecimal without 0x, say that the base is 16"
    return f"{shown(text)} is not a number; remove what is not part of the data"


def shown(text: str) -> str:
    """A piece of text as a message shows it."""
    return repr(text if len(text) <= 24 else f"{text[:21]}...")
