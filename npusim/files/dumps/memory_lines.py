"""Memory as debuggers and tools list it: lines of an address and the bytes or words from there on.

``20000100: d5 d3 05 fc`` (xxd, OpenOCD mdb), ``0x20000100: fc05d3d5`` (mdw), ``20000100 = D5 D3`` (J-Link), ``0x20000100 <y>:
0xd5 0xd3`` (gdb), ``00000000  d5 d3 05 fc  |....|`` (hexdump -C), and octal addresses of ``od``. Words are in the byte order of
the processors at hand, lowest byte first. That the addresses advance as the values do is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from npusim.errors import InputError
from npusim.files.dumps.dump import DumpArray
from npusim.files.dumps.numbers import Source, Token, as_array, is_number

__all__ = ["is_memory_text", "is_octal_dump", "read_memory_lines"]

_LINE: Final = re.compile(
    r"[ \t]*(?:\(gdb\)[ \t]*|>[ \t]*)?(?P<address>0[xX][0-9a-fA-F]{4,16}|[0-9a-fA-F]{6,16}|[0-9a-fA-F]{7}(?=[ \t]))"
    r"(?:[ \t]*<(?P<symbol>[^>\n]+)>)?"
    r"(?P<mark>[ \t]*[:=]|(?=[ \t]{2,}|\t|[ \t]*$|[ \t]+0[xX])|(?<=^[0-9a-fA-F]{7})(?=[ \t]))"
    r"(?P<rest>[^\n]*)"
)
_ASCII: Final = re.compile(r"[ \t]*\|[^\n]{0,32}\|[ \t]*$")
_CHARACTER: Final = re.compile(r"[ \t]+'(?:\\[^\n]{1,3}|[^\n])'")


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: where its values begin, and their texts."""

    position: int
    address: str
    symbol: str
    values: tuple[Token, ...]
    paired: bool
    """Whether the words are bytes in the order of memory written without a blank, as xxd does it in pairs."""
    tabbed: bool
    """Whether a colon and tabs stand before the values, as gdb writes them, whose hexadecimal numbers have a prefix."""


def is_memory_text(text: str) -> bool:
    """Whether a text has lines of an address and values."""
    return any((row := _row(0, line)) is not None and bool(row.values) for line in text.splitlines())


def is_octal_dump(text: str) -> bool:
    """Whether a text is of ``od``, whose lines begin with octal addresses of seven digits, and whose last is one alone."""
    lines = text.split("\n")
    lines = lines[:-1] if not lines[-1].strip() else lines
    starts = [re.match(r"([0-7]{7,})(?:\s|$)", line) for line in lines]
    if len(lines) < 2 or None in starts or len(lines[-1].split()) != 1 or any(len(line.split()) < 2 for line in lines[:-1]):
        return False
    places = [int(found[1], 8) for found in starts if found is not None]
    return all(before < after for before, after in pairwise(places))


def read_memory_lines(source: Source) -> tuple[DumpArray, ...]:
    r"""Read the lines that are addresses and values; other lines, as commands and prompts, may stand around them.

    Returns
    -------
    tuple
        An array for each run of addresses without a gap: raw bytes where words are hexadecimal, else the decimal numbers.

    Raises
    ------
    InputError
        If words differ in width, or an address goes back.

    Examples
    --------
    >>> (array,) = read_memory_lines(Source("ocd.txt", "0x20000100: fc05d3d5\n"))
    >>> array.name, array.values.tolist(), array.word_bits
    ('0x20000100', [213, 211, 5, 252], 32)
    """
    rows, position = list[_Row](), 0
    for line in source.text.splitlines(keepends=True):
        row = _row(position, line.rstrip("\r\n"))
        rows += [] if row is None else [row]
        position += len(line)
    filled = [row for row in rows if row.values]
    if not filled:
        raise InputError(f"{source.path}: holds no lines of an address and values")
    texts = [token.text for row in filled for token in row.values]
    if any(text.startswith(("-", "+")) for text in texts) or _are_decimal(filled):
        return tuple(_decimals(source, filled))
    if not _are_words(texts):
        odd = (row for row in filled if not _are_words([token.text for token in [*filled[0].values, *row.values]]))
        first = next(odd, filled[0])
        raise source.error(first.position, "the words of these lines differ in their number of digits; save the memory again")
    return tuple(_runs(source, list(zip(_places(rows), filled, strict=True))))


def _row(start: int, line: str) -> _Row | None:
    """The parts of a line, or None where it is another one."""
    match = _LINE.match(line)
    if match is None:
        return None
    rest, begin = match["rest"], match.start("rest")
    rest = _CHARACTER.sub(lambda found: " " * len(found.group()), _ASCII.sub("", rest))
    words = [(found.group(), found.start()) for found in re.finditer(r"[^\s,]+", rest)]
    # xxd and others write the characters behind two blanks; with pairs of digits they are what is no longer such
    gap = re.search(r"(?<=\S)[ \t]{2,}(?=\S)", rest)
    paired = gap is not None and match["mark"] == ":" and _is_xxd(rest, gap.start())
    if gap is not None and (paired or not all(_is_value(text) for text, at in words if at >= gap.end())):
        words = [(text, at) for text, at in words if at < gap.start()]
    if not all(_is_value(text) for text, _ in words):
        return None
    if not words and match["mark"].strip():
        return None
    tokens = tuple(Token(text, start + begin + at) for text, at in words)
    address = match["address"].lower().removeprefix("0x")
    return _Row(
        start + match.start("address"),
        address,
        (match["symbol"] or "").split("+")[0],
        tokens,
        paired,
        match["rest"].startswith("\t"),
    )


def _is_xxd(rest: str, end: int) -> bool:
    """Whether as many characters stand behind the gap as bytes before it."""
    pairs = rest[:end].split()
    digits = sum(map(len, pairs))
    shown = re.sub(r"^[ \t]*\S+(?:[ \t]\S+)*[ \t]{2}[ \t]*", "", rest)
    return {len(pair) for pair in pairs[:-1]} <= {4} and digits % 2 == 0 and len(shown) <= digits // 2


def _is_value(text: str) -> bool:
    return is_number(text) or re.fullmatch(r"[0-9a-fA-F]{2,16}", text) is not None


def _places(rows: Sequence[_Row]) -> list[int]:
    """Addresses of the lines with values; those of ``od`` are octal, and an address alone ends it."""
    filled = [row for row in rows if row.values]
    if not rows[-1].values and all(re.fullmatch(r"[0-7]{7,}", row.address) for row in rows):
        places = [int(row.address, 8) for row in rows]
        if all(place + len(_bytes(row)) == after for place, row, after in zip(places, rows, places[1:], strict=False)):
            return places[:-1]
    return [int(row.address, 16) for row in filled]


def _are_words(texts: Sequence[str]) -> bool:
    """Whether all are hexadecimal digits of one length."""
    bare = [text.lower().removeprefix("0x") for text in texts]
    lengths = [len(text) for text in bare]
    # xxd ends in an odd byte
    same = len(set(lengths)) == 1 or (set(lengths[:-1]) == {4} and lengths[-1] == 2)
    return same and lengths[0] in (2, 4, 8, 16) and all(re.fullmatch(r"[0-9a-f]+", text) for text in bare)


def _are_decimal(rows: Sequence[_Row]) -> bool:
    """Whether values are decimal: numbers without a prefix behind gdb's tabs, or not as long as each other."""
    texts = [token.text for row in rows for token in row.values]
    plain = all(is_number(text) and not text.lower().startswith("0x") for text in texts)
    return plain and (all(row.tabbed for row in rows) or not _are_words(texts))


def _decimals(source: Source, rows: Sequence[_Row]) -> Iterator[DumpArray]:
    numbers = as_array(source, [token for row in rows for token in row.values])
    place = f"address 0x{rows[0].address}"
    yield DumpArray(rows[0].symbol or f"0x{rows[0].address}", numbers.values, place, base=numbers.base, printed=numbers.printed)


def _runs(source: Source, rows: Sequence[tuple[int, _Row]]) -> Iterator[DumpArray]:
    """Bytes from addresses that follow each other; addresses may count words of 16 bits."""
    unit = 2 if _counts_words(rows) else 1
    start, symbol, held = rows[0][0], rows[0][1].symbol, b""
    bits = _bits(rows[0][1])
    for place, row in rows:
        end = start + len(held) // unit
        if place < end:
            raise source.error(row.position, f"address 0x{place:x} comes again; save the memory once")
        if place > end:
            yield _run(start, symbol, held, bits)
            start, symbol, held = place, row.symbol, b""
        held += _bytes(row)
    yield _run(start, symbol, held, bits)


def _counts_words(rows: Sequence[tuple[int, _Row]]) -> bool:
    steps = [(after - before, len(_bytes(row))) for (before, row), (after, _) in pairwise(rows)]
    return any(2 * step == size for step, size in steps) and all(2 * step >= size for step, size in steps)


def _run(start: int, symbol: str, held: bytes, bits: int) -> DumpArray:
    name = symbol or f"0x{start:x}"
    return DumpArray(
        name, np.frombuffer(held, np.uint8), f"address 0x{start:x}", raw=True, word_bits=bits if bits > 8 else None
    )


def _bits(row: _Row) -> int:
    """Width of the words; of xxd, which writes bytes in pairs, one byte."""
    return 8 if row.paired else 4 * len(row.values[0].text.lower().removeprefix("0x"))


def _bytes(row: _Row) -> bytes:
    words = [token.text.lower().removeprefix("0x") for token in row.values]
    return b"".join(bytes.fromhex(word) if row.paired else bytes.fromhex(word)[::-1] for word in words)
