"""Intel hex files: records of bytes with addresses and checksums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.files.dumps.dump import DumpArray
from npusim.files.dumps.numbers import Source

__all__ = ["byte_runs", "read_intel_hex"]

DATA: Final = 0
END: Final = 1
SEGMENT: Final = 2
START_SEGMENT: Final = 3
LINEAR: Final = 4
START_LINEAR: Final = 5
"""Types of records."""

_LENGTHS: Final = {END: 0, SEGMENT: 2, START_SEGMENT: 4, LINEAR: 2, START_LINEAR: 4}


@dataclass(frozen=True, slots=True)
class _Record:
    position: int
    kind: int
    address: int
    data: bytes


def read_intel_hex(source: Source) -> tuple[tuple[DumpArray, ...], tuple[str, ...]]:
    r"""Read the bytes of an Intel hex file, one array for each run of addresses without a gap.

    The addresses of processors with 16-bit bytes count words: where they advance by half the number of bytes throughout, they
    are taken so.

    Returns
    -------
    (arrays, notes)
        Raw bytes by start address, and how the addresses were taken.

    Raises
    ------
    InputError
        If a record is damaged, its checksum is wrong, the end record is missing, or records overlap.

    Examples
    --------
    >>> (array,), _ = read_intel_hex(Source("y.hex", ":020010000102EB\n:00000001FF\n"))
    >>> array.place, array.values
    ('address 0x10', array([1, 2], dtype=uint8))
    """
    blocks: list[tuple[int, int, bytes]] = []
    offset, ended = 0, False
    for record in _records(source):
        if ended:
            raise source.error(record.position, "a record after the end record; remove one of them")
        if record.kind == DATA:
            blocks.append((record.position, offset + record.address, record.data))
        elif record.kind in (SEGMENT, LINEAR):
            offset = int.from_bytes(record.data, "big") << (4 if record.kind == SEGMENT else 16)
        ended = record.kind == END
    if not ended:
        raise InputError(f"{source.path}: has no end record (:00000001FF); the file is cut off, save it again")
    if not any(data for _, _, data in blocks):
        raise InputError(f"{source.path}: holds no data records")
    in_words = _counts_words(blocks)
    notes = ("addresses count 16-bit words",) if in_words else ()
    return tuple(byte_runs(source, blocks, 2 if in_words else 1)), notes


def _records(source: Source) -> Iterator[_Record]:
    position = 0
    for line in source.text.splitlines(keepends=True):
        text = line.strip()
        if text:
            yield _record(source, position + line.index(text[0]), text)
        position += len(line)


def _record(source: Source, position: int, text: str) -> _Record:
    try:
        content = bytes.fromhex(text[1:]) if text.isascii() and not any(item.isspace() for item in text) else b""
    except ValueError:
        content = b""
    if not text.startswith(":") or len(content) < 5:
        raise source.error(position, "no Intel hex record, wanted ':' and an even number of at least 10 hexadecimal digits")
    if len(content) != content[0] + 5:
        raise source.error(
            position, f"the record holds {len(content) - 5} bytes of data and says {content[0]}; it is cut off or edited"
        )
    wanted = -sum(content[:-1]) % 256
    if content[-1] != wanted:
        raise source.error(
            position, f"wrong checksum {content[-1]:02X}, wanted {wanted:02X}; the file is damaged, save it again"
        )
    kind = content[3]
    if kind != DATA and kind not in _LENGTHS:
        raise source.error(position, f"unknown record type {kind:02X}, wanted 00 to 05")
    if kind != DATA and content[0] != _LENGTHS[kind]:
        raise source.error(position, f"a record of type {kind:02X} with {content[0]} bytes, wanted {_LENGTHS[kind]}")
    return _Record(position, kind, int.from_bytes(content[1:3], "big"), content[4:-1])


def _counts_words(blocks: list[tuple[int, int, bytes]]) -> bool:
    """Whether addresses advance by half the number of bytes, or more at gaps."""
    steps = [(after[1] - before[1], len(before[2])) for before, after in pairwise(blocks) if before[2]]
    overlaps = any(0 < distance < size for distance, size in steps)
    return overlaps and all(distance < 0 or 2 * distance >= size for distance, size in steps)


def byte_runs(source: Source, blocks: list[tuple[int, int, bytes]], unit: int) -> Iterator[DumpArray]:
    """Runs of bytes, `unit` bytes to an address."""
    ordered = sorted((block for block in blocks if block[2]), key=lambda block: block[1])
    start, data = ordered[0][1], b""
    parts: list[bytes] = []
    size = 0
    for position, address, data in ordered:
        end = start + size // unit
        if address < end:
            raise source.error(position, f"the record overlaps the one before it at address 0x{address:x}")
        if address > end:
            yield _run(start, parts)
            start, parts, size = address, [], 0
        parts.append(data)
        size += len(data)
    yield _run(start, parts)


def _run(start: int, parts: list[bytes]) -> DumpArray:
    return DumpArray(f"0x{start:x}", np.frombuffer(b"".join(parts), np.uint8), f"address 0x{start:x}", raw=True)
