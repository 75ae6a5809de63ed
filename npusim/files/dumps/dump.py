"""What was read from a dump: named arrays, each with where it came from and how its numbers were written."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from npusim.errors import InputError
from npusim.files.arrays import listed
from npusim.files.dumps.numbers import Printed
from npusim.files.element_types import convert_exactly, first_of
from npusim.graph import Array

__all__ = ["Dump", "DumpArray", "Role"]


class Role(StrEnum):
    """What an array is for, where its name in a C file says so.

    RAW_INPUT is what a sensor gave, INPUT what the model is run on, OUTPUT what it gave. BIAS, SCALE and SHIFT are the
    parameters of the input stage: ``codes = ((x + bias) * scale) >> shift``.
    """

    RAW_INPUT = "raw_input"
    INPUT = "input"
    OUTPUT = "output"
    BIAS = "bias"
    SCALE = "scale"
    SHIFT = "shift"


@dataclass(frozen=True, slots=True, eq=False)
class DumpArray:
    """One array of a dump.

    Attributes
    ----------
    name
        Symbol, key or start address; empty where the format has no names.
    values
        int64 (uint64 beyond it) or float64 as written for text, the stored type for NumPy files, uint8 for raw bytes.
    place
        Where the array starts, for messages: ``line 12``, ``address 0x9000``.
    base
        10 or 16 for integers in text; None for floats and binary data.
    word_bits
        Bits of each number where hexadecimal ones are all written with the same number of digits, else None.
    raw
        True for bytes whose element type the file does not say; `word_bits` are then those of the words that were saved, whose
        last may hold more than the tensor.
    printed
        How decimal fractions in text were rounded; None for everything else.
    c_type
        Declared element type of a C array.
    role, set_index, label
        Of a test vector: what the array is for, the number of its set, the comment before it.
    active
        False for an array inside of a comment.
    """

    name: str
    values: Array
    place: str
    base: int | None = None
    word_bits: int | None = None
    raw: bool = False
    c_type: str | None = None
    role: Role | None = None
    set_index: int | None = None
    label: str = ""
    active: bool = True
    printed: Printed | None = None

    @property
    def is_integer(self) -> bool:
        """True for whole numbers, False for floats and for raw bytes."""
        return not self.raw and self.values.dtype.kind in "iu"

    def converted(self, dtype: np.dtype[Any], where: str) -> Array:
        """The values in the element type of a tensor.

        Raw bytes are read as little-endian elements. Numbers in hexadecimal are bit patterns: 0xFF is -1 in int8, and
        0x3F800000 written with eight digits is 1.0 in float32. All other numbers must be representable, decimal fractions are
        rounded to the float type.

        Parameters
        ----------
        dtype
            The type wanted.
        where
            The file, for messages.

        Raises
        ------
        InputError
            If a value is out of the type's range, is not whole where integers are wanted, or bytes do not fill the elements.

        Examples
        --------
        >>> DumpArray("y", np.array([255, 1]), "line 1", base=16).converted(np.dtype(np.int8), "log.txt")
        array([-1,  1], dtype=int8)
        """
        dtype = np.dtype(dtype).newbyteorder("=")
        source = f"{where}: {self.described}"
        if self.raw:
            return _from_bytes(self.values, dtype, source)
        if self.base == 16:
            return _from_patterns(self, dtype, source)
        if self.values.dtype.kind == "f" and dtype.kind == "f":
            with np.errstate(over="ignore"):
                rounded = self.values.astype(dtype)
            if not np.isfinite(rounded).all():
                raise InputError(f"{source}: {first_of(self.values, ~np.isfinite(rounded))} is beyond {dtype}")
            return rounded
        return convert_exactly(self.values, dtype, source)

    @property
    def described(self) -> str:
        """How messages name the array."""
        return f"array '{self.name}' ({self.place})" if self.name else f"the values from {self.place}"


@dataclass(frozen=True, slots=True, eq=False)
class Dump:
    """The arrays of a dump in the order of the file.

    Attributes
    ----------
    path
        The file.
    format
        One of `npusim.files.dumps.FORMATS`.
    arrays
        At least one.
    inputs, outputs
        Names of inputs and outputs, where a generated model header gives them.
    notes
        Sentences about how the file was understood.
    """

    path: str
    format: str
    arrays: tuple[DumpArray, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> DumpArray:
        """The array of a name; the first in the file if several sets have one."""
        for array in self.arrays:
            if array.name == name:
                return array
        raise InputError(f"{self.path}: holds no array '{name}', only {listed(item.name for item in self.arrays)}")

    def with_role(self, role: Role, set_index: int | None = None) -> tuple[DumpArray, ...]:
        """The arrays of a role, of all sets or of one."""
        return tuple(item for item in self.arrays if item.role is role and (set_index is None or item.set_index == set_index))

    @property
    def only(self) -> DumpArray:
        """The array, if there is just one.

        Raises
        ------
        InputError
            If there are several.
        """
        if len(self.arrays) != 1:
            names = listed(item.name for item in self.arrays)
            raise InputError(f"{self.path}: holds {len(self.arrays)} arrays, {names}; say which one is meant")
        return self.arrays[0]


def _from_bytes(values: Array, dtype: np.dtype[Any], source: str) -> Array:
    if values.size % dtype.itemsize:
        raise InputError(
            f"{source}: {values.size} bytes are not a whole number of {dtype} elements of {dtype.itemsize} bytes; "
            "save a multiple, or name the type that the bytes hold"
        )
    read = np.frombuffer(values.tobytes(), dtype.newbyteorder("<")).astype(dtype)
    if dtype.kind == "f" and not np.isfinite(read).all():
        raise InputError(f"{source}: {first_of(read, ~np.isfinite(read))} as {dtype}; is this the type that the bytes hold?")
    return read


def _from_patterns(array: DumpArray, dtype: np.dtype[Any], source: str) -> Array:
    bits = 8 * dtype.itemsize
    values = array.values
    if dtype.kind == "f":
        if array.word_bits != bits:
            written = "of different lengths" if array.word_bits is None else f"of {array.word_bits} bits"
            raise InputError(f"{source}: hexadecimal numbers {written}, wanted patterns of {bits} bits for {dtype}")
        return _from_bytes(values.astype(f"<u{dtype.itemsize}").view(np.uint8), dtype, source)
    limit = 2**bits
    if dtype.kind == "i" and bits < 64 and values.size and values.min() >= 0 and values.max() < limit:
        signed = values.astype(np.int64)
        return np.where(signed >= limit // 2, signed - limit, signed).astype(dtype)
    return convert_exactly(values, dtype, source)
