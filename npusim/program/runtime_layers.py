"""Layers of TensorFlow Lite that have no accumulator: formulas of a runtime's kernels on codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.fixed_point import divide_half_away
from npusim.kernels.integer import window_sum
from npusim.kernels.qlinear import Affine
from npusim.program.direct import Direct, Ends, table_interval
from npusim.program.layers import LayerKind, Window
from npusim.program.requantization import Clip, IntegerArray

__all__ = [
    "RuntimeCombination",
    "RuntimeFunction",
    "RuntimeMean",
    "RuntimeSoftmax",
    "TailedCombination",
    "TailedTable",
    "WindowMean",
]

CodeFunction: TypeAlias = Callable[..., IntegerArray]
"""From codes to codes as they stand, zero points included."""


@dataclass(frozen=True, slots=True)
class RuntimeCombination:
    """ADD, SUB or MUL of a runtime; monotone in each operand.

    Attributes
    ----------
    kind
        ADD or MUL.
    formula
        From both operands' codes to the result's, saturated.
    first, second, result
        Their zero points.
    """

    kind: LayerKind
    formula: CodeFunction
    first: int
    second: int
    result: int

    def codes(self, a: IntegerArray, b: IntegerArray) -> IntegerArray:
        """The codes, all of them less their zero points."""
        return self.formula(a + self.first, b + self.second) - self.result


@dataclass(frozen=True, slots=True)
class TailedCombination:
    """A combination whose vectorized kernel leaves some elements to code that rounds in another way.

    Attributes
    ----------
    main, tail
        Both formulas; of the same kind.
    left
        bool in the shape of a sample as it is held, batch axis of 1 included: True for the elements that are left over.
    """

    main: RuntimeCombination
    tail: RuntimeCombination
    left: npt.NDArray[np.bool_]

    @property
    def kind(self) -> LayerKind:
        """That of both."""
        return self.main.kind

    def codes(self, a: IntegerArray, b: IntegerArray) -> IntegerArray:
        """The codes, all of them less their zero points."""
        return np.where(self.left, self.tail.codes(a, b), self.main.codes(a, b))


@dataclass(frozen=True, slots=True)
class WindowMean:
    """TensorFlow Lite's AVERAGE_POOL_2D where windows reach beyond the data: the mean of the cells that lie on it.

    ``half_away(sum / cells)`` of codes as they stand, then the activation's saturation.
    """

    window: Window
    zero_point: int
    clip: Clip

    def codes(self, x: IntegerArray) -> IntegerArray:
        """The codes, less their zero point as those of `x` are."""
        geometry = {"kernel_shape": self.window.kernel_shape, "strides": self.window.strides, "pads": self.window.pads}
        cells = window_sum(np.ones((1, 1, *x.shape[2:]), np.int64), **geometry)
        total = window_sum(x, **geometry) + cells * self.zero_point
        return self.clip.apply(divide_half_away(total, cells) - self.zero_point)


@dataclass(frozen=True, slots=True)
class RuntimeMean:
    """MEAN of a runtime over some axes.

    Attributes
    ----------
    axes
        Of the operand as it is held, without the first.
    formula
        From sums of codes, zero points included, to codes.
    count, source, result
        Codes in a sum; zero points.
    """

    axes: tuple[int, ...]
    formula: CodeFunction
    count: int
    source: int
    result: int

    def codes(self, x: IntegerArray) -> IntegerArray:
        """The codes, less their zero point as those of `x` are."""
        return self.formula(x.sum(axis=self.axes) + self.count * self.source) - self.result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuntimeFunction(Direct):
    """A monotone function of one code whose codes are too many for a table.

    Attributes
    ----------
    label
        The function in words.
    formula
        From codes to codes, zero points included.
    source, result
        Zero points.
    """

    label: str
    formula: CodeFunction
    source: int
    result: int

    @property
    def kind(self) -> LayerKind:
        """TABLE."""
        return LayerKind.TABLE

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The formula."""
        return self.formula(inputs[0] + self.source) - self.result

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """Larger codes never give smaller ones."""
        return self.codes([inputs[0][0]]), self.codes([inputs[0][1]])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TailedTable(Direct):
    """A table, and another one for the elements that a vectorized kernel leaves over.

    Attributes
    ----------
    label
        The function in words.
    lowest
        The code less its zero point that the first values are for.
    main, tail
        int64, codes less their zero point.
    left
        bool in the shape of a sample as it is held, batch axis of 1 included: True for the elements that are left over.
    """

    label: str
    lowest: int
    main: IntegerArray
    tail: IntegerArray
    left: npt.NDArray[np.bool_]

    @property
    def kind(self) -> LayerKind:
        """TABLE."""
        return LayerKind.TABLE

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """What stands in the tables."""
        places = inputs[0] - self.lowest
        return np.where(self.left, self.tail[places], self.main[places])

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """Those of either table."""
        tail, main = (table_interval(values, self.lowest, inputs[0]) for values in (self.tail, self.main))
        return np.where(self.left, tail[0], main[0]), np.where(self.left, tail[1], main[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuntimeSoftmax(Direct):
    """SOFTMAX of a runtime over the last axis.

    Attributes
    ----------
    formula
        From codes to codes, zero points included.
    source
        Zero point of the operand.
    result
        What the result's codes stand for.
    """

    formula: CodeFunction
    source: int
    result: Affine

    @property
    def kind(self) -> LayerKind:
        """SOFTMAX."""
        return LayerKind.SOFTMAX

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The formula."""
        return self.formula(inputs[0] + self.source) - self.result.zero_point

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """All codes."""
        shape, affine = inputs[0][0].shape, self.result
        return np.full(shape, affine.lower - affine.zero_point), np.full(shape, affine.upper - affine.zero_point)
