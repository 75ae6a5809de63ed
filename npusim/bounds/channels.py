"""The intervals inside a layer, channel by channel: the form in which limits are held against them."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.kernels.requantize import each_weight_digit, weight_digits
from npusim.program import Accumulating, IntegerArray, IntegerLayer, Weighted
from npusim.program.intervals import Interval, LayerBounds, accumulator_interval, including_zero

__all__ = ["ChannelBounds", "channel_bounds", "digits_of", "furthest", "has_digits"]

_WIDTHS = (2, 4, 8)


@dataclass(frozen=True, slots=True)
class ChannelBounds:
    """Reachable intervals inside one layer, int64 [channels] each.

    Attributes
    ----------
    layer
        The layer.
    accumulator, partial
        The sum of products, and every partial sum of it in whatever order the products are added.
    biased, scaled, floored
        After the bias, after the scale, after the shift (before the first clip).
    residual
        For PWCONVRES: what is added behind the inner clip.
    digits, digit_partials
        Accumulator and partial sums of each 2-bit weight digit, least significant first; empty for kinds without digits; None
        where weights leave their declared bits, so that they cannot be split.
    attained
        True when the ends occur for some model input; see :class:`~npusim.program.intervals.LayerBounds`.
    """

    layer: Accumulating
    accumulator: Interval
    partial: Interval
    biased: Interval
    scaled: Interval
    floored: Interval
    residual: Interval | None
    digits: tuple[Interval, ...] | None
    digit_partials: tuple[Interval, ...] | None
    attained: bool


def channel_bounds(bounds: LayerBounds) -> ChannelBounds:
    """Join the intervals of a layer by channel, and find those of its digits.

    Parameters
    ----------
    bounds
        The intervals of a layer, element by element.
    """
    layer = bounds.layer
    axis = layer.channel_axis
    digits, digit_partials = _digit_intervals(bounds)
    residual = layer.residual_of(bounds.inputs)
    return ChannelBounds(
        layer=layer,
        accumulator=bounds.accumulator.by_channel(axis),
        partial=bounds.partial.by_channel(axis),
        biased=bounds.biased.by_channel(axis),
        scaled=bounds.scaled.by_channel(axis),
        floored=bounds.floored.by_channel(axis),
        residual=None if residual is None else residual.by_channel(1),
        digits=digits,
        digit_partials=digit_partials,
        attained=bounds.attained,
    )


def digits_of(layer: IntegerLayer) -> IntegerArray | None:
    """The 2-bit digits of a layer's weights, ``[bits / 2, *weights.shape]``; None where there are no weights to split.

    That is a layer without weights, or one whose weights leave their declared bits.
    """
    return weight_digits(layer.weights, bits=layer.weight_bits) if isinstance(layer, Weighted) and has_digits(layer) else None


def has_digits(layer: Weighted) -> bool:
    """Whether all weights of a layer lie within their declared bits, so that they can be split."""
    weights, bits = layer.weights, layer.weight_bits
    if bits not in _WIDTHS:
        return False
    return not weights.size or bool(-(1 << (bits - 1)) <= weights.min() and weights.max() < 1 << (bits - 1))


def furthest(interval: Interval) -> tuple[int, int]:
    """The channel that holds the value furthest from 0, and that value.

    Examples
    --------
    >>> import numpy as np
    >>> furthest(Interval(np.array([-3, -9]), np.array([5, 2])))
    (1, -9)
    """
    lowest, highest = int(interval.lower.argmin()), int(interval.upper.argmax())
    lower, upper = int(interval.lower[lowest]), int(interval.upper[highest])
    return (lowest, lower) if -lower > upper else (highest, upper)


def _digit_intervals(bounds: LayerBounds) -> tuple[tuple[Interval, ...] | None, tuple[Interval, ...] | None]:
    layer, axis = bounds.layer, bounds.layer.channel_axis
    if layer.mean_of is not None:
        return (bounds.accumulator.by_channel(axis),), (bounds.partial.by_channel(axis),)
    if not isinstance(layer, Weighted):
        return (), ()
    if not has_digits(layer):
        return None, None
    with_zero = including_zero(bounds.inputs)
    accumulators, partials = list[Interval](), list[Interval]()
    for digit in each_weight_digit(layer.weights, bits=layer.weight_bits):
        accumulators.append(accumulator_interval(layer, bounds.inputs, digit).by_channel(axis))
        if with_zero is not bounds.inputs:
            partials.append(accumulator_interval(layer, with_zero, digit).by_channel(axis))
    return tuple(accumulators), tuple(partials or accumulators)
