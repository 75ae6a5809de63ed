"""A dump's numbers as the values of a tensor: whatever the file leaves open (width of words, number of sets) is tried.

Every reading is one that the file allows; values are never changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npusim.errors import InputError
from npusim.files.dumps.dump import DumpArray, Role
from npusim.files.element_types import convert_exactly
from npusim.graph import Array

__all__ = ["Reading", "TensorForm", "read_as"]


@dataclass(frozen=True, slots=True, eq=False)
class TensorForm:
    """The tensor that a dump is to be read as.

    Attributes
    ----------
    tensor
        Its name.
    dtype
        Element type that the device holds it in.
    count
        Values of one set.
    sets
        Number of sets, when a dump may hold all of them; 1 when a certain one is meant.
    path
        The dump, for messages.
    """

    tensor: str
    dtype: np.dtype[Any]
    count: int
    sets: int
    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One way to read a dump.

    Attributes
    ----------
    values
        ``[sets, values]``: int64 for codes, otherwise the tensor's float type.
    note
        What was assumed, empty where nothing was.
    """

    values: Array
    note: str = ""


def read_as(array: DumpArray, form: TensorForm) -> list[Reading]:
    """All ways to read an array as a tensor, the most literal first.

    Parameters
    ----------
    array
        An array of a dump.
    form
        What it is to be.

    Raises
    ------
    InputError
        If it holds another number of values, or values that the type cannot have.

    Examples
    --------
    >>> form = TensorForm("y", np.dtype(np.int8), 2, 1, "dump.bin")
    >>> [item.values.tolist() for item in read_as(DumpArray("", np.array([-1, 1]), "line 1", base=10), form)]
    [[[-1, 1]]]
    """
    ways = list(_raw(array, form)) if array.raw else list(_words(array, form))
    if not ways:
        raise InputError(_wrong_length(array, form))
    return ways


def _raw(array: DumpArray, form: TensorForm) -> Iterator[Reading]:
    """Bytes: elements of the tensor's own width, or codes in wider words."""
    size = form.dtype.itemsize
    for sets in _set_counts(form):
        if array.values.size == sets * form.count * size:
            yield Reading(_shaped(array.converted(form.dtype, form.path), sets, form))
    if form.dtype.kind not in "iu":
        return
    for wide in (2, 4, 8):
        for sets in _set_counts(form):
            if wide > size and array.values.size == sets * form.count * wide:
                values = array.converted(np.dtype(f"i{wide}"), form.path)
                yield Reading(_shaped(values, sets, form), f"each value takes {8 * wide} bits")


def _words(array: DumpArray, form: TensorForm) -> Iterator[Reading]:
    """Numbers: one for each value, or words in which several values are packed."""
    for sets in _set_counts(form):
        if array.values.size == sets * form.count:
            for reading in _numbers(array, form):
                yield Reading(_shaped(reading.values, sets, form), reading.note)
    size = form.dtype.itemsize
    if array.word_bits is None or array.word_bits not in (16, 32, 64) or array.word_bits // 8 <= size:
        return
    width = array.word_bits // 8
    for sets in _set_counts(form):
        total = sets * form.count * size
        if array.values.size == math.ceil(total / width):
            held = array.values.astype(f"<u{width}").view(np.uint8)[:total]
            values = DumpArray(array.name, held, array.place, raw=True).converted(form.dtype, form.path)
            yield Reading(_shaped(values, sets, form), f"each word of {array.word_bits} bits holds {width // size} values")


def _numbers(array: DumpArray, form: TensorForm) -> Iterator[Reading]:
    """Readings of one number for each value."""
    source = f"{form.path}: {array.described}"
    if form.dtype.kind == "f":
        yield Reading(array.converted(form.dtype, form.path))
        return
    if array.base == 16:
        width = array.word_bits if array.word_bits in (8, 16, 32, 64) else 64
        if width >= 8 * form.dtype.itemsize and form.dtype.kind == "i" and width < 64:
            signed = array.converted(np.dtype(f"i{width // 8}"), form.path)
            yield Reading(signed, "" if width == 8 * form.dtype.itemsize else f"each value takes {width} bits")
        yield from _low_bits(array, form)
        yield Reading(convert_exactly(array.values, np.dtype(np.int64), source))
        return
    values = convert_exactly(array.values, np.dtype(np.int64), source)
    if form.dtype == np.uint8 and array.c_type == "int8_t" and array.role is Role.OUTPUT:
        yield Reading(np.bitwise_and(values, 0xFF), "int8_t holds the bits of uint8 codes")
    yield Reading(values)


def _low_bits(array: DumpArray, form: TensorForm) -> Iterator[Reading]:
    """Bit patterns that fit the tensor's type."""
    limit = 2 ** (8 * form.dtype.itemsize)
    values = array.values
    if form.dtype.itemsize < 8 and not np.less(values, 0).any() and not np.greater_equal(values, limit).any():
        yield Reading(array.converted(form.dtype, form.path))


def _set_counts(form: TensorForm) -> list[int]:
    return [1] if form.sets == 1 else [form.sets, 1]


def _shaped(values: Array, sets: int, form: TensorForm) -> Array:
    wanted = form.dtype if form.dtype.kind == "f" else np.dtype(np.int64)
    return values.astype(wanted, copy=False).reshape(sets, form.count)


def _wrong_length(array: DumpArray, form: TensorForm) -> str:
    """Say how many values there are, how many are wanted, and how the numbers relate."""
    unit, size = ("bytes", form.dtype.itemsize) if array.raw else ("values", 1)
    seen, wanted = array.values.size, form.count * size
    kind = f" of {form.dtype}" if array.raw else ""
    all_sets = f" ({wanted * form.sets} for all {form.sets} sets)" if form.sets > 1 else ""
    if seen % wanted == 0:
        relation = f"they are {seen // wanted} times as many"
    elif wanted % seen == 0:
        relation = f"they are 1/{wanted // seen} of that"
    else:
        relation = "that is not a multiple"
    demand = f"wanted {wanted} for tensor '{form.tensor}'{kind}{all_sets}"
    return f"{form.path}: {array.described}: {seen} {unit if seen != 1 else unit[:-1]}, {demand}: {relation}"
