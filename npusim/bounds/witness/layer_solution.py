"""Inputs of one layer that give its accumulator a failing value: solved exactly, element by element."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from npusim.bounds.interval import Interval
from npusim.bounds.intervals import LayerBounds, accumulator_interval
from npusim.bounds.witness.combination import combine
from npusim.bounds.witness.failing_values import FailingValues
from npusim.bounds.witness.linear_form import LinearForm, linear_form
from npusim.bounds.witness.observation import Observation, Place
from npusim.program import IntegerArray

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


@dataclass(slots=True)
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
    failing: FailingValues
    complete: bool = True
    _reach: Interval | None = None
    _forms: dict[tuple[int, int], tuple[LinearForm, bytes]] = field(default_factory=dict)

    def solutions(self, run: int) -> Iterator[LayerSolution]:
        """Solutions for one run of failing values, at elements that differ in what they read; none where there is none."""
        row, first, last = (int(part[run]) for part in (self.failing.rows, self.failing.lower, self.failing.upper))
        reach = self._element_intervals()
        lower, upper = np.maximum(reach.lower[row], first), np.minimum(reach.upper[row], last)
        slack = np.minimum(upper - reach.lower[row], reach.upper[row] - lower)
        tried: set[bytes] = set()
        for position in np.argsort(-slack, kind="stable"):
            if lower[position] > upper[position]:
                continue
            place = self.watched.place(row, int(position))
            known = self._form(row, int(position), place)
            if known is None:
                self.complete = False
                return
            form, signature = known
            if signature not in tried:
                tried.add(signature)
                yield from self._solve(run, place, form, (int(lower[position]), int(upper[position])))

    def _solve(self, run: int, place: Place, form: LinearForm, ends: tuple[int, int]) -> Iterator[LayerSolution]:
        weights, lower, upper, slots = self._box(form)
        values = range(ends[0], ends[1] + 1)
        chosen = values if len(values) <= MAXIMUM_VALUES else [*values[: MAXIMUM_VALUES // 2], *values[-MAXIMUM_VALUES // 2 :]]
        for value in chosen:
            codes = combine(weights, lower, upper, value)
            if codes is not None:
                yield LayerSolution(run, place, value, self._inputs(slots, codes))
                return
        if len(values) > MAXIMUM_VALUES:
            self.complete = False

    def _box(self, form: LinearForm) -> tuple[IntegerArray, IntegerArray, IntegerArray, IntegerArray]:
        """Weights and ends of each code that is read, and where it is: a code read twice is one unknown, not two."""
        names = self.bounds.layer.inputs
        sizes = [part.lower.size for part in self.bounds.inputs]
        starts = np.cumsum([0, *sizes])[[names.index(name) for name in names]]
        slots, where = np.unique(starts[form.inputs] + form.places, return_inverse=True)
        weights = np.bincount(where, form.weights.astype(np.float64), slots.size).astype(np.int64)
        lower, upper = (
            np.concatenate([np.asarray(getattr(part, end)).reshape(-1) for part in self.bounds.inputs]).astype(np.int64)[slots]
            for end in ("lower", "upper")
        )
        return weights, lower, upper, slots

    def _inputs(self, slots: IntegerArray, codes: IntegerArray) -> dict[str, IntegerArray]:
        """All inputs of the layer: the codes that matter, and zero, or what is nearest to it, for the others."""
        parts = [np.clip(0, part.lower, part.upper).astype(np.int64) for part in self.bounds.inputs]
        whole = np.concatenate([part.reshape(-1) for part in parts])
        whole[slots] = codes
        pieces = np.split(whole, np.cumsum([part.size for part in parts])[:-1])
        found: dict[str, IntegerArray] = {}
        for name, piece, part in zip(self.bounds.layer.inputs, pieces, parts, strict=True):
            found.setdefault(name, piece.reshape(part.shape))
        return found

    def _form(self, row: int, position: int, place: Place) -> tuple[LinearForm, bytes] | None:
        key = (row, position)
        if key not in self._forms:
            if len(self._forms) >= MAXIMUM_FORMS:
                return None
            form = linear_form(self.bounds.layer, place.index, self.watched.weights(place.digit))
            weights, lower, upper, _ = self._box(form)
            table = np.stack([weights, lower, upper])
            self._forms[key] = form, table[:, np.lexsort(table)].tobytes()
        return self._forms[key]

    def _element_intervals(self) -> Interval:
        """Intervals of all watched elements, int64 [rows, positions]."""
        if self._reach is None:
            digits = self.watched.digits
            found = (
                [self.bounds.accumulator]
                if digits is None
                else [accumulator_interval(self.bounds.layer, self.bounds.inputs, digit) for digit in digits]
            )
            lower, upper = (
                np.concatenate([self.watched.by_row(getattr(part, end))[0] for part in found]) for end in ("lower", "upper")
            )
            self._reach = Interval(lower, upper)
        return self._reach
