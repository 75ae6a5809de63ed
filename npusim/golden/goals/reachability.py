"""Which goals of a layer no input can reach: proven from the intervals of its accumulator, channel by channel."""

from __future__ import annotations

from typing import Final

import numpy as np

from npusim.bounds.channels import ChannelBounds
from npusim.bounds.interval import Interval
from npusim.golden.goals.goal import BoolArray, Goal
from npusim.program import Alternative, Clip, IntegerArray

__all__ = ["LARGEST_SIGNED", "possible_goals"]

LARGEST_SIGNED: Final = 127
"""A larger code reads as another number from a signed byte."""


def possible_goals(bounds: ChannelBounds, output: Interval) -> dict[Goal, BoolArray]:
    """For each goal and channel False where no input can reach it.

    True says only that the intervals do not forbid it.

    Parameters
    ----------
    bounds
        The layer's intervals channel by channel.
    output
        The interval of its codes, channel by channel.
    """
    layer, part = bounds.layer, bounds.layer.requantization
    clip, inner = layer.output_clip, part.clip
    cut = bounds.floored
    # no further than the neighbours of the codes that exist, so that shifting stays within int64
    jump = np.floor(np.abs(part.gain)).astype(np.int64) + 2
    furthest = cut.lower - jump, cut.upper + jump
    window = Interval(np.clip(clip.lower, *furthest), np.clip(clip.upper, *furthest))
    found: dict[Goal, BoolArray] = {}
    if bounds.residual is not None:
        found = _inner_rails(cut, bounds.residual, inner, clip)
        residual, before = bounds.residual, Interval(np.clip(cut.lower, *_ends(inner)), np.clip(cut.upper, *_ends(inner)))
        cut = Interval(before.lower + residual.lower, before.upper + residual.upper)
        lower = np.maximum(inner.lower, clip.lower - residual.upper)
        upper = np.minimum(inner.upper, clip.upper - residual.lower)
        window = Interval(np.clip(lower, *furthest), np.clip(upper, *furthest))
    sums = _Sums(bounds)
    ends, below = bounds.accumulator, window.upper - 1
    half = Alternative.HALF_UP
    return {
        Goal.LOWER_RAIL: cut.lower < clip.lower,
        Goal.UPPER_RAIL: cut.upper > clip.upper,
        **found,
        Goal.NEGATIVE: bounds.scaled.lower < 0,
        Goal.POSITIVE: bounds.scaled.upper > 0,
        Goal.FIRST_OF_CODE: sums.hold_first(window),
        Goal.LAST_OF_CODE: sums.hold_last(window),
        Goal.TIE: part.may_differ(half, Alternative.HALF_DOWN, ends.lower, ends.upper, (window.lower, below)),
        Goal.ROUNDING: part.may_differ(None, half, ends.lower, ends.upper, (window.lower, below)),
        Goal.TRUNCATION: part.may_differ(
            None, Alternative.TOWARD_ZERO, ends.lower, ends.upper, (window.lower, np.minimum(below, -1))
        ),
        Goal.SIGN: output.lower < 0 if clip.lower < 0 else output.upper > LARGEST_SIGNED,
    }


def _ends(clip: Clip) -> tuple[int, int]:
    return clip.lower, clip.upper


def _inner_rails(code: Interval, residual: Interval, inner: Clip, clip: Clip) -> dict[Goal, BoolArray]:
    """The clip before the residual changes a code only where the residual brings the sum back between the last clip's ends."""
    return {
        Goal.INNER_LOWER: (code.lower < inner.lower) & (inner.lower + residual.upper > clip.lower),
        Goal.INNER_UPPER: (code.upper > inner.upper) & (inner.upper + residual.lower < clip.upper),
    }


class _Sums:
    """The accumulators of each channel, all integers of an interval, turned round where the staircase falls."""

    def __init__(self, bounds: ChannelBounds) -> None:
        self._part = bounds.layer.requantization
        self._falls, self._used = self._part.direction < 0, self._part.direction != 0
        lower, upper = bounds.accumulator.lower, bounds.accumulator.upper
        self._lower, self._upper = np.where(self._falls, -upper, lower), np.where(self._falls, -lower, upper)

    def hold_first(self, codes: Interval) -> BoolArray:
        """Whether some sum has a higher code than the sum before it, saturated to the range of codes."""
        return self._hold_rise(self._lower, self._upper, codes)

    def hold_last(self, codes: Interval) -> BoolArray:
        """Whether some sum has a lower code than the sum behind it, saturated to the range of codes."""
        return self._hold_rise(self._lower + 1, self._upper + 1, codes)

    def _hold_rise(self, lower: IntegerArray, upper: IntegerArray, codes: Interval) -> BoolArray:
        start = np.maximum(lower, self._first(codes.lower + 1))
        rises = self._code(start) > self._code(start - 1)
        found = np.where(rises, start, self._first(self._code(start) + 1))
        several = codes.lower < codes.upper  # a clip to one code hides every step
        return np.asarray(self._used & several & (found <= upper) & (self._code(found - 1) < codes.upper))

    def _first(self, code: IntegerArray) -> IntegerArray:
        found = self._part.first(code)
        return np.where(self._falls, 1 - found, found)

    def _code(self, sums: IntegerArray) -> IntegerArray:
        domain = self._part.domain
        return self._part.unclipped(np.where(self._falls, -sums, sums).clip(domain.lower, domain.upper))
