"""Integers between limits whose weighted sum is exact: which codes give a certain accumulator.

The question is a bounded subset sum, and small weights make it easy enough to be decided, not only tried: the answer is
either codes or the certainty that there are none.
"""

from __future__ import annotations

import numpy as np

from npusim.program import IntegerArray

__all__ = ["combine"]


def combine(weights: IntegerArray, lower: IntegerArray, upper: IntegerArray, target: int) -> IntegerArray | None:
    """Integers x with ``sum(weights * x) == target`` and ``lower <= x <= upper``.

    Parameters
    ----------
    weights, lower, upper
        int64 [n].
    target
        The wanted sum.

    Returns
    -------
    int64 [n] or None
        None where no such integers exist.

    Examples
    --------
    >>> combine(np.array([7, -5]), np.array([0, 0]), np.array([3, 3]), 4)
    array([2, 2])
    >>> combine(np.array([6, -4]), np.array([0, 0]), np.array([9, 9]), 3) is None
    True

    Notes
    -----
    Each x starts at the end where its product is smallest. What is missing then is a sum of magnitudes, each taken at most
    as often as all x of that magnitude have room. Taking the largest magnitudes first leaves less than the largest one, V.

    From there on, small changes suffice. Let a solution differ from that start by as few single steps as possible. Order its
    steps so that one goes down whenever the sum of steps so far is positive and up otherwise: all partial sums lie in (-V, V].
    With 2 V steps or more, a partial sum occurs twice, and leaving out the steps between the two gives a solution with fewer
    steps. So the nearest solution takes at most 2 V - 1 steps, and its partial sums in any other order stay within
    V * (2 V - 1): as far as that, all reachable sums are listed, magnitude by magnitude.
    """
    magnitudes = np.abs(weights)
    start = np.where(weights >= 0, lower, upper)
    missing = target - int((weights * start).sum())
    values = np.unique(magnitudes[magnitudes > 0])
    room = np.array([int((upper - lower)[magnitudes == value].sum()) for value in values], np.int64)
    counts = _counts([int(value) for value in values], [int(item) for item in room], missing)
    if counts is None:
        return None
    steps = np.zeros_like(start)
    for value, count in zip(values, counts, strict=True):
        chosen = np.flatnonzero(magnitudes == value)
        capacity = (upper - lower)[chosen]
        before = np.cumsum(capacity) - capacity
        steps[chosen] = np.clip(count - before, 0, capacity)
    result: IntegerArray = start + np.where(weights >= 0, steps, -steps)
    return result


def _counts(values: list[int], room: list[int], missing: int) -> list[int] | None:
    """How often each of some rising positive values is taken, at most `room` times each, to give a sum."""
    if missing < 0 or missing > sum(value * most for value, most in zip(values, room, strict=True)):
        return None
    counts = [0] * len(values)
    for position in reversed(range(len(values))):
        counts[position] = min(room[position], missing // values[position])
        missing -= counts[position] * values[position]
    if missing == 0:
        return counts
    steps = 2 * values[-1]
    limits = [(max(-count, -steps), min(most - count, steps)) for count, most in zip(counts, room, strict=True)]
    changes = _changes(values, limits, missing)
    return None if changes is None else [count + change for count, change in zip(counts, changes, strict=True)]


def _changes(values: list[int], limits: list[tuple[int, int]], goal: int) -> list[int] | None:
    """Changes within limits whose weighted sum is `goal`.

    A set of sums is one integer: its bit ``sum + reach`` tells whether a sum is in it.
    """
    reach = 2 * values[-1] ** 2
    window = (1 << (2 * reach + 1)) - 1
    sums = [1 << reach]
    for value, (down, up) in zip(values, limits, strict=True):
        sums.append((_repeated(sums[-1], value, up, left=True) | _repeated(sums[-1], value, -down, left=False)) & window)
    if not sums[-1] >> (goal + reach) & 1:
        return None
    changes: list[int] = []
    for value, (down, up), before in zip(reversed(values), reversed(limits), reversed(sums[:-1]), strict=True):
        nearest_first = sorted(range(down, up + 1), key=abs)
        change = next(
            item for item in nearest_first if goal - item * value + reach >= 0 and before >> (goal - item * value + reach) & 1
        )
        changes.append(change)
        goal -= change * value
    return changes[::-1]


def _repeated(sums: int, value: int, times: int, *, left: bool) -> int:
    """All sums that a set reaches with a value added (`left`) or subtracted up to a number of times."""
    done = 0
    while done < times:
        step = min(done + 1, times - done)
        sums |= sums << (step * value) if left else sums >> (step * value)
        done += step
    return sums
