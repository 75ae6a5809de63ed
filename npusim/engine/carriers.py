"""Which element type carries a layer's integers through BLAS: chosen only where the bounds prove that it is exact.

A float holds every integer up to a limit, and a sum of such integers is exact in any order while no partial sum passes it.
The bound of a layer is a value that can be asked for, and a layer just past a limit takes the next carrier.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from npusim.bounds import LayerBounds
from npusim.program import IntegerArray, ShiftFloor

__all__ = ["FLOAT32_LIMIT", "FLOAT64_LIMIT", "Carrier", "CarrierChoice", "choose_carrier", "reduced_scale"]

FLOAT32_LIMIT: Final = 2**24
"""float32 holds every integer below."""

FLOAT64_LIMIT: Final = 2**53
"""float64 holds every integer below."""


class Carrier(StrEnum):
    """How a layer is computed.

    FLOAT32_FOLDED: float32 BLAS on weights that already carry scale and shift. FLOAT32: float32 BLAS on plain weights, scale
    and shift behind it. FLOAT64: float64 BLAS on plain weights. INTEGER: int64 without BLAS.
    """

    FLOAT32_FOLDED = "float32_folded"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INTEGER = "integer"


@dataclass(frozen=True, slots=True)
class CarrierChoice:
    """A carrier and the bound that proves it.

    Attributes
    ----------
    carrier
        The choice.
    bound
        Largest magnitude that any integer on the way can have, in the units that the carrier computes in.
    limit
        What `bound` has to stay below.
    """

    carrier: Carrier
    bound: int
    limit: int


def choose_carrier(bounds: LayerBounds) -> CarrierChoice:
    """Choose the fastest carrier that is proven exact for a layer.

    Folded: the products are multiples of ``2**-shift``, so in units of that every partial sum of ``(accumulator + bias) *
    scale`` has to stay below 2**24. Plain float32: partial sums and ``accumulator + bias`` below 2**24; the one product
    with ``scale * 2**-shift`` that follows is exact wherever the result is inside of the clip, when ``(largest code + 1) <<
    shift`` is at most 2**24, and beyond the clip rounding cannot bring it back. float64: everything below 2**53.

    Parameters
    ----------
    bounds
        Reachable intervals inside of the layer.
    """
    requantization = bounds.layer.requantization
    if requantization is None:
        raise ValueError(f"layer '{bounds.layer.name}' does not requantize")
    scale, shift = reduced_scale(requantization)
    sums = _largest(bounds)
    biased = sums + np.abs(requantization.bias)
    folded = int((biased * np.abs(scale).clip(1)).max(initial=0))
    if folded < FLOAT32_LIMIT and bounds.layer.weights is not None:
        return CarrierChoice(Carrier.FLOAT32_FOLDED, folded, FLOAT32_LIMIT)
    plain = int(biased.max(initial=0))
    if plain < FLOAT32_LIMIT and int(_largest_code(bounds)) + 1 << int(shift.max(initial=0)) <= FLOAT32_LIMIT:
        return CarrierChoice(Carrier.FLOAT32, plain, FLOAT32_LIMIT)
    if folded < FLOAT64_LIMIT:
        return CarrierChoice(Carrier.FLOAT64, folded, FLOAT64_LIMIT)
    return CarrierChoice(Carrier.INTEGER, folded, 2**63)


def reduced_scale(requantization: ShiftFloor) -> tuple[IntegerArray, IntegerArray]:
    """Scale and shift of each channel without common factors of two: the same multiplier in the fewest bits.

    Examples
    --------
    >>> from npusim.program import Clip
    >>> half = ShiftFloor(np.zeros(1, np.int64), np.array([128]), np.array([8]), clip=Clip(0, 255))
    >>> reduced_scale(half)
    (array([1]), array([1]))
    """
    scale, shift = requantization.scale.copy(), requantization.shift.copy()
    while (even := (scale % 2 == 0) & (scale != 0) & (shift > 0)).any():
        scale, shift = np.where(even, scale // 2, scale), np.where(even, shift - 1, shift)
    return scale, shift


def _largest(bounds: LayerBounds) -> IntegerArray:
    """Largest magnitude of any partial sum, for each channel."""
    ends = bounds.partial.by_channel(bounds.layer.channel_axis)
    largest: IntegerArray = np.maximum(np.abs(ends.lower), np.abs(ends.upper))
    return largest


def _largest_code(bounds: LayerBounds) -> int:
    layer = bounds.layer
    outer = None if layer.requantization is None else layer.requantization.clip
    ends = [abs(end) for clip in (layer.inner_clip, outer) if clip is not None for end in (clip.lower, clip.upper)]
    return max(ends, default=0)
