"""The integer program: what lowering produces and the engines execute.

A program is a list of steps. A step is an :class:`IntegerLayer` (what the NPU computes), a :class:`QuantizeStage` (float32
values to codes, the input stage) or a :class:`HostOperation` (everything else, run by the host CPU as the graph says).
Every tensor of the original graph that still has a meaning is listed in :attr:`Program.tensors` and can be asked for by its
ONNX name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.graph import Array, Node

__all__ = [
    "Batching",
    "Clip",
    "HostOperation",
    "IntegerArray",
    "IntegerLayer",
    "LayerKind",
    "Program",
    "QuantizeStage",
    "Requantization",
    "Step",
    "Tap",
    "TapSource",
    "Tensor",
    "Window",
]

IntegerArray: TypeAlias = npt.NDArray[np.int64]


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


class Batching(StrEnum):
    """How samples on the first axis go through a program.

    STACKED: all at once. SINGLE: one after the other, because some operation mixes the first axis with others. FIXED: the
    model declares a first axis that is not a batch of one, so inputs must have exactly the declared shapes.
    """

    STACKED = "stacked"
    SINGLE = "single"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the program.

    Attributes
    ----------
    name
        ONNX name.
    shape
        Shape for one sample, the batch axis of size 1 included.
    dtype
        Element type the ONNX graph declares (float32 even where the values are integers).
    stored
        Element type npusim holds the values in: integer codes where the tensor is proven to hold integers only.
    lower, upper
        Proven range of the values; infinite where nothing is known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    stored: np.dtype[np.generic]
    lower: float
    upper: float

    @property
    def is_integer(self) -> bool:
        """True when every value is proven to be a whole number."""
        return self.stored.kind in "iub"


@dataclass(frozen=True, slots=True)
class Clip:
    """Saturation to the closed interval [lower, upper]."""

    lower: int
    upper: int


@dataclass(frozen=True, slots=True)
class Requantization:
    """``y = clip(((accumulator + bias) * scale) >> shift, clip.lower, clip.upper)``, the shift arithmetic (BNORM).

    Attributes
    ----------
    bias, scale, shift
        int64, one entry for each output channel.
    clip
        Final saturation.
    """

    bias: IntegerArray
    scale: IntegerArray
    shift: IntegerArray
    clip: Clip


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
    requantization: Requantization | None
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
        requantization = self.requantization
        return (0 if self.weights is None else self.weights.size) + (
            0 if requantization is None else 3 * requantization.bias.size
        )

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulates for one sample; additions for AVGPOOL, none for MAXPOOL and ADD."""
        if self.kind is LayerKind.TCONV and self.weights is not None:
            return math.prod(self.input_shape) * math.prod(self.weights.shape[1:])
        if self.kind is LayerKind.FC and self.weights is not None:
            return math.prod(self.output_shape) * self.weights.shape[0]
        if self.weights is not None:
            return math.prod(self.output_shape) * math.prod(self.weights.shape[1:])
        if self.kind is LayerKind.AVGPOOL and self.window is not None:
            return math.prod(self.output_shape) * math.prod(self.window.kernel_shape)
        return 0


@dataclass(frozen=True, slots=True)
class QuantizeStage:
    """Float32 values to codes, operation by operation in graph order: additions and multiplications, a floor, a clip.

    The host CPU computes it; at the input of a network it is the input stage.

    Attributes
    ----------
    name
        Name of the first node, made unique.
    input, output
        Tensor names.
    nodes
        The ONNX nodes in order; each is computed in the element type of the graph.
    offset, multiplier
        float32, broadcastable to the input: ``floor((x + offset) * multiplier)`` up to float32 rounding. They describe the
        stage, `nodes` defines it.
    clip
        Range of the codes.
    """

    name: str
    input: str
    output: str
    nodes: tuple[Node, ...]
    offset: npt.NDArray[np.float64]
    multiplier: npt.NDArray[np.float64]
    clip: Clip

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors the stage can give."""
        return tuple(node.outputs[0] for node in self.nodes)


@dataclass(frozen=True, slots=True)
class HostOperation:
    """One ONNX node that runs on the host CPU as the graph says, in the element types of the graph.

    Attributes
    ----------
    name
        Name of the node, made unique.
    operator
        The ONNX operator of the graph.
    node
        What is executed: the node with the shapes in its constants generalised to any number of samples.
    reason
        Why this is not part of an NPU layer, as a sentence.
    """

    name: str
    operator: str
    node: Node
    reason: str

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors the operation gives."""
        return tuple(name for name in self.node.outputs if name)


Step: TypeAlias = IntegerLayer | QuantizeStage | HostOperation


@dataclass(frozen=True, slots=True)
class Program:
    """The steps of a network in execution order.

    Attributes
    ----------
    inputs, outputs
        Tensor names in the order the model declares them.
    steps
        In execution order.
    tensors
        Every tensor that can be asked for, by ONNX name: inputs, constants that were folded, step results, inner tensors,
        and other names of the same tensor.
    constants
        Values that steps read.
    aliases
        Names that stand for another tensor (Identity, Dropout), to that tensor's name.
    opset
        Version of the default operator set.
    batching
        How samples on the first axis are run.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Array]
    aliases: Mapping[str, str]
    opset: int
    batching: Batching

    @property
    def layers(self) -> tuple[IntegerLayer, ...]:
        """The integer layers in execution order."""
        return tuple(step for step in self.steps if isinstance(step, IntegerLayer))

    @property
    def host_operations(self) -> tuple[HostOperation, ...]:
        """What the host CPU computes as the graph says, in execution order."""
        return tuple(step for step in self.steps if isinstance(step, HostOperation))

    @property
    def quantize_stages(self) -> tuple[QuantizeStage, ...]:
        """Where float32 values become codes; the first is normally the input stage."""
        return tuple(step for step in self.steps if isinstance(step, QuantizeStage))

    def inputs_of(self, step: Step) -> tuple[str, ...]:
        """The tensors a step reads that are not constants."""
        if isinstance(step, IntegerLayer):
            return step.inputs
        if isinstance(step, QuantizeStage):
            return (step.input,)
        return tuple(name for name in step.node.inputs if name and name not in self.constants)

    def resolve(self, name: str) -> str:
        """The tensor that a name stands for."""
        return self.aliases.get(name, name)
