"""Layers that make codes of codes without an accumulator: tables, sums and products of two tensors, means, softmax.

Their arithmetic is a formula of a runtime (:mod:`npusim.kernels.qlinear`). Codes are less their zero point, as everywhere in a
program; formulas that need the codes as they stand add it again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.float_averages import average_planes, average_windows
from npusim.kernels.qlinear import Affine, average_codes, softmax_codes
from npusim.program.accumulation import maximum_of_windows, unknown_kind
from npusim.program.layers import IntegerLayer, LayerKind, MaxPool, Window
from npusim.program.requantization import Clip, IntegerArray

__all__ = [
    "AffineCombination",
    "Average",
    "Averaging",
    "Combination",
    "CombinedCodes",
    "Concatenation",
    "Direct",
    "Elementwise",
    "FusedAverage",
    "PlaneAverage",
    "Softmax",
    "Table",
    "WrittenAverage",
    "direct_codes",
]

Ends: TypeAlias = tuple[IntegerArray, IntegerArray]
"""Smallest and largest value of each element."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Direct(IntegerLayer):
    """A layer whose codes follow from the codes of its inputs in one step."""

    @abstractmethod
    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The codes less their zero point, int64 [samples, *output_shape[1:]].

        Parameters
        ----------
        inputs
            Codes of its inputs less their zero points, int64, samples on the first axis.
        """

    @abstractmethod
    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """The smallest and largest codes for inputs within intervals, element by element."""


def _on_codes(codes: IntegerArray, affine: Affine) -> IntegerArray:
    return codes + affine.zero_point


def _real(codes: IntegerArray, affine: Affine) -> npt.NDArray[np.float32]:
    return affine.real(codes + affine.zero_point)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table(Direct):
    """A function of one code, tabulated: ``codes = values[code - lowest]``.

    Attributes
    ----------
    label
        The function in words.
    lowest
        The code less its zero point that the first value is for.
    values
        int64, one code less its zero point for each code going in.
    spread
        int64, how far each value may lie from that of another correct implementation of the function; None where there is one.
    """

    label: str
    lowest: int
    values: IntegerArray
    spread: IntegerArray | None = None

    @property
    def computes_inside(self) -> bool:
        """False: codes are chosen, not computed."""
        return False

    @property
    def kind(self) -> LayerKind:
        """TABLE."""
        return LayerKind.TABLE

    @property
    def parameter_count(self) -> int:
        """The values."""
        return int(self.values.size)

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """What stands in the table."""
        return self.values[inputs[0] - self.lowest]

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """The smallest and largest value between both ends."""
        return table_interval(self.values, self.lowest, inputs[0])


def table_interval(values: IntegerArray, lowest: int, ends: Ends) -> Ends:
    """The smallest and largest value of a table on intervals; each different interval is looked at once."""
    pairs = np.stack([ends[0].reshape(-1) - lowest, ends[1].reshape(-1) - lowest], axis=1)
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    parts = [values[first : last + 1] for first, last in distinct]
    found = [np.array([extreme(part) for part in parts], np.int64)[place.reshape(-1)] for extreme in (np.min, np.max)]
    return found[0].reshape(ends[0].shape), found[1].reshape(ends[0].shape)


class Combination(Protocol):
    """A formula for the codes of two operands; monotone in each of them while the other one stays."""

    @property
    def kind(self) -> LayerKind:
        """ADD or MUL."""
        ...

    def codes(self, a: IntegerArray, b: IntegerArray) -> IntegerArray:
        """The codes, all of them less their zero points."""
        ...


class CombinedCodes(Protocol):
    """A kernel for the codes of two operands as they stand, such as :func:`~npusim.kernels.qlinear.add_codes`."""

    def __call__(self, a: IntegerArray, b: IntegerArray, /, *, first: Affine, second: Affine, result: Affine) -> IntegerArray:
        """The codes of the result, saturated."""
        ...


@dataclass(frozen=True, slots=True)
class AffineCombination:
    """A kernel's sum or product of two tensors with scales and zero points, then the activation's saturation.

    Attributes
    ----------
    kind
        ADD or MUL.
    formula
        The kernel.
    first, second, result
        What the codes stand for.
    clip
        Saturation of the codes less their zero point.
    """

    kind: LayerKind
    formula: CombinedCodes
    first: Affine
    second: Affine
    result: Affine
    clip: Clip

    def codes(self, a: IntegerArray, b: IntegerArray) -> IntegerArray:
        """The codes, all of them less their zero points."""
        operands = _on_codes(a, self.first), _on_codes(b, self.second)
        found = self.formula(*operands, first=self.first, second=self.second, result=self.result)
        return self.clip.apply(found - self.result.zero_point)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Elementwise(Direct):
    """A sum or product of two tensors, element by element.

    Attributes
    ----------
    combination
        The formula.
    constant
        int64, the operand that is constant, less its zero point; None where both are inputs.
    constant_first
        Whether it is the first operand.
    """

    combination: Combination
    constant: IntegerArray | None = None
    constant_first: bool = False

    @property
    def kind(self) -> LayerKind:
        """ADD or MUL."""
        return self.combination.kind

    @property
    def parameter_count(self) -> int:
        """Elements of the constant."""
        return 0 if self.constant is None else int(self.constant.size)

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The formula."""
        return self.combination.codes(*self._operands(inputs))

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """Formulas are monotone in each operand, so extremes stand at combinations of ends."""
        corners = [self.combination.codes(*self._operands(chosen)) for chosen in _corners(inputs)]
        return np.minimum.reduce(corners), np.maximum.reduce(corners)

    def _operands(self, inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, IntegerArray]:
        if self.constant is None:
            return inputs[0], inputs[1]
        return (self.constant, inputs[0]) if self.constant_first else (inputs[0], self.constant)


def _corners(inputs: Sequence[Ends]) -> list[list[IntegerArray]]:
    """Every combination of ends."""
    found: list[list[IntegerArray]] = [[]]
    for ends in inputs:
        found = [[*chosen, end] for chosen in found for end in ends]
    return found


class Averaging(Protocol):
    """A formula for the codes of means; monotone in every code going in."""

    def codes(self, x: IntegerArray) -> IntegerArray:
        """The codes, less their zero points as those of `x` are."""
        ...


@dataclass(frozen=True, slots=True)
class FusedAverage:
    """QLinearAveragePool (:func:`~npusim.kernels.qlinear.average_codes`), then the activation's saturation."""

    source: Affine
    result: Affine
    clip: Clip
    window: Window
    count_include_pad: bool

    def codes(self, x: IntegerArray) -> IntegerArray:
        """The codes of the means."""
        found = average_codes(
            _on_codes(x, self.source),
            source=self.source,
            result=self.result,
            kernel_shape=self.window.kernel_shape,
            strides=self.window.strides,
            pads=self.window.pads,
            ceil_mode=self.window.ceil_mode,
            count_include_pad=self.count_include_pad,
        )
        return self.clip.apply(found - self.result.zero_point)


@dataclass(frozen=True, slots=True)
class WrittenAverage:
    """``quantize(AveragePool(dequantize(x)))``, summed as ONNX Runtime does, then the activation's saturation."""

    source: Affine
    result: Affine
    clip: Clip
    window: Window
    count_include_pad: bool
    in_window_order: bool = False

    def codes(self, x: IntegerArray) -> IntegerArray:
        """The codes of the means."""
        means = average_windows(
            _real(x, self.source),
            kernel_shape=self.window.kernel_shape,
            strides=self.window.strides,
            pads=self.window.pads,
            ceil_mode=self.window.ceil_mode,
            count_include_pad=self.count_include_pad,
            in_window_order=self.in_window_order,
        )
        return self.clip.apply(self.result.codes(means) - self.result.zero_point)


@dataclass(frozen=True, slots=True)
class PlaneAverage:
    """``quantize(GlobalAveragePool(dequantize(x)))``, summed as ONNX Runtime does, then the activation's saturation."""

    source: Affine
    result: Affine
    clip: Clip

    def codes(self, x: IntegerArray) -> IntegerArray:
        """The codes of the means."""
        return self.clip.apply(self.result.codes(average_planes(_real(x, self.source))) - self.result.zero_point)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Average(Direct):
    """Means over windows that are rounded on the way, so that they are not a function of an integer sum."""

    averaging: Averaging

    @property
    def kind(self) -> LayerKind:
        """AVGPOOL."""
        return LayerKind.AVGPOOL

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The formula."""
        return self.averaging.codes(inputs[0]).reshape(-1, *self.output_shape[1:])

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """Larger codes never give smaller means."""
        return self.codes([inputs[0][0]]), self.codes([inputs[0][1]])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concatenation(Direct):
    """Tensors side by side, each in the scale of the result.

    Attributes
    ----------
    tables
        For each input its table, with the code that the first value is for; None where codes stay as they are.
    axis
        Not negative.
    """

    tables: tuple[tuple[int, IntegerArray] | None, ...]
    axis: int

    @property
    def computes_inside(self) -> bool:
        """False: codes are chosen, not computed."""
        return False

    @property
    def kind(self) -> LayerKind:
        """CONCAT."""
        return LayerKind.CONCAT

    @property
    def parameter_count(self) -> int:
        """Values of the tables."""
        return sum(0 if table is None else int(table[1].size) for table in self.tables)

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """What stands in the tables."""
        parts = [x if table is None else table[1][x - table[0]] for x, table in zip(inputs, self.tables, strict=True)]
        return np.concatenate(parts, axis=self.axis)

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """The intervals of the parts."""
        parts = [
            ends if table is None else table_interval(table[1], table[0], ends)
            for ends, table in zip(inputs, self.tables, strict=True)
        ]
        return np.concatenate([part[0] for part in parts], axis=self.axis), np.concatenate(
            [part[1] for part in parts], axis=self.axis
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Softmax(Direct):
    """QLinearSoftmax (:func:`~npusim.kernels.qlinear.softmax_codes`) along an axis; over all axes from it on where `flat`."""

    source: Affine
    result: Affine
    axis: int
    flat: bool

    @property
    def kind(self) -> LayerKind:
        """SOFTMAX."""
        return LayerKind.SOFTMAX

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The formula."""
        x = _on_codes(inputs[0], self.source)
        if self.flat:
            rows = x.reshape(*x.shape[: self.axis], -1)
            found = softmax_codes(rows, source=self.source, result=self.result).reshape(x.shape)
        else:
            moved = np.ascontiguousarray(np.moveaxis(x, self.axis, -1))
            found = np.moveaxis(softmax_codes(moved, source=self.source, result=self.result), -1, self.axis)
        return found - self.result.zero_point

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """Shares of 0 to 1."""
        ends = self.result.codes(np.array([0, 1], np.float32)) - self.result.zero_point
        shape = inputs[0][0].shape
        # a share of 1 may be one step above what 1 is rounded to, or below
        upper = min(int(ends[1]) + 1, self.result.upper - self.result.zero_point)
        return np.full(shape, int(ends[0])), np.full(shape, upper)


def direct_codes(layer: IntegerLayer, inputs: Sequence[IntegerArray]) -> IntegerArray:
    """The codes of a layer that has no accumulator, int64, from the codes of its inputs, samples on the first axis.

    Raises
    ------
    InternalMismatchError
        If the layer has one.
    """
    if isinstance(layer, Direct):
        return layer.codes(inputs)
    if isinstance(layer, MaxPool):
        return maximum_of_windows(layer, inputs[0])
    raise unknown_kind(layer)
