"""A network in integers as it will be written to ONNX: every number that the NPU stores, and nothing that it does not.

Quantizers end with an :class:`IntegerNetwork`, whatever they did to find its numbers; the emitter turns it into a graph.
Tensors are named; each holds codes (small integers) or float32 values. A step reads the tensors of earlier steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.graph import Array, Node
from npusim.program import Clip, IntegerArray, ShiftFloor, Window

__all__ = [
    "Dequantize",
    "InputStage",
    "IntegerNetwork",
    "IntegerStep",
    "NodeStep",
    "QuantizedKind",
    "QuantizedLayer",
    "Residual",
]


class QuantizedKind(StrEnum):
    """What the accumulator of a layer sums up; MAX_POOL has none. A convolution's group tells whether it is depthwise."""

    CONV = "conv"
    CONV_TRANSPOSE = "conv_transpose"
    LINEAR = "linear"
    AVERAGE_POOL = "average_pool"
    MAX_POOL = "max_pool"


@dataclass(frozen=True, slots=True)
class InputStage:
    """Float32 values to codes: ``clip(floor((x + offset) * multiplier * 2**-shift))``, in float32, step by step.

    Attributes
    ----------
    name
        Of the step, unique.
    input, output
        Tensor names.
    offset
        float32 [C] (or [1]): fractional, half a code included, so that the floor rounds.
    multiplier
        int64 [C]: up to 12 bits, negative where a batch norm's gain is.
    shift
        int64 [C]: 0..31.
    clip
        Range of the codes.
    rank
        Number of axes of the tensor, the batch axis included; channels are on axis 1.
    """

    name: str
    input: str
    output: str
    offset: npt.NDArray[np.float32]
    multiplier: IntegerArray
    shift: IntegerArray
    clip: Clip
    rank: int


@dataclass(frozen=True, slots=True)
class Residual:
    """What a pointwise convolution adds to its own result: ``clip(clip(own) + codes of tensor)``.

    Attributes
    ----------
    tensor
        Codes at the scale of the result.
    clip
        Saturation of the sum; the layer's own clip saturates before.
    """

    tensor: str
    clip: Clip


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A layer of the NPU: ``clip(((accumulator + bias) * scale) >> shift)``.

    Attributes
    ----------
    name
        Of the step, unique.
    kind
        What the accumulator sums up.
    input, output
        Tensor names, both hold codes.
    rank
        Number of axes of the output, the batch axis included; channels are on axis 1.
    weights
        int64 in ONNX layout: CONV ``[out, in / group, *kernel]``, CONV_TRANSPOSE ``[in, out / group, *kernel]``, LINEAR
        ``[in, out]``; None for pools.
    weight_bits
        2, 4 or 8; for AVERAGE_POOL it says which widths bias and scale have.
    requantization
        Bias, scale and shift of each output channel, and the clip; None for MAX_POOL only.
    window
        Geometry; None for LINEAR only.
    group
        Convolution groups.
    residual
        For a convolution of 1x1: what it adds.
    over_all
        For an AVERAGE_POOL: it sums up all positions; with a rank of 2 the result has no spatial axes.
    """

    name: str
    kind: QuantizedKind
    input: str
    output: str
    rank: int
    weights: IntegerArray | None
    weight_bits: int
    requantization: ShiftFloor | None
    window: Window | None = None
    group: int = 1
    residual: Residual | None = None
    over_all: bool = False


@dataclass(frozen=True, slots=True)
class NodeStep:
    """An ONNX node as it is: one that only moves codes, or one that computes in float32 on the host.

    Attributes
    ----------
    node
        Its inputs are tensors of the network or constants.
    constants
        Values of the constants it reads, by name.
    """

    node: Node
    constants: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dequantize:
    """Codes to float32 values: ``code * scale``.

    Attributes
    ----------
    name
        Of the step, unique.
    input, output
        Tensor names.
    scale
        float32, broadcastable to the tensor; shape () for one number.
    """

    name: str
    input: str
    output: str
    scale: npt.NDArray[np.float32]


IntegerStep: TypeAlias = InputStage | QuantizedLayer | NodeStep | Dequantize


@dataclass(frozen=True, slots=True)
class IntegerNetwork:
    """Steps in execution order.

    Attributes
    ----------
    inputs, outputs
        Names and shapes (batch axis of size 1 included) of what the model takes and gives; all float32 in ONNX.
    steps
        In execution order.
    opset
        Operator set in which the nodes of its `NodeStep` are written; at least 13.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    steps: tuple[IntegerStep, ...]
    opset: int = 17
