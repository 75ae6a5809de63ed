"""Search for model inputs that drive a watched integer to a wanted value: greedy, without gradients.

Candidates are vectors of input levels. What counts is how far the nearest element of the layer is from the nearest wanted
value. Each round takes one of the best candidates, tries many changes of it, and then combines those changes: far from the goal
all that help together, close to it those few whose effects add up to what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from npusim.program import IntegerArray
from npusim.search.budget import Budget
from npusim.search.changes import Changes, combine_changes, pick_parent
from npusim.search.wanted_values import WantedValues

__all__ = ["Hit", "Search"]

Evaluate: TypeAlias = Callable[[IntegerArray], tuple[IntegerArray, IntegerArray]]
"""From levels [n, size] to watched values [n, rows, positions] and to what is added to their distances, as hidden."""

POPULATION: Final = 8
CHILDREN: Final = 64
PATIENCE: Final = 40
"""Rounds without progress before the search starts anew elsewhere."""

REFUSED: Final = 2**60
"""Stands for the distance of a candidate that was reported and found wanting."""

CACHED: Final = 2**22
"""Numbers held for one batch of candidates."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A candidate that gives a wanted value: its levels, the row and the position of the element."""

    levels: IntegerArray
    row: int
    position: int


@dataclass(slots=True)
class _Candidates:
    """Candidates, their watched values, what these lack to the nearest wanted value, and how far from showing they are.

    All are flat over the elements of the layer.
    """

    levels: IntegerArray
    values: IntegerArray
    gaps: IntegerArray
    lacking: IntegerArray

    @property
    def distances(self) -> IntegerArray:
        found: IntegerArray = self.lacking.min(axis=1)
        return found

    def select(self, chosen: IntegerArray) -> _Candidates:
        return _Candidates(self.levels[chosen], self.values[chosen], self.gaps[chosen], self.lacking[chosen])

    def joined(self, *others: _Candidates) -> _Candidates:
        parts = (self, *others)
        return _Candidates(
            np.concatenate([part.levels for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.gaps for part in parts]),
            np.concatenate([part.lacking for part in parts]),
        )


class Search:
    """One search; iterating over it gives hits until the budget is spent.

    Parameters
    ----------
    evaluate
        Computes the watched values.
    wanted
        The wanted values; at least one.
    limits
        Highest level of each input, the lowest being 0; int64 [size].
    budget
        What may be spent.
    seed
        Of the pseudo-random numbers.
    starts
        Candidates to start with besides generated ones, int64 [n, size].
    elements
        Number of watched values of one candidate, from which the size of batches follows.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        wanted: WantedValues,
        limits: IntegerArray,
        budget: Budget,
        *,
        seed: int,
        starts: IntegerArray,
        elements: int,
    ) -> None:
        self._evaluate = evaluate
        self._wanted = wanted
        self._active = np.ones(len(wanted), bool)
        self._budget = budget
        self._generator = np.random.default_rng(seed)
        self._starts = starts
        self._batch = int(np.clip(CACHED // max(limits.size, elements, 1), 4, CHILDREN))
        self._changes = Changes(self._generator, limits, self._batch)
        self.nearest = np.iinfo(np.int64).max

    def __iter__(self) -> Iterator[Hit]:
        population = self._computed(np.concatenate([self._starts, self._changes.fresh()]))
        patience, best = PATIENCE, int(population.distances.min())
        while True:
            yield from self._hits(population)
            if self._budget.spent:
                return
            population = self._kept(population)
            distance = int(population.distances[0])
            patience, best = (PATIENCE, distance) if distance < best else (patience - 1, best)
            if patience == 0:
                self._turn_away(population)
                population = self._computed(self._changes.fresh())
                patience, best = PATIENCE, int(population.distances.min())
            else:
                population = self._round(population)

    def _hits(self, population: _Candidates) -> Iterator[Hit]:
        """Report candidates without distance, each once: whoever goes on asking has found them wanting."""
        distances = population.distances
        closest = int(distances.min())
        self.nearest = min(self.nearest, closest)
        rows = self._wanted.select(np.flatnonzero(self._active)).present
        for order, number in enumerate(np.flatnonzero(distances == 0)):
            if order >= POPULATION and self._budget.spent:
                return
            row, position = divmod(int(population.lacking[number].argmin()), population.lacking.shape[1] // rows.size)
            yield Hit(population.levels[number], int(rows[row]), position)
            population.lacking[number] = REFUSED

    def _kept(self, population: _Candidates) -> _Candidates:
        return population.select(np.argsort(population.distances, kind="stable")[:POPULATION])

    def _turn_away(self, population: _Candidates) -> None:
        """Leave the wanted values aside that the search is stuck at; when none are left, take up all again."""
        chosen = np.flatnonzero(self._active)
        wanted = self._wanted.select(chosen)
        values = population.values[:1].reshape(1, wanted.present.size, -1)
        gaps, runs = wanted.nearest(values)
        self._active[chosen[runs.reshape(-1)[np.abs(gaps).argmin()]]] = False
        if not self._active.any():
            self._active[:] = True

    def _computed(self, levels: IntegerArray) -> _Candidates:
        wanted = self._wanted.select(np.flatnonzero(self._active))
        parts = []
        for start in range(0, len(levels), self._batch):
            part = levels[start : start + self._batch]
            values, hidden = (found[:, wanted.present] for found in self._evaluate(part))
            gaps, _ = wanted.nearest(values)
            flat = (len(part), -1)
            parts.append(_Candidates(part, values.reshape(flat), gaps.reshape(flat), (np.abs(gaps) + hidden).reshape(flat)))
            self._budget.take(len(part))
        return parts[0].joined(*parts[1:])

    def _round(self, population: _Candidates) -> _Candidates:
        """Changes of one of the best candidates, then combinations of these changes."""
        number = pick_parent(self._generator, 0.4, len(population.levels))
        parent = population.select(np.array([number]))
        element = int(parent.lacking[0].argmin())
        gap = int(parent.gaps[0, element])
        children = self._computed(self._changes.children(parent.levels[0], population.levels))
        effects = children.values[:, element] - parent.values[0, element]
        sets = self._changes.sets(effects, gap)
        if not sets:
            return population.joined(children)
        combined = np.stack([combine_changes(parent.levels[0], children.levels[chosen]) for chosen in sets])
        return population.joined(children, self._computed(combined))
