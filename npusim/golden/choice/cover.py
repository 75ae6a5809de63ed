"""Greedy cover: which samples, in which order, reach the most goals with the fewest samples."""

from __future__ import annotations

import heapq
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.golden.goals.goal import BoolArray, Goal, GoalTable
from npusim.program import IntegerArray

__all__ = ["LazyGreedy", "PackedRows", "goal_weights", "greedy_order", "left_after", "pack", "row_gains", "unpack"]

PackedRows = npt.NDArray[np.uint8]
"""Which goals samples reach, eight to a byte: [samples, ceil(goals / 8)]."""

UNIT: Final = 2**24
"""Weight of all goals of a usual kind in one layer together."""

AGAIN: Final = 5
"""Reaching a goal once more counts 2**-AGAIN of what it counted before."""


def pack(reached: BoolArray) -> PackedRows:
    """Eight goals to a byte."""
    return np.packbits(reached, axis=1)


def unpack(rows: PackedRows, goals: int) -> BoolArray:
    """The goals again, bool [samples, goals]."""
    return np.unpackbits(rows, axis=1, count=goals).view(np.bool_)


SIXTEENTHS: Final = {
    Goal.SMALLEST: 1,
    Goal.LARGEST: 1,
    Goal.POSITIVE: 4,
    Goal.NEGATIVE: 4,
    Goal.ROUNDING: 8,
    Goal.CLASS: 128,
    Goal.CODE_SHOWS: 24,
    Goal.SUM_SHOWS: 64,
}
"""Kinds that count otherwise than 16: what most samples show anyway needs no choice; of the steps to the ends of intervals few
can be taken, and they lead to saturated layers that hide errors; an error that shows at an output is one that every comparison
sees."""


def goal_weights(table: GoalTable) -> IntegerArray:
    """Weights, int64 [goals]: those of one kind in one layer are shared by the channels that can reach it."""
    weights = np.zeros(table.size, np.int64)
    for group in table.groups:
        possible, unit = table.possible[group.columns], UNIT // 16 * SIXTEENTHS.get(group.goal, 16)
        weights[group.columns] = np.where(possible, unit // max(int(possible.sum()), 1), 0)
    return weights


class LazyGreedy:
    """Chooses samples one by one, each the one that adds most.

    Reaching a goal again counts little, but something, so that every goal is reached, and then as many as possible twice. What
    a sample adds never grows while others are chosen. So a gain computed earlier bounds the one now, and only samples whose
    bound is largest are looked at again.

    Parameters
    ----------
    rows
        Which goals each sample reaches.
    weights
        What each goal counts, int64 [goals], at least 0.
    """

    def __init__(self, rows: PackedRows, weights: IntegerArray) -> None:
        self.rows = rows
        self.left = weights.astype(np.int64)
        self._bounds = dict(enumerate(row_gains(rows, self.left).tolist()))
        self._heap = [(-gain, number) for number, gain in self._bounds.items()]
        heapq.heapify(self._heap)

    def best(self, count: int) -> list[int]:
        """The samples that would add most now, best first, of equal ones the first."""
        found: list[tuple[int, int]] = []
        while self._heap and len(found) < count:
            bound, number = heapq.heappop(self._heap)
            if self._bounds.get(number) != -bound or any(number == other for _, other in found):
                continue  # chosen, or in the heap with another bound, or twice
            entry = (-self.gain(number), number)
            if self._heap and self._heap[0] < entry:
                self._put(entry)
            else:
                found.append(entry)
        for entry in found:
            self._put(entry)
        return [number for _, number in found]

    def _put(self, entry: tuple[int, int]) -> None:
        self._bounds[entry[1]] = -entry[0]
        heapq.heappush(self._heap, entry)

    def gain(self, number: int) -> int:
        """What a sample would add now."""
        return int(self.left[self._reached(number)].sum())

    def replace(self, number: int, row: PackedRows) -> None:
        """Put a row in the place of a sample's, because more is known of it."""
        self.rows[number : number + 1] = row
        if self.gain(number) != self._bounds[number]:
            self._put((-self.gain(number), number))

    def take(self, number: int) -> None:
        """Choose a sample."""
        del self._bounds[number]
        self.left = left_after(self.left, self._reached(number))

    def _reached(self, number: int) -> BoolArray:
        found: BoolArray = unpack(self.rows[number : number + 1], self.left.size)[0]
        return found


def left_after(left: IntegerArray, reached: BoolArray) -> IntegerArray:
    """What goals still count when some are reached once more."""
    return np.where(reached, left >> AGAIN, left)


def greedy_order(rows: PackedRows, weights: IntegerArray, count: int) -> list[int]:
    """The first samples that :class:`LazyGreedy` chooses; the choice of fewer is the beginning of that of more.

    Examples
    --------
    >>> reached = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]], np.bool_)
    >>> greedy_order(pack(reached), np.array([9, 9, 9, 9]), 3)
    [1, 2, 0]
    """
    greedy = LazyGreedy(rows, weights)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        chosen.extend(greedy.best(1))
        greedy.take(chosen[-1])
    return chosen


def row_gains(rows: PackedRows, weights: IntegerArray) -> IntegerArray:
    """What each sample counts alone, int64 [samples]; the sums stay far below 2**53, so float64 holds them exactly."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(rows), 256):
        part = unpack(rows[start : start + 256], weights.size)
        found.append((part.astype(np.float64) @ weights.astype(np.float64)).astype(np.int64))
    return np.concatenate(found)
