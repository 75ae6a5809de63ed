"""The layers of the integer program: a closed set of classes, each with the fields that it has and no others.

What all layers have is in :class:`IntegerLayer`; those that sum up and requantize are :class:`Accumulating`, those of them
with weights :class:`Weighted`. Ask for a class where a field is needed (``isinstance(layer, Weighted)``); the name of the
NPU's layer type is :attr:`IntegerLayer.kind`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from npusim.program.requantization import Clip, IntegerArray, Requantization, along
from npusim.program.taps import ArithmeticTap, Tap

__all__ = [
    "Accumulating",
    "Add",
    "AveragePool",
    "Convolution",
    "FullyConnected",
    "Grouped",
    "IntegerLayer",
    "LayerKind",
    "MatrixProduct",
    "MaxPool",
    "ResidualConvolution",
    "TransposedConvolution",
    "Weighted",
    "Window",
    "Windowed",
    "geometry_of",
    "weight_bits_of",
]


Operand = TypeVar("Operand")


class LayerKind(StrEnum):
    """Layer types of the NPU, and ADD for a residual that none of them covers.

    FCONV is a convolution of one input channel, GCONV a generic one, DWCONV a depthwise one, PWCONV a 1x1 one, PWCONVRES a 1x1
    convolution with a residual behind it, TCONV a transposed one, FC a fully connected layer. ADD has integer arithmetic
    like the others, but no documented NPU layer computes it. The rest are of other formats: MUL a product of two tensors
    element by element, MATMUL their matrix product, TABLE a function of one code, CONCAT tensors side by side, SOFTMAX.
    """

    FCONV = "FCONV"
    GCONV = "GCONV"
    DWCONV = "DWCONV"
    PWCONV = "PWCONV"
    PWCONVRES = "PWCONVRES"
    TCONV = "TCONV"
    FC = "FC"
    AVGPOOL = "AVGPOOL"
    MAXPOOL = "MAXPOOL"
    ADD = "ADD"
    MUL = "MUL"
    MATMUL = "MATMUL"
    TABLE = "TABLE"
    CONCAT = "CONCAT"
    SOFTMAX = "SOFTMAX"
    PAD = "PAD"
    SLICE = "SLICE"

    @property
    def is_of_npu(self) -> bool:
        """True for the layer types of TI's NPU: those from FCONV to MAXPOOL."""
        kinds = list(type(self))
        return kinds.index(self) < kinds.index(type(self).ADD)


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution or pool, one entry for each spatial axis; pads are all begins, then all ends."""

    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    ceil_mode: bool = False
    output_padding: tuple[int, ...] = ()

    @property
    def is_pointwise(self) -> bool:
        """True for a kernel of one element in every direction."""
        return all(size == 1 for size in self.kernel_shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class IntegerLayer(ABC):
    """A layer in integers.

    Attributes
    ----------
    name
        Name of the ONNX node that gives the layer its kind, made unique.
    inputs
        Tensor names.
    output
        Name of the tensor that holds the layer's codes.
    input_shape, output_shape
        Shapes for one sample, batch axis included.
    nodes
        Names of the ONNX nodes (or of their outputs, where they have no name) that the layer stands for.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    nodes: tuple[str, ...]

    def __repr__(self) -> str:
        shapes = (" x ".join(map(str, shape)) for shape in (self.input_shape, self.output_shape))
        return f"<{type(self).__name__} '{self.name}': {' -> '.join(shapes)}>"

    @property
    @abstractmethod
    def kind(self) -> LayerKind:
        """Layer type of the NPU."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors the layer can give: inner ones, then its output."""
        return (self.output,)

    @property
    def parameter_count(self) -> int:
        """Number of weights and of per-channel values of the requantization."""
        return 0

    @property
    def computes_inside(self) -> bool:
        """Whether a runtime has sums or products inside that may be wider than codes."""
        return True

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulates for one sample; additions for AVGPOOL, none for MAXPOOL and ADD."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MaxPool(IntegerLayer):
    """Maximum over windows."""

    window: Window

    @property
    def computes_inside(self) -> bool:
        """False: codes are chosen, not computed."""
        return False

    @property
    def kind(self) -> LayerKind:
        """MAXPOOL."""
        return LayerKind.MAXPOOL


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Accumulating(IntegerLayer):
    """A layer that sums up and makes codes of the sum.

    Attributes
    ----------
    accumulator_shape
        Shape of the accumulator for one sample (differs from the output's where the graph drops reduced axes).
    channel_axis
        Axis of `accumulator_shape` that carries the output channels.
    requantization
        What makes codes of the accumulator.
    taps
        Inner tensors, in graph order.
    """

    accumulator_shape: tuple[int, ...]
    channel_axis: int
    requantization: Requantization
    taps: tuple[Tap, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of its taps, then of its output."""
        return (*(tap.tensor for tap in self.taps), self.output)

    @property
    def parameter_count(self) -> int:
        """Numbers of the requantization."""
        return self.requantization.parameter_count

    @property
    def residual(self) -> str | None:
        """The input that is added behind the requantization; None where nothing is."""
        return None

    def residual_of(self, operands: Sequence[Operand]) -> Operand | None:
        """The one of what stands for the inputs that is added behind the requantization; None where nothing is."""
        return None

    @property
    def output_clip(self) -> Clip:
        """The last saturation."""
        return self.requantization.clip

    @property
    def inner_bias(self) -> IntegerArray:
        """int64 [channels], what the accumulating node itself adds; zero where it adds nothing."""
        added = self.taps[0].addend if self.taps else None
        return np.zeros(self.requantization.channels, np.int64) if added is None else added

    @property
    def is_folded(self) -> bool:
        """Whether the accumulating node itself multiplies: a simplifier has put the scale into its weights."""
        first = self.taps[0] if self.taps else None
        return isinstance(first, ArithmeticTap) and bool((first.part.gain != 1).any() or first.part.addend.any())

    def before_clip(self, unclipped: IntegerArray, residual: IntegerArray | None) -> IntegerArray:
        """What the last saturation is applied to, from the requantization's unclipped codes and the residual."""
        return unclipped

    def finish(self, unclipped: IntegerArray, residual: IntegerArray | None) -> IntegerArray:
        """The codes, from the requantization's unclipped codes and the residual."""
        return self.output_clip.apply(self.before_clip(unclipped, residual))

    @property
    def mean_of(self) -> int | None:
        """How many codes of a window each of its codes is the mean of; None where they are not meant to be means."""
        return None

    @property
    def output_channel_axis(self) -> int:
        """Axis of `output_shape` that carries the output channels."""
        return self.channel_axis

    def by_channel(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Shape per-channel values so that they broadcast along the accumulator's channel axis."""
        return along(values, len(self.accumulator_shape), self.channel_axis)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Add(Accumulating):
    """The sum of two tensors."""

    @property
    def kind(self) -> LayerKind:
        """ADD."""
        return LayerKind.ADD


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MatrixProduct(Accumulating):
    """The product of two tensors, matrix by matrix."""

    @property
    def kind(self) -> LayerKind:
        """MATMUL."""
        return LayerKind.MATMUL

    @property
    def multiply_accumulates(self) -> int:
        """Columns of the first operand for each result."""
        return math.prod(self.output_shape) * self.input_shape[-1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AveragePool(Accumulating):
    """The sum over windows, whose division is part of the requantization."""

    window: Window

    @property
    def kind(self) -> LayerKind:
        """AVGPOOL."""
        return LayerKind.AVGPOOL

    @property
    def multiply_accumulates(self) -> int:
        """Additions."""
        return math.prod(self.output_shape) * self.mean_of

    @property
    def mean_of(self) -> int:
        """Size of the window."""
        return math.prod(self.window.kernel_shape)

    @property
    def output_channel_axis(self) -> int:
        """1: axes that the graph drops are behind it."""
        return 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Weighted(Accumulating):
    """A layer with weights.

    Attributes
    ----------
    weights
        int64 in ONNX layout, as the class says.
    weight_bits
        2, 4 or 8 as inferred from the values (more when they need more).
    """

    weights: IntegerArray
    weight_bits: int

    @property
    @abstractmethod
    def weight_rows(self) -> IntegerArray:
        """int64 ``[outputs, values]``, in the order of a convolution's weights: a row for each output channel."""

    @property
    def pads_input(self) -> bool:
        """Whether its weights meet a border around the input."""
        return False

    @property
    def parameter_count(self) -> int:
        """Weights and numbers of the requantization."""
        return int(self.weights.size) + self.requantization.parameter_count

    @property
    def multiply_accumulates(self) -> int:
        """One for each weight and output position that it counts for."""
        return math.prod(self.output_shape) * math.prod(self.weights.shape[1:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class FullyConnected(Weighted):
    """Product with a matrix ``[in, out]``."""

    @property
    def kind(self) -> LayerKind:
        """FC."""
        return LayerKind.FC

    @property
    def weight_rows(self) -> IntegerArray:
        """The transposed matrix."""
        return self.weights.T

    @property
    def multiply_accumulates(self) -> int:
        """Inputs for each output."""
        return math.prod(self.output_shape) * int(self.weights.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Convolution(Weighted):
    """Convolution with weights ``[out, in / group, *kernel]``."""

    window: Window
    group: int

    @property
    def kind(self) -> LayerKind:
        """DWCONV, PWCONV, FCONV or GCONV, by channels and kernel."""
        channels = self.input_shape[1]
        if self.group == channels and channels > 1:
            return LayerKind.DWCONV
        if self.window.is_pointwise and self.group == 1:
            return LayerKind.PWCONV
        return LayerKind.FCONV if channels == 1 else LayerKind.GCONV

    @property
    def pads_input(self) -> bool:
        """Whether the window has pads."""
        return any(self.window.pads)

    @property
    def weight_rows(self) -> IntegerArray:
        """A row for each filter."""
        return self.weights.reshape(len(self.weights), -1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ResidualConvolution(Convolution):
    """A pointwise convolution whose codes a residual is added to: ``clip(codes + residual)``; its second input.

    Attributes
    ----------
    saturation
        Behind the addition; the one before it is that of the requantization.
    """

    saturation: Clip

    @property
    def kind(self) -> LayerKind:
        """PWCONVRES."""
        return LayerKind.PWCONVRES

    @property
    def residual(self) -> str | None:
        """The second input."""
        return self.inputs[1]

    def residual_of(self, operands: Sequence[Operand]) -> Operand | None:
        """The second."""
        return operands[1]

    @property
    def output_clip(self) -> Clip:
        """The saturation behind the addition."""
        return self.saturation

    def before_clip(self, unclipped: IntegerArray, residual: IntegerArray | None) -> IntegerArray:
        """``clip(unclipped) + residual``."""
        if residual is None:
            raise ValueError(f"layer '{self.name}' needs its residual")
        return np.asarray(self.requantization.clip.apply(unclipped) + residual)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TransposedConvolution(Weighted):
    """Transposed convolution with weights ``[in, out / group, *kernel]``."""

    window: Window
    group: int

    @property
    def kind(self) -> LayerKind:
        """TCONV."""
        return LayerKind.TCONV

    @property
    def weight_rows(self) -> IntegerArray:
        """A row for each output channel, group by group."""
        weights = self.weights
        split = weights.reshape(self.group, weights.shape[0] // self.group, *weights.shape[1:])
        return np.moveaxis(split, 2, 1).reshape(self.group * weights.shape[1], -1)

    @property
    def multiply_accumulates(self) -> int:
        """Every input value meets every weight of its channel."""
        return math.prod(self.input_shape) * math.prod(self.weights.shape[1:])


Grouped: TypeAlias = Convolution | TransposedConvolution
"""Layers with convolution groups."""

Windowed: TypeAlias = Convolution | TransposedConvolution | AveragePool | MaxPool
"""Layers with a window."""


def weight_bits_of(step: object) -> int | None:
    """Bits of a layer's weights; None for what has none."""
    return step.weight_bits if isinstance(step, Weighted) else None


def geometry_of(layer: IntegerLayer) -> tuple[Window | None, int]:
    """The window and the number of groups of any layer: None without a window, 1 without groups."""
    return layer.window if isinstance(layer, Windowed) else None, layer.group if isinstance(layer, Grouped) else 1
