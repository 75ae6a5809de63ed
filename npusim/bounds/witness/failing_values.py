"""Which values of an accumulator break a statement: runs of integers, row by row.

A row is an output channel; for weight digits it is ``digit * channels + channel``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.bounds.channels import ChannelBounds
from npusim.bounds.float_proof import FloatPath, float_path
from npusim.bounds.layer_verdicts import DIGIT_LIMITS, INT32_LIMITS
from npusim.program import IntegerArray
from npusim.program.intervals import Interval
from npusim.search.wanted_values import WantedValues

__all__ = ["failing_digits", "failing_in_floats", "failing_in_int32"]

MAXIMUM_RUNS: Final = 2**22
"""Runs of one code that are examined at once; more have only layers of thousands of channels with wide codes."""


def failing_in_floats(
    bounds: ChannelBounds, dtype: np.dtype[Any], *, inexact: npt.NDArray[np.bool_] | None = None
) -> WantedValues | None:
    """Accumulators that the graph's floats turn into another code than integers do; None where there are too many codes.

    For channels with `inexact` sums, which floats may round on the way to the accumulator, the accumulators on both sides of
    each change of the code are given too: there the smallest error matters.

    Both ways are monotonic, so the codes in integers are constant on runs, and on each run those accumulators whose float code
    is off form a piece at its start and one at its end. Bisection finds where these pieces stop.
    """
    path = float_path(bounds.layer, dtype)
    runs = _runs(path, bounds.accumulator)
    if runs is None:
        return None
    first, last = runs
    head, tail = _off_until(path, first, last, 1), _off_until(path, last, first, -1)
    rows = np.broadcast_to(np.arange(first.shape[0])[:, None], first.shape)
    run = first <= last
    if inexact is not None:
        head = np.where(inexact[:, None], np.maximum(head, first), head)
        tail = np.where(inexact[:, None], np.minimum(tail, last), tail)
    # a piece at the start that takes the whole run is also the one at the end
    pieces = [(first, np.minimum(head, last)), (np.maximum(tail, head + 1), last)]
    return _joined([(rows[run], lower[run], upper[run]) for lower, upper in pieces])


def failing_in_int32(bounds: ChannelBounds) -> WantedValues:
    """Accumulators whose widest integer, ``(accumulator + bias) * scale``, leaves int32."""
    lower, upper = INT32_LIMITS
    beyond = bounds.layer.requantization.beyond(lower, upper)
    return _beyond(bounds.accumulator, *beyond, 0)


def failing_digits(bounds: ChannelBounds) -> WantedValues:
    """Accumulators of 2-bit weight digits that leave 18 bits."""
    lower, upper = DIGIT_LIMITS
    digits = bounds.digits or ()
    found = [
        _beyond(interval, np.full(interval.lower.size, lower - 1), np.full(interval.lower.size, upper + 1), position)
        for position, interval in enumerate(digits)
    ]
    return _joined([(part.rows, part.lower, part.upper) for part in found])


def _beyond(interval: Interval, below: IntegerArray, above: IntegerArray, block: int) -> WantedValues:
    """What of intervals lies at or below one limit and at or above another."""
    rows = np.arange(below.size) + block * below.size
    parts = [
        (rows, interval.lower, np.minimum(below, interval.upper)),
        (rows, np.maximum(above, interval.lower), interval.upper),
    ]
    return _joined(parts)


_Rows = tuple[IntegerArray, IntegerArray, IntegerArray]


def _joined(parts: list[_Rows]) -> WantedValues:
    """One table of all parts; empty runs, whose ends are crossed, are left out."""
    empty = np.zeros(0, np.int64)
    rows, lower, upper = (np.concatenate([empty, *(part[item].reshape(-1) for part in parts)]) for item in range(3))
    kept = np.flatnonzero(lower <= upper)
    order = kept[np.lexsort((lower[kept], rows[kept]))]
    return WantedValues(rows[order], lower[order], upper[order])


def _runs(path: FloatPath, interval: Interval) -> tuple[IntegerArray, IntegerArray] | None:
    """First and last accumulator of each run of one code, int64 [channels, n]; crossed where a channel has fewer runs."""
    part = path.requantization
    lower, upper = interval.lower[:, None], interval.upper[:, None]
    codes = path.integer_codes(np.concatenate([lower, upper], axis=1))
    if (int(codes.max()) - int(codes.min()) + 1) * part.channels > MAXIMUM_RUNS:
        return None
    inside = np.sort(np.clip(part.run_steps(interval.lower, interval.upper), lower, upper + 1), axis=1)
    return np.concatenate([lower, inside], axis=1), np.concatenate([inside - 1, upper], axis=1)


def _off_until(path: FloatPath, start: IntegerArray, stop: IntegerArray, direction: int) -> IntegerArray:
    """Last accumulator from `start` to `stop` whose float code is off as that of `start` is; the one before `start` if none."""
    codes = path.integer_codes(start)
    side = _side(path, start, codes)
    known, excluded = np.zeros_like(start), np.abs(stop - start) + 1
    while (excluded - known > 1).any():
        middle = (known + excluded) // 2
        same = _side(path, start + direction * middle, codes) == side
        known, excluded = np.where(same, middle, known), np.where(same, excluded, middle)
    return np.where(side == 0, start - direction, start + direction * known)


def _side(path: FloatPath, values: IntegerArray, codes: IntegerArray) -> IntegerArray:
    """Whether float codes are above (1) or below (-1) a run's code in integers, or equal it (0); NaN counts as above."""
    floats = path.float_codes(values)
    return np.where(np.isnan(floats), 1, np.sign(floats - codes)).astype(np.int64)
