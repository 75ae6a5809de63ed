"""Causes that lie in how a buffer was laid out, saved or printed: the arithmetic was right, its values stand elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.golden.check.evidence import UNLISTED, Hypothesis
from npusim.graph import Array

__all__ = ["Buffer", "buffer_causes"]

LONGEST_SHIFTS: Final = 1024
"""Shifts tried in either direction in long buffers."""

KEPT_SHIFTS: Final = 3

SCREENED: Final = 256
"""Values that a cause is tried on before all are."""

FILLERS: Final = (0x00, 0xFF, 0xA5, 0x5A, 0x55, 0xAA, 0xCC, 0xCD, 0xDE, 0xEE)
"""Bytes that memory holds before it is written: cleared, erased, or filled by a loader or a debugger."""

PADDINGS: Final = (4, 8, 16, 32)
"""Multiples to which libraries fill up channels."""

FEW_CROSSING: Final = 4
"""Different values that have to move from one channel to the next before a buffer is taken to have moved."""

OUT_OF_RANGE: Final = 2.0**-10
"""Chance of a value that no code of the tensor's type can be, and that is the right one with the other sign."""

_AXES: Final = {2: "CW", 3: "CHW", 4: "CDHW"}
"""Names of a sample's axes, by their number."""


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """What was read and what was wanted.

    Attributes
    ----------
    observed, expected
        ``[sets, values]`` in the order of the dump.
    wanted
        The right tensor in ONNX layout, ``[sets, ...]``, of the type that the device holds it in.
    layout
        ``nchw`` or ``nhwc``: how the dump is taken to be laid out.
    sets
        Numbers of the sets in the dump.
    all_sets
        The right values of all sets in the order of the dump, ``[all sets, values]``.
    """

    observed: Array
    expected: Array
    wanted: Array
    layout: str
    sets: Sequence[int]
    all_sets: Array


def buffer_causes(buffer: Buffer) -> Iterator[Hypothesis]:
    """All causes of this kind, with what each would have written; those that would have written the right values are left out.

    Parameters
    ----------
    buffer
        What was read and what was wanted.
    """
    for cause in (_layouts, _padded, _bytes_in_words, _signs, _wide_words, _sets, _stale, _cut, _shifts, _decimals, _exchanges):
        for hypothesis in cause(buffer):
            if not np.array_equal(hypothesis.predicted, buffer.expected) or hypothesis.known is not None:
                yield hypothesis


def _layouts(buffer: Buffer) -> Iterator[Hypothesis]:
    """Axes in another order than the dump is taken to have."""
    count = buffer.wanted.ndim - 1
    if count not in _AXES:
        return
    names = _AXES[count]
    straight = tuple(range(count))
    last = (*range(1, count), 0)
    assumed = last if buffer.layout == "nhwc" else straight
    seen = {np.ascontiguousarray(buffer.expected).tobytes()}
    for order in dict.fromkeys((last, straight, *permutations(straight))):
        moved = np.transpose(buffer.wanted, (0, *(axis + 1 for axis in order)))
        predicted = moved.reshape(buffer.expected.shape).astype(buffer.expected.dtype)
        if order == assumed or predicted.tobytes() in seen:
            continue
        seen.add(predicted.tobytes())
        written = "N" + "".join(names[axis] for axis in order)
        if order == last:
            yield Hypothesis(
                "channels_last",
                f"the dump is laid out with the channels last ({written}), not first",
                "give --layout nhwc",
                predicted,
            )
        elif order == straight:
            remedy = "give --layout nchw"
            yield Hypothesis("channels_first", f"the dump is laid out as {written}, with the channels first", remedy, predicted)
        else:
            yield Hypothesis(
                "axes_permuted", f"the dump is laid out as {written}", "write it with its axes in order", predicted
            )


def _padded(buffer: Buffer) -> Iterator[Hypothesis]:
    """Channels last and filled up with zeros to a multiple, of which as many values were saved as the tensor has."""
    if buffer.wanted.ndim < 3:
        return
    last = np.moveaxis(buffer.wanted, 1, -1)
    channels, count = last.shape[-1], buffer.expected.shape[1]
    for multiple in PADDINGS:
        rest = -channels % multiple
        if rest and (multiple == PADDINGS[0] or -channels % (multiple // 2) != rest):
            wide = np.concatenate([last, np.zeros((*last.shape[:-1], rest), last.dtype)], axis=-1)
            yield Hypothesis(
                "padded_channels",
                f"the channels stand last, filled up with zeros from {channels} to {channels + rest}",
                f"save all {wide[0].size} values, and leave out the channels from {channels} on",
                wide.reshape(len(wide), -1)[:, :count].astype(buffer.expected.dtype),
            )


def _bytes_in_words(buffer: Buffer) -> Iterator[Hypothesis]:
    """Each word's bytes in the other order."""
    remedy = "save the memory byte by byte, or in the byte order of the processor"
    held = np.ascontiguousarray(_in_dump_order(buffer))
    for width in (2, 4, 8):
        size = held.dtype.itemsize
        if width < size or width == 1 or held.shape[1] * size < width:
            continue
        whole = held.shape[1] * size // width * width
        raw = held.view(np.uint8).reshape(len(held), -1).copy()
        words = raw[:, :whole].reshape(len(held), -1, width)
        raw[:, :whole] = words[:, :, ::-1].reshape(len(held), -1)
        message = f"the bytes of each {8 * width}-bit word are in the opposite order"
        yield Hypothesis("bytes_swapped", message, remedy, _as_read(raw.view(held.dtype), buffer))


def _signs(buffer: Buffer) -> Iterator[Hypothesis]:
    """Codes of 8 bits read with the other sign, as they are or widened to more bits."""
    held = _in_dump_order(buffer)
    if held.dtype == np.int8:
        for bits in (8, 16, 32):
            missing = "256" if bits == 8 else f"2^{bits}"
            message = f"int8 codes were read as uint{bits}: {missing} is missing from every negative value"
            remedy = f"print the values as signed, or read them as int{bits}"
            seen = held.astype(np.int64) & (2**bits - 1)
            yield Hypothesis(f"read_as_uint{bits}", message, remedy, _as_read(seen, buffer), chance=OUT_OF_RANGE)
    elif held.dtype == np.uint8:
        message = "uint8 codes were read as int8: 256 is missing in every value from 128"
        remedy = "print the values as unsigned, or read them as uint8"
        seen = np.ascontiguousarray(held).view(np.int8).astype(np.int64)
        yield Hypothesis("read_as_int8", message, remedy, seen, chance=OUT_OF_RANGE)


def _wide_words(buffer: Buffer) -> Iterator[Hypothesis]:
    """Each 8-bit code takes 16 bits in memory, which was saved byte by byte."""
    held = np.ascontiguousarray(_in_dump_order(buffer))
    if held.dtype.itemsize != 1 or held.shape[1] < 2:
        return
    count = held.shape[1]
    wide = held.astype("<i2").view(np.uint8).reshape(len(held), -1)[:, :count]
    remedy = "save twice as many bytes, as 16-bit values"
    message = "every value takes 16 bits (as on C28x), so the bytes of only half of them were saved"
    for dtype in (np.int8, np.uint8):
        yield Hypothesis("words_of_16_bits", message, remedy, np.ascontiguousarray(wide).view(dtype).astype(np.int64))


def _sets(buffer: Buffer) -> Iterator[Hypothesis]:
    """The results of other sets."""
    remedy = "check which inputs the device ran on"
    total = len(buffer.all_sets)
    if len(buffer.sets) == 1:
        (current,) = buffer.sets
        for other in range(total):
            if other == current:
                continue
            predicted = buffer.all_sets[other : other + 1]
            if other == current - 1:
                message = f"the buffer holds the previous set, {other}: it was not written again, or read too early"
                yield Hypothesis("stale_previous_set", message, "wait until the model has finished", predicted)
            else:
                yield Hypothesis("wrong_set", f"these are the values of set {other}", f"give --set {other}", predicted)
        return
    chosen = list(buffer.sets)
    for step, cause in ((1, "stale_previous_set"), (-1, "wrong_set")):
        source = np.array([number - step for number in chosen])
        known = np.repeat(((source >= 0) & (source < total))[:, None], buffer.expected.shape[1], axis=1)
        predicted = buffer.all_sets[np.clip(source, 0, total - 1)]
        if step == -1 and np.array_equal(buffer.observed[~known], buffer.expected[~known]) and not known.all():
            # the last set would hold something else too
            continue
        message = f"every set holds the values of the {'previous' if step == 1 else 'next'} one"
        yield Hypothesis(cause, message, "wait until the model has finished" if step == 1 else remedy, predicted, known)
    first = np.broadcast_to(buffer.all_sets[chosen[0]], buffer.expected.shape)
    message = f"all sets hold the values of set {chosen[0]}"
    yield Hypothesis("stale_previous_set", message, "check that the inputs change and that the model runs again", first)


def _stale(buffer: Buffer) -> Iterator[Hypothesis]:
    """One value everywhere."""
    value = buffer.observed.flat[0]
    if buffer.observed.size == 1 or not bool((buffer.observed == value).all()) or not _is_filler(value):
        return
    predicted = np.full_like(buffer.expected, value)
    # a network that is dead writes one value for each channel, whatever the set and the place
    channels = _channels(buffer)
    yield Hypothesis(
        "constant_buffer",
        f"all values are {value}: the buffer was never written, or was cleared",
        "check that the model ran and that this is its buffer",
        predicted,
        fitted=max(1 + int((buffer.observed != buffer.expected).sum()) - channels, 1),
        chance=_share_of(buffer, value),
    )
    if _is_usual(buffer, value):
        yield _unlisted(f"every code is {value}, as in a network that is dead or saturates", predicted)


def _cut(buffer: Buffer) -> Iterator[Hypothesis]:
    """The beginning is right, the rest was not written."""
    wrong = (buffer.observed != buffer.expected).any(axis=0)
    first = int(wrong.argmax())
    rest = buffer.observed[:, first:]
    remedy = "check the number of values that are copied, and the size of the buffer"
    if not wrong.any() or first == 0 or rest.shape[1] < 2:
        # one place that is wrong in every set is no buffer that ends early
        return
    begun = f"only the first {first} values were written, the rest"
    if bool((rest == rest.flat[0]).all()) and _is_filler(rest.flat[0]):
        predicted = buffer.expected.copy()
        predicted[:, first:] = rest.flat[0]
        chance = _share_of(buffer, rest.flat[0])
        message = f"{begun} is {rest.flat[0]}"
        yield Hypothesis("truncated_buffer", message, remedy, predicted, fitted=2, chance=chance)
        start = first // _channel_size(buffer) * _channel_size(buffer)
        if _is_usual(buffer, rest.flat[0]) and bool((buffer.observed[:, start:] == rest.flat[0]).all()):
            # the values of that channel in front of the first wrong one are the same without a fault
            yield _unlisted(f"the channels from {start // _channel_size(buffer)} on are {rest.flat[0]}", predicted)
    for other in range(len(buffer.all_sets)):
        # where the beginnings are equal too, it is the other set as a whole
        begins_alike = np.array_equal(buffer.all_sets[other, :first], buffer.expected[0, :first])
        if len(buffer.sets) == 1 and other not in buffer.sets and not begins_alike:
            predicted = buffer.expected.copy()
            predicted[:, first:] = buffer.all_sets[other, first:]
            yield Hypothesis("truncated_buffer", f"{begun} is left from set {other}", remedy, predicted, fitted=1)


def _is_filler(value: np.generic) -> bool:
    """Whether nothing but a pattern of unwritten memory need stand behind a value; a saturated channel is constant too."""
    number = float(value)
    return number.is_integer() and int(number) in (*FILLERS, *(byte - 256 for byte in FILLERS if byte > 127))


def _is_usual(buffer: Buffer, value: np.generic) -> bool:
    """Whether a layer that is wrong gives a value easily: 0, the floor of a small negative, or an end of the range."""
    held = buffer.wanted.dtype
    ends = (np.iinfo(held.name).min, np.iinfo(held.name).max) if held.kind in "iu" else ()
    seen = (buffer.all_sets.min(), buffer.all_sets.max())
    return float(value) in (0.0, -1.0, *map(float, (*ends, *seen)))


def _channels(buffer: Buffer) -> int:
    return buffer.wanted.shape[1] if buffer.wanted.ndim > 1 else 1


def _channel_size(buffer: Buffer) -> int:
    """Values that follow each other in a dump and belong to one channel; of a dump with the channels last those of a place."""
    if buffer.layout == "nhwc":
        return _channels(buffer)
    return max(math.prod(buffer.wanted.shape[2:]), 1)


def _unlisted(message: str, predicted: Array, known: npt.NDArray[np.bool_] | None = None) -> Hypothesis:
    """Something else that would have written the same, and that is not looked for."""
    return Hypothesis(UNLISTED, message, "look at an inner tensor, which tells more", predicted, known)


def _share_of(buffer: Buffer, value: np.generic) -> float:
    """How usual a value is among the right ones; never so rare that two of them would prove much."""
    return max(float((buffer.all_sets == value).mean()), 1 / 16)


def _shifts(buffer: Buffer) -> Iterator[Hypothesis]:
    """All values moved by a few places; what came in at the end is not known."""
    count = buffer.expected.shape[1]
    longest = min(count // 2, LONGEST_SHIFTS)
    scores: list[tuple[int, int]] = []
    price = math.log2(2 * longest) if longest else 0.0
    for shift in (*range(1, longest + 1), *range(-longest, 0)):
        seen, right = _overlap(buffer.observed, shift), _overlap(buffer.expected, -shift)
        if np.array_equal(seen[:, :16], right[:, :16]):
            scores.append((int((seen == right).sum()), shift))
    for _, shift in sorted(scores, reverse=True)[:KEPT_SHIFTS]:
        predicted = np.roll(buffer.expected, shift, axis=1)
        known = np.zeros(buffer.expected.shape, np.bool_)
        _overlap(known, shift)[...] = True
        message = f"the values stand {abs(shift)} places too {'late' if shift > 0 else 'early'}"
        yield Hypothesis(
            "shifted_buffer", message, "check the address that the buffer is read from", predicted, known, price=price
        )
        size = _channel_size(buffer)
        if shift % size == 0:
            yield _unlisted(f"the channels are in another order, by {abs(shift) // size}", predicted)
        elif abs(shift) < size:
            parts = buffer.expected.reshape(-1, size)
            kept = np.zeros(parts.shape, np.bool_)
            _overlap(kept, shift)[...] = True
            moved, inside = np.roll(parts, shift, axis=1).reshape(predicted.shape), kept.reshape(predicted.shape)
            if np.unique(predicted[known & ~inside]).size < FEW_CROSSING:
                # hardly a value crosses from a channel to the next, as it would if the buffer moved and not the network's input
                yield _unlisted("the layer's input is moved by a place", moved, inside)


def _overlap(values: Array, shift: int) -> Array:
    """The columns that stay when values move by `shift`: without the first ones for a positive shift."""
    return values[:, shift:] if shift > 0 else values[:, :shift]


def _exchanges(buffer: Buffer) -> Iterator[Hypothesis]:
    """The order turned around, or two places exchanged: what small buffers do not tell from words and layouts."""
    yield _unlisted("the values stand in the opposite order", buffer.expected[:, ::-1])
    wrong = np.flatnonzero((buffer.observed != buffer.expected).any(axis=0))
    if wrong.size == 2:
        predicted = buffer.expected.copy()
        predicted[:, wrong] = buffer.expected[:, wrong[::-1]]
        yield _unlisted("two values are exchanged", predicted)


def _decimals(buffer: Buffer) -> Iterator[Hypothesis]:
    """Floats printed with a fixed number of decimals."""
    if buffer.expected.dtype.kind != "f":
        return
    differs = buffer.observed != buffer.expected
    for places in range(1, 9):
        # most numbers of places are ruled out by a few values
        seen, printed = buffer.observed[differs][:SCREENED], _printed(buffer.expected[differs][:SCREENED], places)
        if (seen == printed).any():
            message = f"the values were printed with {places} decimals, too few to tell float32 values apart"
            remedy = "print floats with %.9g, or their bits in hexadecimal"
            yield Hypothesis("printed_decimals", message, remedy, _printed(buffer.expected, places))


def _printed(values: Array, places: int) -> Array:
    """What is read back of floats that were printed with so many decimals."""
    return np.array([float(f"{value:.{places}f}") for value in values.ravel().tolist()], values.dtype).reshape(values.shape)


def _in_dump_order(buffer: Buffer) -> Array:
    """The right values in the type that the device holds them in, ``[sets, values]``."""
    wanted = buffer.wanted
    if buffer.layout == "nhwc" and wanted.ndim > 2:
        wanted = np.moveaxis(wanted, 1, -1)
    return wanted.reshape(len(wanted), -1)


def _as_read(held: Array, buffer: Buffer) -> Array:
    """Values of the device's type as the dump's were read."""
    with np.errstate(invalid="ignore"):
        return held if buffer.expected.dtype.kind == "f" else held.astype(np.int64)
