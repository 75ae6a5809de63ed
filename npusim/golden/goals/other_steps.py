"""Goals of steps without an accumulator: the input stage, maximum pools, tables, sums and products of codes, the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.input_stages import stage_codes, stage_parameters
from npusim.engine.samples import run_stage
from npusim.errors import UnsupportedError
from npusim.golden.goals.goal import BoolArray, Goal, Reached
from npusim.golden.goals.requantization import LARGEST_SIGNED
from npusim.graph import Array
from npusim.program import IntegerArray, Program, QuantizeStage, Windowed
from npusim.program.direct import Direct, direct_codes
from npusim.program.input_stage import SIGNED_BYTE, InputStage, input_stages
from npusim.program.intervals import Interval

__all__ = ["ClassMeter", "CodesMeter", "StageMeter", "WindowMeter", "has_classes"]

MOST_CLASSES: Final = 1024
"""An output of more values is not a list of classes."""


@dataclass(frozen=True)
class StageMeter:
    """Measures the goals of a stage that turns floats into codes, by what the nearest other floats become.

    Attributes
    ----------
    program
        The program.
    stage
        The stage.
    codes
        The interval of its codes.
    """

    program: Program
    stage: QuantizeStage
    codes: Interval

    @property
    def layer(self) -> str:
        """Name of the stage."""
        return self.stage.name

    @property
    def kind(self) -> str:
        """``QUANTIZE``."""
        return "QUANTIZE"

    @property
    def tensors(self) -> tuple[str, ...]:
        """Its input, what the floor takes, and its codes."""
        return self.stage.input, self._before_floor, self.stage.output

    @cached_property
    def possible(self) -> Mapping[Goal, BoolArray]:
        """For each goal and channel whether it is not proven unreachable."""
        clip = self.stage.clip
        lower, upper = _by_channel(self.codes.lower).min(axis=(0, 2)), _by_channel(self.codes.upper).max(axis=(0, 2))
        moves = lower < upper
        sign = lower < 0 if clip.lower < 0 else upper > LARGEST_SIGNED
        return {
            **self._differing,
            Goal.LOWER_RAIL: lower <= clip.lower,
            Goal.UPPER_RAIL: upper >= clip.upper,
            Goal.FIRST_OF_CODE: moves,
            Goal.LAST_OF_CODE: moves,
            Goal.SIGN: sign,
        }

    def measure(self, tensors: Mapping[str, Array]) -> Reached:
        """The goals that samples reach."""
        clip, x = self.stage.clip, tensors[self.stage.input]
        before = (np.rint if self.stage.nearest else np.floor)(_by_channel(tensors[self._before_floor]))
        codes = _by_channel(tensors[self.stage.output])
        down, up = (_by_channel(self._run(_next(x, end))) for end in (-np.inf, np.inf))
        found = {
            **{goal: self._differs(x, codes, goal) for goal in self._differing},
            Goal.LOWER_RAIL: before < clip.lower,
            Goal.UPPER_RAIL: before > clip.upper,
            Goal.FIRST_OF_CODE: np.minimum(down, up) < codes,
            Goal.LAST_OF_CODE: np.maximum(down, up) > codes,
            Goal.SIGN: codes < 0 if clip.lower < 0 else codes > LARGEST_SIGNED,
        }
        reached = {goal: where.any(axis=2) for goal, where in found.items()}
        # where the code never moves, the floats beside the input are none that the stage can read
        for goal in (Goal.FIRST_OF_CODE, Goal.LAST_OF_CODE):
            reached[goal] &= self.possible[goal]
        return reached

    @cached_property
    def _before_floor(self) -> str:
        floor = self.stage.floor
        return floor.inputs[0]

    @cached_property
    def _differing(self) -> Mapping[Goal, BoolArray]:
        """For each other implementation where it can differ; nothing for a stage that devices do not implement.

        Shifting a floor is the floor of the shifted value, so only another saturation makes `c28` differ, or products beyond
        int32 that the shift brings back into the range. Truncation differs for negative codes only.
        """
        if self.stage not in input_stages(self.program):
            return {}
        try:
            known = stage_parameters(self.program, self.stage)
        except UnsupportedError:
            return {}
        channels = _by_channel(self.codes.lower).shape[1]
        used = (known.multiplier != 0) & (known.shift >= 0)
        c28 = used & ((self.stage.clip != SIGNED_BYTE) | (known.shift > 31 - 8))
        mspm0 = used & (self.stage.clip.lower < 0)
        return {Goal.C28: _of_channels(c28, channels), Goal.MSPM0: _of_channels(mspm0, channels)}

    def _differs(self, x: Array, codes: Array, goal: Goal) -> BoolArray:
        variant = InputStage.C28 if goal is Goal.C28 else InputStage.MSPM0
        return np.asarray(_by_channel(stage_codes(self.program, self.stage, x, variant)) != codes)

    def _run(self, x: Array) -> Array:
        return run_stage(self.program, self.stage, x)[self.stage.output]


@dataclass(frozen=True)
class WindowMeter:
    """Measures whether a maximum pool has something to choose from: a window with different values.

    Attributes
    ----------
    node
        The layer.
    codes
        The interval of its inputs.
    """

    node: Windowed
    codes: Interval

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.node.name

    @property
    def kind(self) -> str:
        """``MAXPOOL``."""
        return str(self.node.kind)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Its input."""
        return (self.node.inputs[0],)

    @cached_property
    def possible(self) -> Mapping[Goal, BoolArray]:
        """For each channel whether its inputs can differ within a window."""
        return {Goal.WINDOW: self._differ(self.codes.upper, self.codes.lower)[0]}

    def measure(self, tensors: Mapping[str, Array]) -> Reached:
        """The goals that samples reach."""
        values = tensors[self.node.inputs[0]]
        return {Goal.WINDOW: self._differ(values, values)}

    def _differ(self, upper: Array, lower: Array) -> BoolArray:
        """Whether the largest value of any window is above the smallest, bool [samples, channels]."""
        largest = direct_codes(self.node, [upper.astype(np.int64)])
        smallest = -direct_codes(self.node, [-lower.astype(np.int64)])
        return np.asarray(_by_channel(largest > smallest).any(axis=2))


@dataclass(frozen=True)
class CodesMeter:
    """Measures how far the codes of a layer reach that makes them without an accumulator: a table, a sum, a product, a mean.

    Attributes
    ----------
    node
        The layer.
    codes
        The interval of its codes, less their zero point.
    zero_point
        Of its codes: a device's bytes are the codes with it.
    limits
        Smallest and largest byte of its element type.
    """

    node: Direct
    codes: Interval
    zero_point: int
    limits: tuple[int, int]

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
        """Its codes."""
        return (self.node.output,)

    @cached_property
    def possible(self) -> Mapping[Goal, BoolArray]:
        """For each channel whether its codes can reach the ends, and bytes that read differently with a sign."""
        lower, upper = _by_channel(self.codes.lower).min(axis=(0, 2)), _by_channel(self.codes.upper).max(axis=(0, 2))
        found = self._reached(lower[None, :, None], upper[None, :, None])
        return {goal: reached[0] for goal, reached in found.items()}

    def measure(self, tensors: Mapping[str, Array]) -> Reached:
        """The goals that samples reach."""
        values = _by_channel(tensors[self.node.output].astype(np.int64))
        return self._reached(values, values)

    def _reached(self, lower: IntegerArray, upper: IntegerArray) -> dict[Goal, BoolArray]:
        low, high = lower + self.zero_point, upper + self.zero_point
        sign = low < 0 if self.limits[0] < 0 else high > LARGEST_SIGNED
        found = {Goal.LOWER_RAIL: low <= self.limits[0], Goal.UPPER_RAIL: high >= self.limits[1], Goal.SIGN: sign}
        return {goal: np.asarray(reached.any(axis=2)) for goal, reached in found.items()}


@dataclass(frozen=True)
class ClassMeter:
    """Measures which value of an output is the largest.

    Attributes
    ----------
    layer
        Name of the output.
    values
        Its interval.
    """

    layer: str
    values: Interval

    @property
    def kind(self) -> str:
        """``OUTPUT``."""
        return "OUTPUT"

    @property
    def tensors(self) -> tuple[str, ...]:
        """The output."""
        return (self.layer,)

    @cached_property
    def possible(self) -> Mapping[Goal, BoolArray]:
        """For each class whether its largest value is not below the smallest of another."""
        return {Goal.CLASS: self.values.upper[0] >= self.values.lower[0].max()}

    def measure(self, tensors: Mapping[str, Array]) -> Reached:
        """The goals that samples reach."""
        largest = tensors[self.layer].argmax(axis=1)
        return {Goal.CLASS: largest[:, None] == np.arange(self.values.lower.shape[1])}


def has_classes(shape: tuple[int, ...]) -> bool:
    """Whether an output of this shape, for one sample, can be read as scores of classes."""
    return len(shape) == 2 and shape[0] == 1 and 2 <= shape[1] <= MOST_CLASSES


def _by_channel(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values [samples, channels, positions]; what has no channels is one."""
    if values.ndim < 2:
        return values.reshape(len(values) if values.ndim else 1, 1, 1)
    return values.reshape(*values.shape[:2], -1)


def _of_channels(values: BoolArray, channels: int) -> BoolArray:
    """Values of parameters, which have channels on axis 1 or are the same for all, bool [channels]."""
    flat = _by_channel(values if values.ndim > 1 else values.reshape(1, -1)).any(axis=(0, 2))
    return np.broadcast_to(flat, (channels,)).copy() if flat.size in (1, channels) else np.ones(channels, np.bool_)


def _next(x: Array, towards: float) -> Array:
    """The nearest other floats; the input itself where it is not a float."""
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype.str)
    return np.clip(np.nextafter(x, x.dtype.type(towards)), limits.min, limits.max)
