"""Goals of a layer that requantizes: which of them samples reach, and which no input can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from npusim.bounds.channels import ChannelBounds, channel_bounds
from npusim.bounds.verdicts import Property
from npusim.bounds.witness.observation import Observation, observation
from npusim.golden.goals.goal import BoolArray, Goal, Reached
from npusim.graph import Array
from npusim.program import Accumulating, Alternative, Clip, IntegerArray, along
from npusim.program.intervals import Interval, LayerBounds

__all__ = ["LARGEST_SIGNED", "STEPS", "RequantizationMeter", "possible_goals"]

STEPS: Final = (0.6, 0.75, 0.9, 1.0)
"""Steps towards an end of an accumulator's interval, as shares of its width counted from the other end."""


@dataclass(frozen=True)
class RequantizationMeter:
    """Measures the goals of one layer.

    With the unclipped code k of the layer's staircase, the code is ``clip(k)``, for a layer with a residual
    ``clip(inner_clip(k) + residual)``. A goal that tells two roundings apart counts only where the other rounding gives
    another code after the clip.

    Attributes
    ----------
    bounds
        The layer and its intervals.
    """

    bounds: LayerBounds
    watched: Observation = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "watched", observation(self.bounds.layer, Property.SOFT_INT32))

    @property
    def node(self) -> Accumulating:
        """The layer."""
        return self.bounds.layer

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.node.name

    @property
    def kind(self) -> str:
        """Its type."""
        return str(self.node.kind)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The accumulator, or what it is computed from, and the residual."""
        return tuple(dict.fromkeys((*self.watched.tensors, *self._residual)))

    @cached_property
    def channels(self) -> ChannelBounds:
        """The intervals channel by channel."""
        return channel_bounds(self.bounds)

    @cached_property
    def possible(self) -> Mapping[Goal, BoolArray]:
        """For each goal and channel whether it is not proven unreachable."""
        output = self.bounds.output.by_channel(self.node.output_channel_axis)
        found = possible_goals(self.channels, output)
        ends = self.channels.accumulator
        moves = np.repeat(ends.lower < ends.upper, len(STEPS))
        return {**found, Goal.SMALLEST: moves, Goal.LARGEST: moves}

    def measure(self, tensors: Mapping[str, Array]) -> Reached:
        """The goals that samples reach."""
        values = self.watched.values(tensors)
        residual = self._residual_of(tensors)
        found: dict[Goal, BoolArray] = {
            goal: np.asarray(reached.any(axis=2)) for goal, reached in self._elements(values, residual)
        }
        return {**found, **self._extremes(values)}

    def accumulators(self, tensors: Mapping[str, Array]) -> tuple[IntegerArray, IntegerArray]:
        """Smallest and largest accumulator of each channel over all samples, int64 [channels]."""
        values = self.watched.values(tensors)
        return values.min(axis=(0, 2)), values.max(axis=(0, 2))

    def codes(self, tensors: Mapping[str, Array], change: int = 0) -> IntegerArray:
        """The layer's codes with `change` added to every sum, int64 [samples, channels, positions]."""
        values = self.watched.values(tensors) + change
        return self.node.finish(self.node.requantization.unclipped(values, axis=1), self._residual_of(tensors))

    def _residual_of(self, tensors: Mapping[str, Array]) -> IntegerArray | None:
        return self.watched.by_row(tensors[self._residual[0]].astype(np.int64)) if self._residual else None

    @property
    def _residual(self) -> tuple[str, ...]:
        return () if self.node.residual is None else (self.node.residual,)

    def _elements(self, values: IntegerArray, residual: IntegerArray | None) -> Iterator[tuple[Goal, BoolArray]]:
        part, clip = self.node.requantization, self.node.output_clip
        code, product, step = part.unclipped(values, axis=1), part.scaled(values, axis=1), along(part.direction, 3, 1)
        cut = self.node.before_clip(code, residual)
        final = clip.apply(cut)
        yield Goal.LOWER_RAIL, cut < clip.lower
        yield Goal.UPPER_RAIL, cut > clip.upper
        if residual is not None:
            yield from _inner(code, residual, final, part.clip, clip)
        yield Goal.NEGATIVE, product < 0
        yield Goal.POSITIVE, product > 0
        yield Goal.FIRST_OF_CODE, self.node.finish(part.unclipped(values - step, axis=1), residual) != final
        yield Goal.LAST_OF_CODE, self.node.finish(part.unclipped(values + step, axis=1), residual) != final
        shows = self.node.finish(code + 1, residual) != final
        others = {name: one.unclipped(values, axis=1) for name, one in part.alternatives.items()}
        half_up = others.get(Alternative.HALF_UP, code)
        yield Goal.TIE, shows & (half_up != others.get(Alternative.HALF_DOWN, half_up))
        yield Goal.ROUNDING, shows & (half_up != code)
        # of what rounds to nearest, truncation changes positive codes as well, but then any rounding down does
        yield Goal.TRUNCATION, shows & (product < 0) & (others.get(Alternative.TOWARD_ZERO, code) != code)
        yield Goal.SIGN, final < 0 if clip.lower < 0 else final > LARGEST_SIGNED

    def _extremes(self, values: IntegerArray) -> Reached:
        lowest, highest = values.min(axis=2)[:, :, None], values.max(axis=2)[:, :, None]
        ends = self.channels.accumulator
        width = (ends.upper - ends.lower)[:, None] * np.array(STEPS)
        flat = (len(values), -1)
        return {
            Goal.SMALLEST: ((ends.upper[:, None] - lowest >= width) & (width > 0)).reshape(flat),
            Goal.LARGEST: ((highest - ends.lower[:, None] >= width) & (width > 0)).reshape(flat),
        }


def _inner(
    code: IntegerArray, residual: IntegerArray, final: IntegerArray, inner: Clip, clip: Clip
) -> Iterator[tuple[Goal, BoolArray]]:
    """Where the code would be another one without the clip before the residual."""
    differs = np.clip(code + residual, clip.lower, clip.upper) != final
    yield Goal.INNER_LOWER, differs & (code < inner.lower)
    yield Goal.INNER_UPPER, differs & (code > inner.upper)


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
