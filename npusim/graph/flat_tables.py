"""Reading FlatBuffers without trusting them: every offset, length and index is checked against the bytes.

The classes that FlatBuffers generates follow offsets unchecked; a damaged file makes them raise anything, or read garbage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from flatbuffers import packer

from npusim.errors import ModelError

__all__ = ["Bytes", "FlatTable", "root_table"]

_PACKERS: Final = {
    "bool": packer.boolean,
    "int8": packer.int8,
    "uint8": packer.uint8,
    "uint16": packer.uint16,
    "int32": packer.int32,
    "uint32": packer.uint32,
    "uint64": packer.uint64,
    "float32": packer.float32,
}


@dataclass(slots=True)
class Bytes:
    """The bytes of a file, and how many more elements may be read from it.

    Tables may share their parts, so a small damaged file can describe a huge one; a file that says the truth is read once.

    Attributes
    ----------
    content
        All bytes.
    label
        How messages name the file.
    left
        Elements and tables that may still be read.
    """

    content: bytes
    label: str
    left: int

    def scalar(self, kind: str, position: int) -> int | float:
        """A number at a position."""
        reader = _PACKERS[kind]
        if position < 0 or position + reader.size > len(self.content):
            raise self.damaged(f"a value at byte {position} lies outside of its {len(self.content)} bytes")
        (value,) = reader.unpack_from(self.content, position)
        return float(value) if kind == "float32" else int(value)

    def offset(self, position: int) -> int:
        """The position that an offset at a position leads to."""
        return position + int(self.scalar("uint32", position))

    def span(self, position: int, size: int) -> tuple[int, int]:
        """First byte and number of elements of a vector of elements of `size` bytes, checked."""
        count = int(self.scalar("uint32", position))
        if position + 4 + count * size > len(self.content):
            raise self.damaged(f"a list of {count} at byte {position} reaches beyond its {len(self.content)} bytes")
        self.spend(count)
        return position + 4, count

    def spend(self, count: int) -> None:
        """Count what was read."""
        self.left -= count
        if self.left < 0:
            raise self.damaged("its tables refer to the same bytes again and again")

    def damaged(self, what: str) -> ModelError:
        """The error for bytes that contradict themselves."""
        return ModelError(f"{self.label} is damaged: {what}; copy or export the model again")


@dataclass(frozen=True, slots=True)
class FlatTable:
    """A table: fields found through a vtable. A slot is a field's offset in the vtable."""

    source: Bytes
    position: int
    vtable: int
    fields_end: int

    @classmethod
    def at(cls, source: Bytes, position: int) -> FlatTable:
        """The table at a position."""
        source.spend(1)
        vtable = position - int(source.scalar("int32", position))
        size = int(source.scalar("uint16", vtable))
        if size < 4 or vtable + size > len(source.content):
            raise source.damaged(f"the table at byte {position} has a vtable of {size} bytes at byte {vtable}")
        return cls(source, position, vtable, size)

    def field(self, slot: int) -> int | None:
        """Position of a field; None where it is left out."""
        if slot + 2 > self.fields_end:
            return None
        offset = int(self.source.scalar("uint16", self.vtable + slot))
        return self.position + offset if offset else None

    def integer(self, slot: int, kind: str, default: int = 0) -> int:
        """An integer field."""
        place = self.field(slot)
        return default if place is None else int(self.source.scalar(kind, place))

    def real(self, slot: int, default: float = 0.0) -> float:
        """A float32 field."""
        place = self.field(slot)
        return default if place is None else float(self.source.scalar("float32", place))

    def table(self, slot: int) -> FlatTable | None:
        """A field that is a table."""
        place = self.field(slot)
        return None if place is None else FlatTable.at(self.source, self.source.offset(place))

    def tables(self, slot: int) -> list[FlatTable]:
        """A field that is a list of tables; empty where it is left out."""
        place = self.field(slot)
        if place is None:
            return []
        first, count = self.source.span(self.source.offset(place), 4)
        return [FlatTable.at(self.source, self.source.offset(first + 4 * index)) for index in range(count)]

    def numbers(self, slot: int, dtype: str) -> npt.NDArray[np.generic]:
        """A field that is a list of numbers, of a NumPy dtype; empty where it is left out."""
        place = self.field(slot)
        little = np.dtype(dtype).newbyteorder("<")
        if place is None:
            return np.zeros(0, little)
        first, count = self.source.span(self.source.offset(place), little.itemsize)
        return np.frombuffer(self.source.content, little, count, first)

    def text(self, slot: int) -> str:
        """A field that is a string; empty where it is left out."""
        return bytes(self.numbers(slot, "uint8")).decode("utf-8", "replace")


def root_table(content: bytes, label: str) -> FlatTable:
    """The outermost table of a file.

    Raises
    ------
    ModelError
        If the bytes have no place for one.
    """
    source = Bytes(content, label, left=4 * len(content) + 1000)
    return FlatTable.at(source, source.offset(0))
