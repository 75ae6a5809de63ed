"""Which goals of a layer no input can reach: proven from the intervals of its accumulator, channel by channel."""

from __future__ import annotations

from typing import Final

import numpy as np

from npusim.bounds.channels import ChannelBounds
from npusim.bounds.interval import Interval
from npusim.golden.goals.goal import BoolArray, Goal
from npusim.program import Clip, IntegerArray, ShiftFloor

__all__ = ["LARGEST_SIGNED", "possible_goals"]

LARGEST_SIGNED: Final = 127
"""A larger code reads as another number from a signed byte."""


def possible_goals(bounds: ChannelBounds, requantization: ShiftFloor, output: Interval) -> dict[Goal, BoolArray]:
    """For each goal and channel False where no input can reach it.

    True says only that the intervals do not forbid it.

    Parameters
    ----------
    bounds
        The layer's intervals channel by channel.
    requantization
        What turns its accumulator into codes.
    output
        The interval of its codes, channel by channel.
    """
    clip, inner = requantization.clip, bounds.layer.inner_clip
    cut = bounds.floored
    # no further than the neighbours of the codes that exist, so that shifting stays within int64
    jump = (np.abs(requantization.scale) >> requantization.shift) + 2
    furthest = cut.lower - jump, cut.upper + jump
    window = Interval(np.clip(clip.lower, *furthest), np.clip(clip.upper, *furthest))
    found: dict[Goal, BoolArray] = {}
    if bounds.residual is not None and inner is not None:
        found = _inner_rails(cut, bounds.residual, inner, clip)
        residual, before = bounds.residual, Interval(np.clip(cut.lower, *_ends(inner)), np.clip(cut.upper, *_ends(inner)))
        cut = Interval(before.lower + residual.lower, before.upper + residual.upper)
        lower = np.maximum(inner.lower, clip.lower - residual.upper)
        upper = np.minimum(inner.upper, clip.upper - residual.lower)
        window = Interval(np.clip(lower, *furthest), np.clip(upper, *furthest))
    sums = _Sums(bounds, requantization)
    return {
        Goal.LOWER_RAIL: cut.lower < clip.lower,
        Goal.UPPER_RAIL: cut.upper > clip.upper,
        **found,
        Goal.NEGATIVE: bounds.scaled.lower < 0,
        Goal.POSITIVE: bounds.scaled.upper > 0,
        Goal.FIRST_OF_CODE: sums.hold_first(window),
        Goal.LAST_OF_CODE: sums.hold_last(window),
        Goal.TIE: sums.hold_tie(window),
        Goal.ROUNDING: sums.hold_remainder(window.lower, window.upper - 1),
        Goal.TRUNCATION: sums.hold_remainder(window.lower, np.minimum(window.upper - 1, -1)),
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
    """The sums ``t = accumulator + bias`` of each channel, all integers of an interval, and the codes ``(t * s) >> shift``.

    A negative scale is taken as a positive one on negated sums. Code k begins with ``t = ceil((k << shift) / s)``.
    """

    def __init__(self, bounds: ChannelBounds, requantization: ShiftFloor) -> None:
        biased, falls = bounds.biased, requantization.scale < 0
        self._lower = np.where(falls, -biased.upper, biased.lower)
        self._upper = np.where(falls, -biased.lower, biased.upper)
        self._used = requantization.scale != 0
        self._scale = np.where(self._used, np.abs(requantization.scale), 1)
        self._shift = requantization.shift

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

    def hold_tie(self, codes: Interval) -> BoolArray:
        """Whether ``t * s`` can be half a code above a code.

        With ``s = 2**e * odd`` that is ``t = 2**(shift-1-e)  (mod 2**(shift-e))``, which has no solution for ``e >= shift``.
        """
        twos = np.log2(self._scale & -self._scale).astype(np.int64)
        room = np.maximum(self._shift - twos, 1)
        period = np.int64(1) << room
        start = np.maximum(self._lower, self._first(codes.lower))
        found = start + ((period >> 1) - start) % period
        stop = np.minimum(self._upper, self._first(codes.upper) - 1)
        return np.asarray(self._used & (twos < self._shift) & (found <= stop))

    def hold_remainder(self, lowest: IntegerArray, highest: IntegerArray) -> BoolArray:
        """Whether products may have a remainder, the code being one of some."""
        start, stop = np.maximum(self._lower, self._first(lowest)), np.minimum(self._upper, self._first(highest + 1) - 1)
        return np.asarray(self._used & (start <= stop) & ((self._scale & self._mask) != 0))

    @property
    def _mask(self) -> IntegerArray:
        found: IntegerArray = (np.int64(1) << self._shift) - 1
        return found

    def _first(self, code: IntegerArray) -> IntegerArray:
        found: IntegerArray = -((-code << self._shift) // self._scale)
        return found

    def _code(self, sums: IntegerArray) -> IntegerArray:
        return np.asarray(sums * self._scale >> self._shift)
