"""One layer of the integer program: kinds, geometry, requantization, and the inner tensors it can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from npusim.program.requantization import Clip, IntegerArray
from npusim.program.shift_floor import ShiftFloor

__all__ = ["IntegerLayer", "LayerKind", "Tap", "TapSource", "Window"]


class LayerKind(StrEnum):
    """Layer types of the NPU, and ADD for a residual that none of them covers.

    FCONV is a convolution of one input channel, GCONV a generic one, DWCONV a depthwise one, PWCONV a 1x1 one, PWCONVRES a 1x1
    convolution with a residual behind it, TCONV a transposed one, FC a fully connected layer. ADD has integer arithmetic
    like the others, but no documented NPU layer computes it.
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


class TapSource(StrEnum):
    """What a tap starts from: the accumulator, the mean an averaging node gives, or the sum with the residual."""

    ACCUMULATOR = "accumulator"
    MEAN = "mean"
    RESIDUAL = "residual"


@dataclass(frozen=True, slots=True)
class Tap:
    """An inner tensor of a layer and how to compute it from the layer's accumulator.

    From ``ACCUMULATOR``: ``v = (accumulator + bias) * scale``; with `floored` ``v >> shift``, otherwise ``v * 2**-shift``
    (float32 when any shift is not zero); then the clip. From ``RESIDUAL``: the clip of ``clip(requantized, inner_clip) +
    residual``. From ``MEAN``: ``float32(accumulator) / float32(divisor)``, times `factor` when that is not 1 (how graphs
    average before they multiply by the area).

    Attributes
    ----------
    tensor
        ONNX name of the inner tensor.
    source
        Where the value starts.
    bias, scale, shift
        int64, one entry for each channel.
    floored
        True behind the floor.
    clip
        Saturations so far; None before the first.
    divisor, factor
        Only for ``MEAN``.
    """

    tensor: str
    source: TapSource
    bias: IntegerArray
    scale: IntegerArray
    shift: IntegerArray
    floored: bool
    clip: Clip | None = None
    divisor: int = 1
    factor: int = 1


@dataclass(frozen=True, slots=True)
class IntegerLayer:
    """A layer in integers.

    Attributes
    ----------
    name
        Name of the ONNX node that gives the layer its kind, made unique.
    kind
        Layer type.
    inputs
        Tensor names; the second one of ADD and PWCONVRES is the residual.
    output
        Name of the tensor that holds the layer's codes.
    input_shape, output_shape
        Shapes for one sample, batch axis included.
    accumulator_shape
        Shape of the accumulator for one sample (differs from the output's where the graph drops reduced axes).
    channel_axis
        Axis of `accumulator_shape` that carries the output channels.
    weights
        int64 in ONNX layout: convolutions ``[out, in / group, *kernel]``, transposed ones ``[in, out / group, *kernel]``,
        fully connected ``[in, out]``; None for layers without weights.
    weight_bits
        2, 4 or 8 as inferred from the values (more when they need more); None without weights.
    window
        Geometry; None for FC and ADD.
    group
        Convolution groups.
    requantization
        None for MAXPOOL.
    inner_clip
        For PWCONVRES: saturation of the convolution's own result before the residual is added.
    taps
        Inner tensors, in graph order.
    nodes
        Names of the ONNX nodes (or of their outputs, where they have no name) that the layer stands for.
    """

    name: str
    kind: LayerKind
    inputs: tuple[str, ...]
    output: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    accumulator_shape: tuple[int, ...]
    channel_axis: int
    weights: IntegerArray | None
    weight_bits: int | None
    window: Window | None
    group: int
    requantization: ShiftFloor | None
    inner_clip: Clip | None
    taps: tuple[Tap, ...]
    nodes: tuple[str, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors the layer can give: its taps, then its output."""
        return (*(tap.tensor for tap in self.taps), self.output)

    @property
    def parameter_count(self) -> int:
        """Number of weights and of per-channel bias, scale and shift values."""
        weights = 0 if self.weights is None else int(self.weights.size)
        return weights + (0 if self.requantization is None else 3 * int(self.requantization.bias.size))

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulates for one sample; additions for AVGPOOL, none for MAXPOOL and ADD."""
        if self.kind is LayerKind.TCONV and self.weights is not None:
            return math.prod(self.input_shape) * math.prod(self.weights.shape[1:])
        if self.kind is LayerKind.FC and self.weights is not None:
            return math.prod(self.output_shape) * int(self.weights.shape[0])
        if self.weights is not None:
            return math.prod(self.output_shape) * math.prod(self.weights.shape[1:])
        if self.kind is LayerKind.AVGPOOL and self.window is not None:
            return math.prod(self.output_shape) * math.prod(self.window.kernel_shape)
        return 0
