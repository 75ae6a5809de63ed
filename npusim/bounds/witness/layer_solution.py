"""Inputs of one layer that give its accumulator a failing value: solved exactly, element by element."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from npusim.bounds.witness.observation import Observation, Place
from npusim.program import IntegerArray
from npusim.program.intervals import Interval, LayerBounds, accumulator_interval
from npusim.program.terms import Terms, terms_of
from npusim.search.combination import combine
from npusim.search.wanted_values import WantedValues

__all__ = ["LayerSolution", "LayerSolver"]

MAXIMUM_FORMS: Final = 4096
"""Elements that are tried; a layer has more, but few that read other codes with other weights."""

MAXIMUM_VALUES: Final = 16
"""Values tried of a run; runs are mostly single integers or reach to the end of the interval, which always can be taken."""


@dataclass(frozen=True, slots=True)
class LayerSolution:
    """Codes for a layer that give one element of its accumulator a failing value.

    Attributes
    ----------
    run
        Which run of failing values.
    place
        The element.
    value
        The accumulator there.
    inputs
        Codes by tensor name, int64 in the shape of one sample.
    """

    run: int
    place: Place
    value: int
    inputs: Mapping[str, IntegerArray]


@dataclass(frozen=True, slots=True)
class _Box:
    """The codes that an element reads, each once: where it is among all codes of the layer, its weight and its ends."""

    slots: IntegerArray
    weights: IntegerArray
    lower: IntegerArray
    upper: IntegerArray

    @property
    def signature(self) -> bytes:
        """The same for elements whose accumulators can take the same values."""
        table = np.stack([self.weights, self.lower, self.upper])
        return table[:, np.lexsort(table)].tobytes()


@dataclass
class LayerSolver:
    """Solves for failing values of one layer.

    Attributes
    ----------
    bounds
        The layer and the intervals of its inputs.
    watched
        Which accumulator is meant.
    failing
        The values.
    complete
        False once anything was left out, so that finding nothing proves nothing.
    """

    bounds: LayerBounds
    watched: Observation
    failing: WantedValues
    complete: bool = True
    _boxes: dict[tuple[int, int], _Box] = field(default_factory=dict)

    def solutions(self, run: int) -> Iterator[LayerSolution]:
        """Solutions for one run of failing values, at elements that differ in what they read; none where there is none."""
        row, first, last = (int(part[run]) for part in (self.failing.rows, self.failing.lower, self.failing.upper))
        lower, upper = np.maximum(self._reach.lower[row], first), np.minimum(self._reach.upper[row], last)
        slack = np.minimum(upper - self._reach.lower[row], self._reach.upper[row] - lower)
        tried: set[bytes] = set()
        for position in np.argsort(-slack, kind="stable"):
            if lower[position] > upper[position]:
                continue
            place = self.watched.place(row, int(position))
            box = self._box(row, int(position), place)
            if box is None:
                self.complete = False
                return
            if box.signature not in tried:
                tried.add(box.signature)
                yield from self._solve(run, place, box, (int(lower[position]), int(upper[position])))

    def _solve(self, run: int, place: Place, box: _Box, ends: tuple[int, int]) -> Iterator[LayerSolution]:
        values = range(ends[0], ends[1] + 1)
        half = MAXIMUM_VALUES // 2
        for value in values if len(values) <= MAXIMUM_VALUES else (*values[:half], *values[-half:]):
            lower, upper = (part.copy() for part in self._ends)
            if self.watched.residual is not None:
                self._leave_visible(value, place, lower, upper)
            if (lower > upper).any():
                continue
            codes = combine(box.weights, lower[box.slots], upper[box.slots], value)
            if codes is not None:
                whole = np.clip(0, lower, upper)
                whole[box.slots] = codes
                yield LayerSolution(run, place, value, self._inputs(whole))
                return
        self.complete &= len(values) <= MAXIMUM_VALUES and self.watched.residual is None

    def _leave_visible(self, value: int, place: Place, lower: IntegerArray, upper: IntegerArray) -> None:
        """Narrow the ends of the residual so that the saturation behind it does not hide the code."""
        layer = self.bounds.layer
        if layer.residual is None:
            return
        inner = int(layer.requantization.for_channels([place.channel]).codes(np.array([value]))[0])
        slot = int(self._starts[1] + np.ravel_multi_index(place.index, layer.accumulator_shape[1:]))
        lower[slot] = max(lower[slot], layer.output_clip.lower - inner)
        upper[slot] = min(upper[slot], layer.output_clip.upper - inner)

    def _box(self, row: int, position: int, place: Place) -> _Box | None:
        """What an element reads; None when too many elements were asked for."""
        key = (row, position)
        if key not in self._boxes:
            if len(self._boxes) >= MAXIMUM_FORMS:
                return None
            self._boxes[key] = self._read(terms_of(self.bounds.layer, place.index, self.watched.weights(place.digit)))
        return self._boxes[key]

    def _read(self, form: Terms) -> _Box:
        """A code that is read twice is one unknown, not two."""
        slots, where = np.unique(self._starts[form.inputs] + form.places, return_inverse=True)
        weights = np.zeros(slots.size, np.int64)
        np.add.at(weights, where, form.weights)
        return _Box(slots, weights, self._ends[0][slots], self._ends[1][slots])

    def _inputs(self, whole: IntegerArray) -> dict[str, IntegerArray]:
        found = {}
        for name, start, part in zip(self.bounds.layer.inputs, self._starts, self.bounds.inputs, strict=True):
            found[name] = whole[start : start + part.lower.size].reshape(part.lower.shape)
        return found

    @cached_property
    def _starts(self) -> IntegerArray:
        """Where the codes of each input start among all codes; an input given twice is the same codes."""
        names, sizes = self.bounds.layer.inputs, [part.lower.size for part in self.bounds.inputs]
        return np.cumsum([0, *sizes])[[names.index(name) for name in names]]

    @cached_property
    def _ends(self) -> tuple[IntegerArray, IntegerArray]:
        """Smallest and largest value of all codes, int64 [codes]."""
        lower, upper = (
            np.concatenate([getattr(part, end).reshape(-1) for part in self.bounds.inputs]).astype(np.int64)
            for end in ("lower", "upper")
        )
        return lower, upper

    @cached_property
    def _reach(self) -> Interval:
        """Intervals of all watched elements, int64 [rows, positions]."""
        digits = self.watched.digits
        found = (
            [self.bounds.accumulator]
            if digits is None
            else [accumulator_interval(self.bounds.layer, self.bounds.inputs, digit) for digit in digits]
        )
        lower, upper = (
            np.concatenate([self.watched.by_row(getattr(part, end))[0] for part in found]) for end in ("lower", "upper")
        )
        return Interval(lower, upper)
