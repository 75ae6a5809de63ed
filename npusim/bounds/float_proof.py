"""Float32 against integers: whether a graph's own arithmetic turns every possible accumulator into the right code.

A graph holds integers in floats. From the accumulator on it adds the bias, multiplies by the scale and by a power of two (or
by both at once) and floors, each operation rounded. Past 2**24 a rounding can carry a product across the next code. Whether
that happens for any accumulator of an interval is decided here exactly, not estimated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.program import Accumulating, ArithmeticTap, FloatOperation, IntegerArray, MeanTap, Requantization, ShiftFloor

__all__ = [
    "MAXIMUM_EVALUATIONS",
    "Decision",
    "Disagreement",
    "FloatPath",
    "decide",
    "decide_exhaustively",
    "float_path",
]

MAXIMUM_EVALUATIONS: Final = 2**22
"""A layer that needs more is not decided: thousands of channels of 9-bit codes are, tensors of wider integers may not be."""


@dataclass(frozen=True, slots=True)
class FloatPath:
    """How a graph computes a layer's codes from its accumulator, and the integers that it should equal.

    Attributes
    ----------
    operations
        In graph order, from the accumulator as a float on; the saturation follows them.
    dtype
        The graph's element type; every operation is rounded to it.
    requantization
        The same in integers. Its clip ends both; for PWCONVRES it is the one before the residual.
    """

    operations: tuple[FloatOperation, ...]
    dtype: np.dtype[np.floating[Any]]
    requantization: Requantization

    def float_codes(self, accumulator: IntegerArray) -> npt.NDArray[Any]:
        """The codes as the graph computes them, operation by operation; `accumulator` is int64 [channels, n]."""
        value = accumulator.astype(self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for operation in self.operations:
                value = operation.apply(value, self.dtype)
        return np.clip(value, self.dtype.type(self.requantization.clip.lower), self.dtype.type(self.requantization.clip.upper))

    def integer_codes(self, accumulator: IntegerArray) -> IntegerArray:
        """The codes in integers; `accumulator` is int64 [channels, n]."""
        return self.requantization.codes(accumulator)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An accumulator that floats turn into another code than integers do."""

    channel: int
    accumulator: int
    integer_code: int
    float_code: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether float and integer codes are equal for every integer of an interval; true when they are.

    Attributes
    ----------
    values
        Integers decided, over all channels.
    evaluations
        Integers evaluated for that.
    disagreements
        Those of the evaluated ones that differ; empty exactly when all integers agree.
    """

    values: int
    evaluations: int
    disagreements: tuple[Disagreement, ...]

    def __bool__(self) -> bool:
        return not self.disagreements


def float_path(layer: Accumulating, dtype: np.dtype[Any]) -> FloatPath:
    """Read from a layer's inner tensors which operations its graph does in which order.

    Each inner tensor stands behind one node; what distinguishes it from the one before is what the node did. Where no tensor
    tells, the staircase says in which order its arithmetic is done in floats.

    Parameters
    ----------
    layer
        The layer.
    dtype
        Element type of its tensors in the graph.
    """
    requantization = layer.requantization
    if not isinstance(requantization, ShiftFloor):
        return FloatPath(requantization.operations, dtype, requantization)
    means = [tap for tap in layer.taps if isinstance(tap, MeanTap)]
    operations = [] if not means else means[-1].operations(requantization.channels)
    nothing = np.zeros(requantization.channels, np.int64)
    previous, floored = ShiftFloor(nothing, nothing + 1, nothing, clip=requantization.clip), False
    for tap in layer.taps:
        if isinstance(tap, ArithmeticTap):
            operations.extend(tap.operations_behind(previous, floored=floored))
            previous, floored = tap.part, tap.floored
    return FloatPath(tuple(operations), dtype, requantization)


def decide(path: FloatPath, lower: IntegerArray, upper: IntegerArray) -> Decision | None:
    """Decide whether float and integer codes agree for every accumulator, evaluating only where the integer code changes.

    Parameters
    ----------
    path
        Both ways of computing.
    lower, upper
        int64 [channels]: the accumulators of each channel are all integers of [lower, upper].

    Returns
    -------
    Decision or None
        None where it takes more than `MAXIMUM_EVALUATIONS`.

    Notes
    -----
    Why few evaluations decide all. Let f be the float code and g the integer code of one channel, as functions of the
    accumulator. Each float operation is a non-decreasing real function (adding a constant, multiplying by a constant that is
    not negative, dividing by a positive one, rounding to an integer, floor, saturation), or a non-increasing one
    (multiplying by a negative constant), followed by rounding to the nearest float, which is non-decreasing; so is the
    conversion of the accumulator. Hence f is monotonic. g is monotonic in the same direction, because its multiplier is the
    product of the same multipliers. On [lower, upper] g therefore is constant on consecutive runs of integers, at most one
    run for each code. All ends of all runs are evaluated. If f and g agree there, then on each run f takes one value at both
    ends, and being monotonic this value everywhere between: f and g agree on every integer. If they agree on every integer,
    they agree at the ends. So agreement at the ends of the runs and agreement everywhere are the same statement.

    Where a code begins, the staircase says (:meth:`~npusim.program.Requantization.first`): that accumulator and its neighbour
    below are the ends of two runs, unless they lie outside of the interval.
    """
    points = _run_ends(path, lower, upper)
    if points is None:
        return None
    return Decision(int((upper - lower + 1).sum()), int(points.size), _compare(path, points, range(lower.size)))


def decide_exhaustively(path: FloatPath, lower: IntegerArray, upper: IntegerArray) -> Decision:
    """What :func:`decide` finds, by evaluating every integer: obviously right and slow. It lists every disagreement."""
    found: list[Disagreement] = []
    for channel in range(lower.size):
        values = np.arange(lower[channel], upper[channel] + 1)
        found.extend(_compare(_of_channel(path, channel), values[None], [channel]))
    total = int((upper - lower + 1).sum())
    return Decision(total, total, tuple(found))


def _compare(path: FloatPath, accumulator: IntegerArray, channels: range | list[int]) -> tuple[Disagreement, ...]:
    integers, floats = path.integer_codes(accumulator), path.float_codes(accumulator)
    places = np.argwhere(floats != integers)
    return tuple(
        Disagreement(channels[row], int(accumulator[row, column]), int(integers[row, column]), float(floats[row, column]))
        for row, column in places
    )


def _of_channel(path: FloatPath, channel: int) -> FloatPath:
    here = slice(channel, channel + 1)
    operations = tuple(replace(operation, operand=operation.operand[here]) for operation in path.operations)
    return FloatPath(operations, path.dtype, path.requantization.for_channels(here))


def _run_ends(path: FloatPath, lower: IntegerArray, upper: IntegerArray) -> IntegerArray | None:
    """Integers [channels, n] of the intervals, among which are both ends of each run of one integer code."""
    ends = np.stack([lower, upper], axis=1)
    codes = path.integer_codes(ends)
    if 2 * (int(codes.max()) - int(codes.min()) + 1) * lower.size > MAXIMUM_EVALUATIONS:
        return None
    steps = path.requantization.run_steps(lower, upper)
    inner = np.clip(np.concatenate([steps, steps - 1], axis=1), lower[:, None], upper[:, None])
    return np.concatenate([ends, inner], axis=1)
