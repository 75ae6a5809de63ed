"""Goals of a layer that requantizes: which of them samples reach, and which no input can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from npusim.bounds.channels import ChannelBounds, channel_bounds
from npusim.bounds.intervals import LayerBounds
from npusim.bounds.verdicts import Property
from npusim.bounds.witness.observation import Observation, observation
from npusim.golden.goals.goal import BoolArray, Goal, Reached
from npusim.golden.goals.reachability import LARGEST_SIGNED, possible_goals
from npusim.graph import Array
from npusim.program import Clip, IntegerArray, IntegerLayer, LayerKind, ShiftFloor

__all__ = ["STEPS", "RequantizationMeter"]

STEPS: Final = (0.6, 0.75, 0.9, 1.0)
"""Steps towards an end of an accumulator's interval, as shares of its width counted from the other end."""


@dataclass(frozen=True)
class RequantizationMeter:
    """Measures the goals of one layer.

    With ``p = (accumulator + bias) * scale``, ``k = p >> shift`` and the remainder ``m = p - (k << shift)``, the code is
    ``clip(k)``, for a layer with a residual ``clip(inner_clip(k) + residual)``. A goal that tells two roundings apart counts
    only where the other rounding gives another code after the clip.

    Attributes
    ----------
    bounds
        The layer and its intervals.
    requantization
        What turns its accumulator into codes.
    """

    bounds: LayerBounds
    requantization: ShiftFloor
    watched: Observation = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "watched", observation(self.bounds.layer, Property.SOFT_INT32))

    @property
    def node(self) -> IntegerLayer:
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
        output = self.bounds.output.by_channel(self._output_axis)
        found = possible_goals(self.channels, self.requantization, output)
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
        part = self.requantization
        bias, scale, shift = (item[:, None] for item in (part.bias, part.scale, part.shift))
        return self._final((self.watched.values(tensors) + bias + change) * scale >> shift, self._residual_of(tensors))

    def _residual_of(self, tensors: Mapping[str, Array]) -> IntegerArray | None:
        return self.watched.by_row(tensors[self._residual[0]].astype(np.int64)) if self._residual else None

    @property
    def _residual(self) -> tuple[str, ...]:
        return (self.node.inputs[1],) if self.node.kind is LayerKind.PWCONVRES else ()

    @property
    def _output_axis(self) -> int:
        """Where the channels are in the codes; only pools have another shape there, and they keep the channels in front."""
        return 1 if self.node.kind is LayerKind.AVGPOOL else self.node.channel_axis

    def _elements(self, values: IntegerArray, residual: IntegerArray | None) -> Iterator[tuple[Goal, BoolArray]]:
        part = self.requantization
        bias, scale, shift = (item[:, None] for item in (part.bias, part.scale, part.shift))
        product, step, half = (values + bias) * scale, np.abs(scale), (1 << shift) >> 1
        code = product >> shift
        remainder = product - (code << shift)
        cut = self._before_clip(code, residual)
        final = np.clip(cut, part.clip.lower, part.clip.upper)
        yield Goal.LOWER_RAIL, cut < part.clip.lower
        yield Goal.UPPER_RAIL, cut > part.clip.upper
        if residual is not None and self.node.inner_clip is not None:
            yield from _inner(code, residual, final, self.node.inner_clip, part.clip)
        yield Goal.NEGATIVE, product < 0
        yield Goal.POSITIVE, product > 0
        yield Goal.FIRST_OF_CODE, self._final((product - step) >> shift, residual) != final
        yield Goal.LAST_OF_CODE, self._final((product + step) >> shift, residual) != final
        shows = self._final(code + 1, residual) != final
        yield Goal.TIE, shows & (remainder == half) & (half > 0)
        yield Goal.ROUNDING, shows & (remainder >= half) & (half > 0)
        yield Goal.TRUNCATION, shows & (product < 0) & (remainder > 0)
        yield Goal.SIGN, final < 0 if part.clip.lower < 0 else final > LARGEST_SIGNED

    def _before_clip(self, code: IntegerArray, residual: IntegerArray | None) -> IntegerArray:
        inner = self.node.inner_clip
        return code if residual is None or inner is None else np.clip(code, inner.lower, inner.upper) + residual

    def _final(self, code: IntegerArray, residual: IntegerArray | None) -> IntegerArray:
        clip = self.requantization.clip
        return np.asarray(np.clip(self._before_clip(code, residual), clip.lower, clip.upper))

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
