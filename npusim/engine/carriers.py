"""Which element type carries a layer's integers through BLAS: chosen only where the bounds prove that it is exact.

A float holds every integer up to a limit, and a sum of such integers is exact in any order while no partial sum passes it. What
has to be proven beyond the sums, the layer's staircase says (:meth:`~npusim.program.Requantization.carriers`). The bound of a
layer is a value that can be asked for, and a layer just past a limit takes the next carrier.
"""

from __future__ import annotations

import numpy as np

from npusim.program import IntegerArray, Weighted
from npusim.program.carriers import FLOAT32_LIMIT, FLOAT64_LIMIT, Carrier, CarrierChoice
from npusim.program.intervals import LayerBounds

__all__ = ["FLOAT32_LIMIT", "FLOAT64_LIMIT", "Carrier", "CarrierChoice", "choose_carrier"]


def choose_carrier(bounds: LayerBounds) -> CarrierChoice:
    """Choose the fastest carrier that is proven exact for a layer.

    Parameters
    ----------
    bounds
        Reachable intervals inside of the layer.
    """
    layer = bounds.layer
    inner, outer = layer.requantization.clip, layer.output_clip
    largest = max(abs(end) for end in (inner.lower, inner.upper, outer.lower, outer.upper))
    choices = layer.requantization.carriers(_largest(bounds), largest)
    foldable = isinstance(layer, Weighted)
    usable = [one for one in choices if one.is_exact and (foldable or one.carrier is not Carrier.FLOAT32_FOLDED)]
    return usable[0] if usable else choices[-1]


def _largest(bounds: LayerBounds) -> IntegerArray:
    """Largest magnitude of any partial sum, for each channel."""
    ends = bounds.partial.by_channel(bounds.layer.channel_axis)
    largest: IntegerArray = np.maximum(np.abs(ends.lower), np.abs(ends.upper))
    return largest
