"""Numbers separated by blanks, commas or line ends: console logs, and the body of CCS data files."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.files.dumps.dump import DumpArray
from npusim.files.dumps.numbers import Source, Token, are_bare_hex, as_array, is_number

__all__ = ["is_plain_text", "read_ccs_data", "read_plain_text"]

_PIECE: Final = re.compile(r"[^\s,]+|,")

CCS_MAGIC: Final = "1651"
"""First word of a CCS data file."""

CCS_FORMATS: Final = {"1": "hexadecimal", "2": "integer", "3": "long", "4": "float", "9": "of the last field"}
"""Second word: how the numbers are written."""


def read_plain_text(source: Source, *, base: int | None = None) -> tuple[DumpArray, ...]:
    r"""Read numbers separated by blanks, commas or line ends.

    Parameters
    ----------
    source
        The text.
    base
        16 for hexadecimal numbers without ``0x``.

    Raises
    ------
    InputError
        If something else stands in between, a number is missing between two commas, or there are no numbers.

    Examples
    --------
    >>> read_plain_text(Source("log.txt", "1, 2,\n-3"))[0].values
    array([ 1,  2, -3])
    """
    tokens = _pieces(source, 0)
    if not tokens:
        raise InputError(f"{source.path}: holds no numbers; save the values of one tensor")
    if base is None and len(tokens) == 1 and _is_byte_string(tokens[0].text):
        held = np.frombuffer(bytes.fromhex(tokens[0].text), np.uint8)
        return (DumpArray("", held, source.line(tokens[0].position), raw=True),)
    if base is None and are_bare_hex([token.text for token in tokens]):
        base = 16
    numbers = as_array(source, tokens, base=base)
    place = source.line(tokens[0].position)
    return (DumpArray("", numbers.values, place, base=numbers.base, word_bits=numbers.word_bits, printed=numbers.printed),)


def is_plain_text(text: str, base: int | None = None) -> bool:
    """Whether a text is nothing but numbers with separators, right or wrong ones."""
    pieces = text.replace(",", " ").split()
    return (
        base == 16 or all(map(is_number, pieces)) or are_bare_hex(pieces) or (len(pieces) == 1 and _is_byte_string(pieces[0]))
    )


def _is_byte_string(text: str) -> bool:
    """Whether a text is pairs of hexadecimal digits without a prefix, and no number: bytes in the order of memory."""
    return re.fullmatch(r"(?:[0-9a-fA-F]{2}){2,}", text) is not None and not is_number(text)


def read_ccs_data(source: Source) -> tuple[DumpArray, ...]:
    r"""Read a memory save of Code Composer Studio: ``1651 format address page length``, then one number a line.

    Address, page and length are hexadecimal. Format 1 is hexadecimal, 2 and 3 are integers, 4 is float; 9 leaves the format to
    a sixth field, whose numbers are hexadecimal unless they show that they are not.

    Raises
    ------
    InputError
        If the header is another one, or the numbers are not as many as it says.

    Examples
    --------
    >>> array = read_ccs_data(Source("save.dat", "1651 1 c000 0 2\n0x0001\n0xFFFF\n"))[0]
    >>> array.place, array.word_bits, array.values
    ('address 0xc000', 16, array([    1, 65535]))
    """
    start = len(source.text) - len(source.text.lstrip())
    end = source.text.find("\n", start)
    end = len(source.text) if end < 0 else end
    fields = source.text[start:end].split()
    address, length = _check_header(source, start, fields)
    tokens = _pieces(source, end)
    wanted = {int(length, 16), *([int(length)] if length.isdecimal() and len(length) < 10 else [])}
    if len(tokens) not in wanted or not tokens:
        raise InputError(
            f"{source.path}: {len(tokens)} values, the header's length field '{length}' says {int(length, 16)}; "
            "the file is cut off or was edited, save it again"
        )
    hexadecimal = fields[1] == "1" or (fields[1] == "9" and _looks_hexadecimal(tokens))
    numbers = as_array(source, tokens, base=16 if hexadecimal else None)
    place = f"address 0x{address.lower()}"
    return (DumpArray("", numbers.values, place, base=numbers.base, word_bits=numbers.word_bits, printed=numbers.printed),)


def _check_header(source: Source, start: int, fields: list[str]) -> tuple[str, str]:
    """Address and length, without prefixes."""
    if not fields or fields[0] != CCS_MAGIC or len(fields) not in (5, 6):
        raise source.error(
            start, "unknown header, wanted '1651 format address page length'; save the memory again as TI data, or as raw bytes"
        )
    if fields[1] not in CCS_FORMATS:
        known = ", ".join(f"{key} ({name})" for key, name in CCS_FORMATS.items())
        raise source.error(start, f"unknown header: format '{fields[1][:20]}', wanted one of {known}")
    address, length = (field[2:] if field[:2].lower() == "0x" else field for field in (fields[2], fields[4]))
    for name, digits in (("address", address), ("length", length)):
        if re.fullmatch(r"[0-9a-fA-F]{1,16}", digits) is None:
            raise source.error(start, f"unknown header: {name} '{digits[:20]}' is not a hexadecimal number")
    return address, length


def _looks_hexadecimal(tokens: list[Token]) -> bool:
    """Whether all numbers are digits of one length, as debuggers write memory, or have a prefix."""
    digits = {token.text[2:] if token.text[:2].lower() == "0x" else token.text for token in tokens}
    return len({len(item) for item in digits}) == 1 and all(re.fullmatch(r"[0-9a-fA-F]{2,}", item) for item in digits)


def _pieces(source: Source, start: int) -> list[Token]:
    """What stands between separators; a comma needs a number before it."""
    tokens: list[Token] = []
    after_comma = True
    for match in _PIECE.finditer(source.text, start):
        if match.group() == ",":
            if after_comma:
                raise source.error(match.start(), "a number is missing before this comma")
            after_comma = True
        else:
            tokens.append(Token(match.group(), match.start()))
            after_comma = False
    return tokens
