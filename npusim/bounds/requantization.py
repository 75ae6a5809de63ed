"""Float32 against integers: whether a graph's own arithmetic turns every possible accumulator into the right code.

A graph holds integers in floats. From the accumulator on it adds the bias, multiplies by the scale and by a power of two (or
by both at once) and floors, each operation rounded. Past 2**24 a rounding can carry a product across the next code. Whether
that happens for any accumulator of an interval is decided here exactly, not estimated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, assert_never

import numpy as np
import numpy.typing as npt

from npusim.kernels.requantize import requantize
from npusim.program import IntegerArray, IntegerLayer, ShiftFloor, Tap, TapSource

__all__ = [
    "MAXIMUM_EVALUATIONS",
    "Decision",
    "Disagreement",
    "FloatOperation",
    "FloatPath",
    "Operator",
    "decide",
    "decide_exhaustively",
    "float_path",
]

MAXIMUM_EVALUATIONS: Final = 2**22
"""A layer that needs more is not decided: thousands of channels of 9-bit codes are, tensors of wider integers may not be."""


class Operator(StrEnum):
    """The floating-point operations between an accumulator and its code."""

    DIVIDE = "divide"
    ROUND = "round"
    ADD = "add"
    MULTIPLY = "multiply"
    FLOOR = "floor"


@dataclass(frozen=True, slots=True)
class FloatOperation:
    """One operation; `operand` is float64 [channels], exact in the graph's element type, and unused by ROUND and FLOOR."""

    operator: Operator
    operand: npt.NDArray[np.float64]


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
    requantization: ShiftFloor

    def float_codes(self, accumulator: IntegerArray) -> npt.NDArray[Any]:
        """The codes as the graph computes them, operation by operation; `accumulator` is int64 [channels, n]."""
        value = accumulator.astype(self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for operation in self.operations:
                value = _apply(operation, value, self.dtype)
        return np.clip(value, self.dtype.type(self.requantization.clip.lower), self.dtype.type(self.requantization.clip.upper))

    def integer_codes(self, accumulator: IntegerArray) -> IntegerArray:
        """The codes in integers; `accumulator` is int64 [channels, n]."""
        part = self.requantization
        return requantize(
            accumulator,
            bias=part.bias[:, None],
            scale=part.scale[:, None],
            shift=part.shift[:, None],
            lower=part.clip.lower,
            upper=part.clip.upper,
        )


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


def float_path(layer: IntegerLayer, dtype: np.dtype[Any]) -> FloatPath:
    """Read from a layer's inner tensors which operations its graph does in which order.

    Each inner tensor stands behind one node. What distinguishes it from the one before is what the node did: a bias that
    rises by c is ``Add(c)``, a multiplier that grows by m is ``Mul(m)``. The quotient that gives m is exact, because m is a
    float and so is the product. Additions of 0 and multiplications by 1 leave no trace, and change no float either.

    Parameters
    ----------
    layer
        A layer that requantizes.
    dtype
        Element type of its tensors in the graph.
    """
    requantization = layer.requantization
    if requantization is None:
        raise ValueError(f"layer '{layer.name}' does not requantize")
    if layer.inner_clip is not None:
        requantization = replace(requantization, clip=layer.inner_clip)
    means = [tap for tap in layer.taps if tap.source is TapSource.MEAN]
    operations = [] if not means else _mean_operations(means[-1], requantization.bias.size)
    taps = [tap for tap in layer.taps if tap.source is TapSource.ACCUMULATOR]
    nothing = np.zeros_like(requantization.bias)
    previous = Tap("", TapSource.ACCUMULATOR, nothing, nothing + 1, nothing, floored=False)
    for tap in taps:
        operations.extend(_between(previous, tap))
        previous = tap
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
    conversion of the accumulator. Hence f is monotonic. g is monotonic in the same direction, because its scale is the
    product of the same multipliers. On [lower, upper] g therefore is constant on consecutive runs of integers, at most one
    run for each code. All ends of all runs are evaluated. If f and g agree there, then on each run f takes one value at both
    ends, and being monotonic this value everywhere between: f and g agree on every integer. If they agree on every integer,
    they agree at the ends. So agreement at the ends of the runs and agreement everywhere are the same statement.

    With a positive scale the first accumulator whose code is at least t, for a t within the clip, is
    ``ceil(t * 2**shift / scale) - bias``; with a negative one the last is ``floor(-t * 2**shift / |scale|) - bias``. That one
    and its neighbour are the ends of two runs, unless they lie outside of the interval.
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
    part = path.requantization
    operations = tuple(replace(operation, operand=operation.operand[here]) for operation in path.operations)
    single = replace(part, bias=part.bias[here], scale=part.scale[here], shift=part.shift[here])
    return FloatPath(operations, path.dtype, single)


def _run_ends(path: FloatPath, lower: IntegerArray, upper: IntegerArray) -> IntegerArray | None:
    """Integers [channels, n] of the intervals, among which are both ends of each run of one integer code."""
    ends = np.stack([lower, upper], axis=1)
    codes = path.integer_codes(ends)
    first, last = int(codes.min()), int(codes.max())
    if 2 * (last - first + 1) * lower.size > MAXIMUM_EVALUATIONS:
        return None
    part = path.requantization
    bias, scale, shift = part.bias[:, None], part.scale[:, None], part.shift[:, None]
    goal = np.arange(first + 1, last + 1)[None, :] << shift
    size = np.maximum(np.abs(scale), 1)
    boundary = np.where(scale > 0, -(-goal // size), -goal // size) - bias
    neighbour = boundary - np.where(scale > 0, 1, -1)
    inner = np.clip(np.concatenate([boundary, neighbour], axis=1), lower[:, None], upper[:, None])
    return np.concatenate([ends, inner], axis=1)


def _mean_operations(mean: Tap, channels: int) -> list[FloatOperation]:
    """A mean, times the area, rounded to the sum that it came from."""
    divisor, factor = np.full(channels, float(mean.divisor)), np.full(channels, float(mean.factor))
    return [
        FloatOperation(Operator.DIVIDE, divisor),
        FloatOperation(Operator.MULTIPLY, factor),
        FloatOperation(Operator.ROUND, factor),
    ]


def _between(previous: Tap, tap: Tap) -> list[FloatOperation]:
    found = []
    added = (tap.bias - previous.bias).astype(np.float64)
    if added.any():
        found.append(FloatOperation(Operator.ADD, added))
    before, after = (np.ldexp(part.scale.astype(np.float64), -part.shift.astype(np.int32)) for part in (previous, tap))
    # behind a multiplication by 0 every further factor gives 0 again
    factor = np.where(before == 0, 1.0, after / np.where(before == 0, 1.0, before))
    if (factor != 1).any():
        found.append(FloatOperation(Operator.MULTIPLY, factor))
    if tap.floored and not previous.floored:
        found.append(FloatOperation(Operator.FLOOR, factor))
    return found


def _apply(operation: FloatOperation, value: npt.NDArray[Any], dtype: np.dtype[np.floating[Any]]) -> npt.NDArray[Any]:
    operand = operation.operand.astype(dtype)[:, None]
    result: npt.NDArray[Any]
    match operation.operator:
        case Operator.DIVIDE:
            result = value / operand
        case Operator.ROUND:
            result = np.rint(value)
        case Operator.ADD:
            result = value + operand
        case Operator.MULTIPLY:
            result = value * operand
        case Operator.FLOOR:
            result = np.floor(value)
        case _:
            assert_never(operation.operator)
    return result
