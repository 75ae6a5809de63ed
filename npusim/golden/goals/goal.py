"""What a golden vector should make a model do: goals, layer by layer and channel by channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.graph import Array

__all__ = ["BoolArray", "Goal", "GoalGroup", "GoalTable", "Meter", "Reached"]

BoolArray: TypeAlias = npt.NDArray[np.bool_]

Reached: TypeAlias = Mapping["Goal", BoolArray]
"""For each goal which samples reach it in which channels, bool [samples, channels]."""


class Goal(StrEnum):
    """What a channel should have seen.

    LOWER_RAIL, UPPER_RAIL: a value that the clip cuts. INNER_LOWER, INNER_UPPER: a value that the clip before a residual cuts,
    so that the code is another one. NEGATIVE, POSITIVE: the sum with the bias below and above 0. FIRST_OF_CODE, LAST_OF_CODE:
    a sum next to a shift boundary, where one less or one more gives another code. TIE: a product exactly half a code above its
    code. ROUNDING: a product that rounding to nearest turns into another code. TRUNCATION: a negative product that truncation
    toward zero turns into another code. SIGN: a code that reads differently as signed and as unsigned byte. SMALLEST, LARGEST:
    accumulators near the ends of the proven interval, in steps. WINDOW: a pooling window with different values. C28, MSPM0: an
    input value of which that implementation of the input stage makes another code. CLASS: the output with the largest value.
    CODE_SHOWS: an error of one code in all values of a channel, up or down, that changes an output of the model. SUM_SHOWS: the
    same of an error of one in all its sums, which is the smallest that a wrong parameter can make.
    """

    LOWER_RAIL = "lower_rail"
    UPPER_RAIL = "upper_rail"
    INNER_LOWER = "inner_lower_rail"
    INNER_UPPER = "inner_upper_rail"
    NEGATIVE = "negative"
    POSITIVE = "positive"
    FIRST_OF_CODE = "first_of_code"
    LAST_OF_CODE = "last_of_code"
    TIE = "tie"
    ROUNDING = "rounding"
    TRUNCATION = "truncation"
    SIGN = "sign"
    SMALLEST = "smallest"
    LARGEST = "largest"
    WINDOW = "window"
    C28 = "c28"
    MSPM0 = "mspm0"
    CLASS = "class"
    CODE_SHOWS = "code_error_shows"
    SUM_SHOWS = "sum_error_shows"


class Meter(Protocol):
    """Measures the goals of one step of a program."""

    @property
    def layer(self) -> str:
        """Name of the step."""
        ...

    @property
    def kind(self) -> str:
        """Its layer type."""
        ...

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors it measures on."""
        ...

    @property
    def possible(self) -> Mapping[Goal, BoolArray]:
        """Its goals: for each channel whether it is not proven that no input reaches it."""
        ...

    def measure(self, tensors: Mapping[str, Array]) -> Reached:
        """The same goals: which samples reach them in which channels."""
        ...


@dataclass(frozen=True, slots=True)
class GoalGroup:
    """The goals of one kind in one step: columns `start` to `stop` of the table."""

    meter: Meter
    goal: Goal
    start: int
    stop: int

    @property
    def columns(self) -> slice:
        """Where they are in the table."""
        return slice(self.start, self.stop)


class GoalTable:
    """All goals of a model, side by side.

    Parameters
    ----------
    meters
        One for each step that has goals, in execution order.
    """

    def __init__(self, meters: tuple[Meter, ...]) -> None:
        self.meters = meters
        groups: list[GoalGroup] = []
        for meter in meters:
            for goal, possible in meter.possible.items():
                start = groups[-1].stop if groups else 0
                groups.append(GoalGroup(meter, goal, start, start + possible.size))
        self.groups = tuple(groups)
        self.possible: BoolArray = np.concatenate(
            [np.zeros(0, np.bool_), *(group.meter.possible[group.goal] for group in groups)]
        )

    @property
    def size(self) -> int:
        """Number of goals."""
        return self.possible.size

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that measuring needs, each once."""
        return tuple(dict.fromkeys(name for meter in self.meters for name in meter.tensors))

    def measure(self, tensors: Mapping[str, Array], samples: int) -> BoolArray:
        """Which goals samples reach, bool [samples, size]."""
        found = np.zeros((samples, self.size), np.bool_)
        measured = {id(meter): meter.measure(tensors) for meter in self.meters}
        for group in self.groups:
            reached = measured[id(group.meter)][group.goal]
            if len(reached) > samples:
                # a tensor whose first axis is not 1 for one sample has several rows of each
                reached = np.asarray(reached.reshape(samples, -1, reached.shape[-1]).any(axis=1))
            found[:, group.columns] = reached
        return found
