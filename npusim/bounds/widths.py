"""Widths of what the NPU stores and sums up, and the room that a layer leaves in them, in bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from npusim.bounds.channels import ChannelBounds
from npusim.bounds.layer_verdicts import sums_of
from npusim.program import Accumulating, IntegerArray, IntegerLayer, Weighted
from npusim.program.intervals import Interval
from npusim.schemas.objects import WHERE_KNOWN

__all__ = ["MAXIMUM_SHIFT", "Room", "Widths", "float_bits", "room_of", "signed_bits", "widths_of"]

MAXIMUM_SHIFT: Final = 31
"""Largest shift of the NPU."""

FLOAT32_BITS: Final = 24
INT32_BITS: Final = 32
DIGIT_BITS: Final = 18
SHIFT_BITS: Final = 5


@dataclass(frozen=True, slots=True)
class Widths:
    """Bits in which the NPU stores a layer's parameters.

    Attributes
    ----------
    bias
        Signed.
    scale
        Unsigned; 1 where every scale has to be 1.
    """

    bias: int
    scale: int


@dataclass(frozen=True, slots=True)
class Room:
    """Bits left, negative where a limit is passed; None where there is no such number.

    Attributes
    ----------
    float32_partial, float32_biased, float32_scaled
        Partial sums of the accumulator, ``accumulator + bias`` and ``(accumulator + bias) * scale`` against 2**24.
    int32
        The widest integer of a layer against int32: ``(accumulator + bias) * scale`` in the soft library.
    digit_18bit
        Partial sums of weight digits against the NPU's 18 bits.
    bias, scale, shift
        Parameters against the bits in which they are stored.
    accumulator_int32
        Of formats that are not the NPU's: partial sums of the accumulator, with the bias, against the runtime's int32.
    """

    float32_partial: int | None
    float32_biased: int | None
    float32_scaled: int | None
    int32: int
    digit_18bit: int | None
    bias: int | None
    scale: int | None
    shift: int | None
    accumulator_int32: int | None = field(default=None, metadata=WHERE_KNOWN)


def widths_of(layer: IntegerLayer) -> Widths | None:
    """The widths of a layer's bias and scale; None for ADD, which is not a layer of the NPU.

    With weights of 4 and 2 bits the bias has 16 bits and the scale 8. With 8-bit weights the bias has 24 bits, and the scale
    is always 1. An average pool has no weights; its scale tells which of both it is.
    """
    if not isinstance(layer, Accumulating) or not layer.kind.is_of_npu:
        return None
    scale = layer.requantization.parameters.get("scale")
    if scale is None:
        return None
    narrow = layer.weight_bits < 8 if isinstance(layer, Weighted) else bool((scale > 1).any())
    return Widths(16, 8) if narrow else Widths(24, 1)


def room_of(bounds: ChannelBounds, *, of_npu: bool = True) -> Room:
    """The room that a layer leaves, over all of its channels; of a layer that is not the NPU's in int32 only."""
    layer = bounds.layer
    if not of_npu:
        sums = sums_of(bounds)
        room = INT32_BITS - signed_bits(sums.lower, sums.upper)
        widest = min(room, INT32_BITS - signed_bits(bounds.scaled.lower, bounds.scaled.upper))
        return Room(None, None, None, widest, None, None, None, None, room)
    part = layer.requantization.parameters
    widths, digits = widths_of(layer), bounds.digit_partials
    return Room(
        float32_partial=FLOAT32_BITS - float_bits(bounds.partial),
        float32_biased=FLOAT32_BITS - float_bits(bounds.biased),
        float32_scaled=FLOAT32_BITS - float_bits(bounds.scaled),
        int32=INT32_BITS - signed_bits(bounds.scaled.lower, bounds.scaled.upper),
        digit_18bit=min(DIGIT_BITS - signed_bits(one.lower, one.upper) for one in digits) if digits else None,
        bias=None if widths is None else widths.bias - signed_bits(part["bias"]),
        scale=None if widths is None else _scale_room(part["scale"], widths.scale),
        shift=SHIFT_BITS - int(part["shift"].max()).bit_length() if "shift" in part else SHIFT_BITS,
    )


def float_bits(interval: Interval) -> int:
    """The smallest n such that no value passes 2**n: a float whose significand has n bits holds every integer up to there.

    Examples
    --------
    >>> float_bits(Interval(np.array([-5]), np.array([16]))), float_bits(Interval(np.array([0]), np.array([17])))
    (4, 5)
    """
    largest = max(abs(int(interval.lower.min())), abs(int(interval.upper.max())))
    return max(largest - 1, 0).bit_length()


def signed_bits(*values: IntegerArray) -> int:
    """Bits of the smallest two's complement integer that holds all values.

    Examples
    --------
    >>> signed_bits(np.array([-128, 127])), signed_bits(np.array([128])), signed_bits(np.array([0]))
    (8, 9, 1)
    """
    lower, upper = min(int(part.min()) for part in values), max(int(part.max()) for part in values)
    return 1 + max(max(upper, 0).bit_length(), max(-lower - 1, 0).bit_length())


def _scale_room(scale: IntegerArray, bits: int) -> int:
    """An unsigned number has no bit for a sign, and a scale that has to be 1 may not even be 0."""
    room = bits - int(np.abs(scale).max()).bit_length()
    fits = bool((scale == 1).all()) if bits == 1 else bool((scale >= 0).all())
    return room if fits else min(room, -1)
