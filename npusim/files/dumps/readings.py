"""A dump's numbers as the values of a tensor: whatever the file leaves open (width of words, number of sets) is tried.

Every reading is one that the file allows; values are never changed, and what is right has no say in how a file is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from npusim.errors import InputError, count
from npusim.files.dumps.dump import DumpArray
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
    """All ways to read an array as a tensor that differ in the values, and whose values the tensor's type has.

    There is more than one only where the file leaves it open. If no way gives values of the type, it is the most literal one.

    Parameters
    ----------
    array
        An array of a dump.
    form
        What it is to be.

    Raises
    ------
    InputError
        If it holds another number of values, or none that the tensor can have.

    Examples
    --------
    >>> form = TensorForm("y", np.dtype(np.int8), 2, 1, "dump.txt")
    >>> (reading,) = read_as(DumpArray("", np.array([65535, 1]), "line 1", base=10), form)
    >>> reading.values.tolist(), reading.note
    ([[-1, 1]], 'the numbers are unsigned ones of 16 bits')
    """
    ways = list(_raw(array, form)) if array.raw else list(_words(array, form))
    if not ways:
        raise InputError(_wrong_length(array, form))
    found = list[Reading]()
    for way in ways:
        if _is_possible(way.values, form) and not any(np.array_equal(way.values, one.values) for one in found):
            found.append(way)
    return found or ways[:1]


def _is_possible(values: Array, form: TensorForm) -> bool:
    if form.dtype.kind not in "iu":
        return True
    info = np.iinfo(form.dtype.name)
    return not (np.less(values, info.min).any() or np.greater(values, info.max).any())


def _raw(array: DumpArray, form: TensorForm) -> Iterator[Reading]:
    """Bytes: elements of the tensor's own width, or codes in wider words or floats."""
    size = form.dtype.itemsize
    for sets in _set_counts(form):
        total = sets * form.count * size
        word = 1 if array.word_bits is None else array.word_bits // 8
        if array.values.size == math.ceil(total / word) * word:
            held = replace(array, values=array.values[:total])
            left = array.values.size - total
            note = f"the last {count(left, 'byte')} of the last word {'is' if left == 1 else 'are'} left out" if left else ""
            yield Reading(_shaped(held.converted(form.dtype, form.path), sets, form), note)
    if form.dtype.kind not in "iu":
        return
    for wide in (2, 4, 8):
        for sets in _set_counts(form):
            if wide > size and array.values.size == sets * form.count * wide:
                values = array.converted(np.dtype(f"i{wide}"), form.path)
                yield Reading(_shaped(values, sets, form), f"each value takes {8 * wide} bits")
    for sets in _set_counts(form):
        if array.values.size == sets * form.count * 4:
            floats = np.frombuffer(array.values.tobytes(), "<f4")
            if np.isfinite(floats).all() and bool((floats == np.floor(floats)).all()) and bool((np.abs(floats) < 2**24).all()):
                yield Reading(_shaped(floats.astype(np.int64), sets, form), "each value is a float32")


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
    """Readings of one number for each value: as it stands, or as the pattern of a code in so many bits."""
    source = f"{form.path}: {array.described}"
    if form.dtype.kind == "f":
        yield Reading(array.converted(form.dtype, form.path))
        return
    own = 8 * form.dtype.itemsize
    signed = form.dtype.kind == "i"
    patterns = array.base == 16 and array.values.dtype.kind in "iu" and not np.less(array.values, 0).any()
    if patterns and array.word_bits in (8, 16, 32) and array.word_bits >= own and signed:
        values = array.converted(np.dtype(f"i{array.word_bits // 8}"), form.path)
        yield Reading(values, "" if array.word_bits == own else f"each value takes {array.word_bits} bits")
    if patterns and signed and own < 64 and not np.greater_equal(array.values, 2**own).any():
        yield Reading(array.converted(form.dtype, form.path))
    values = convert_exactly(array.values, np.dtype(np.int64), source)
    yield Reading(values)
    if signed:
        for bits in (8, 16, 32):
            if bits >= own and bool(np.greater_equal(values, 0).all() and np.less(values, 2**bits).all()):
                wrapped = np.where(np.greater_equal(values, 2 ** (bits - 1)), values - 2**bits, values)
                yield Reading(wrapped, f"the numbers are unsigned ones of {bits} bits")
    elif own < 64 and bool(np.greater_equal(values, -(2 ** (own - 1))).all() and np.less(values, 2 ** (own - 1)).all()):
        held = "int8_t holds" if array.c_type == "int8_t" else "signed numbers hold"
        yield Reading(np.bitwise_and(values, 2**own - 1), f"{held} the bits of {form.dtype} codes")


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
