"""Motorola S-records and TI-TXT: bytes with their addresses, as loaders and debuggers save memory."""

from __future__ import annotations

import re
from typing import Final

from npusim.errors import InputError
from npusim.files.dumps.dump import DumpArray
from npusim.files.dumps.intel_hex import byte_runs
from npusim.files.dumps.numbers import Source

__all__ = ["is_s_record", "is_ti_txt", "read_s_records", "read_ti_txt"]

_ADDRESS_BYTES: Final = {"1": 2, "2": 3, "3": 4}
_LAST: Final = ("7", "8", "9")
_RECORD: Final = re.compile(r"S[0-9](?:[0-9a-fA-F]{2}){3,}")


def is_s_record(text: str) -> bool:
    """Whether a text starts with an S-record."""
    return _RECORD.match(text) is not None


def is_ti_txt(text: str) -> bool:
    """Whether a text starts as TI-TXT does: ``@`` and an address on a line of its own."""
    return re.match(r"@[0-9a-fA-F]{1,8}[ \t\r]*(?:\n|$)", text) is not None


def read_s_records(source: Source) -> tuple[DumpArray, ...]:
    r"""Read the bytes of S-records, one array for each run of addresses without a gap.

    Raises
    ------
    InputError
        If a record is damaged, its checksum is wrong, the last record (S7, S8, S9) is missing, or records overlap.

    Examples
    --------
    >>> (array,) = read_s_records(Source("y.s19", "S107A800D5D305FCA7\nS9030000FC\n"))
    >>> array.place, array.values
    ('address 0xa800', array([213, 211,   5, 252], dtype=uint8))
    """
    blocks, ended, position = list[tuple[int, int, bytes]](), False, 0
    for line in source.text.splitlines(keepends=True):
        text, place = line.strip(), position
        position += len(line)
        if not text:
            continue
        if ended:
            raise source.error(place, "a record after the last one; remove one of them")
        if _RECORD.fullmatch(text) is None:
            raise source.error(place, "not an S-record, wanted S, a digit and pairs of hexadecimal digits")
        content = bytes.fromhex(text[2:])
        if content[0] != len(content) - 1:
            raise source.error(place, f"the record has {len(content) - 1} bytes and says {content[0]}; it is cut off or edited")
        wanted = 255 - sum(content[:-1]) % 256
        if content[-1] != wanted:
            raise source.error(
                place, f"wrong checksum {content[-1]:02X}, wanted {wanted:02X}; the file is damaged, save it again"
            )
        size = _ADDRESS_BYTES.get(text[1])
        if size is not None:
            blocks.append((place, int.from_bytes(content[1 : 1 + size], "big"), content[1 + size : -1]))
        ended = text[1] in _LAST
    if not ended:
        raise InputError(f"{source.path}: has no last record (S7, S8 or S9); the file is cut off, save it again")
    return _arrays(source, blocks)


def read_ti_txt(source: Source) -> tuple[DumpArray, ...]:
    r"""Read the bytes of a TI-TXT file: ``@`` and an address, pairs of digits, and ``q`` at the end.

    Raises
    ------
    InputError
        If something else stands between, the end is missing, or sections overlap.

    Examples
    --------
    >>> read_ti_txt(Source("y.txt", "@A800\nD5 D3 05 FC\nq\n"))[0].values
    array([213, 211,   5, 252], dtype=uint8)
    """
    blocks, ended, address, start = list[tuple[int, int, bytes]](), False, 0, 0
    held = b""
    for match in re.finditer(r"\S+", source.text):
        text = match.group()
        if ended:
            raise source.error(match.start(), "something stands behind the end mark 'q'")
        if text in ("q", "Q"):
            ended = True
        elif re.fullmatch(r"@[0-9a-fA-F]{1,8}", text):
            blocks += [(start, address, held)] if held else []
            address, start, held = int(text[1:], 16), match.start(), b""
        elif re.fullmatch(r"[0-9a-fA-F]{2}", text):
            held += bytes.fromhex(text)
        else:
            raise source.error(match.start(), f"'{text[:20]}' is not a pair of hexadecimal digits")
    if not ended:
        raise InputError(f"{source.path}: has no end mark 'q'; the file is cut off, save it again")
    return _arrays(source, [*blocks, *([(start, address, held)] if held else [])])


def _arrays(source: Source, blocks: list[tuple[int, int, bytes]]) -> tuple[DumpArray, ...]:
    if not any(data for _, _, data in blocks):
        raise InputError(f"{source.path}: holds no data")
    return tuple(byte_runs(source, blocks, 1))
