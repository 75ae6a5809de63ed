"""A float network in its normal form: few kinds of layers, batch norm folded, activations attached.

Quantization never sees how a graph was written and the reader never sees integers; this is what stands between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.floats.concern import Concern
from npusim.graph import Array, Node
from npusim.program import Window

__all__ = ["WEIGHTED", "Activation", "FloatArray", "FloatKind", "FloatLayer", "FloatNetwork"]

FloatArray: TypeAlias = npt.NDArray[np.float64]


class FloatKind(StrEnum):
    """What a layer of a float network does.

    INPUT turns an input of the model into the first tensor (``multiplier * x + offset``, a batch norm in front). CONV
    (depthwise and pointwise ones too), CONV_TRANSPOSE and LINEAR have weights. AVERAGE_POOL (global ones too), MAX_POOL, ADD
    and CONCAT have none. MOVE only moves or repeats data: reshape, transpose, nearest resize. HOST is everything else: it is
    computed in float.
    """

    INPUT = "input"
    CONV = "conv"
    CONV_TRANSPOSE = "conv_transpose"
    LINEAR = "linear"
    AVERAGE_POOL = "average_pool"
    MAX_POOL = "max_pool"
    ADD = "add"
    CONCAT = "concat"
    MOVE = "move"
    HOST = "host"


WEIGHTED = frozenset((FloatKind.CONV, FloatKind.CONV_TRANSPOSE, FloatKind.LINEAR))
"""Kinds that have weights and a bias."""


class Activation(StrEnum):
    """What follows a layer's sum: nothing, ``max(y, 0)``, or ``min(max(y, 0), 6)``."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"

    @classmethod
    def between(cls, lower: float, upper: float) -> Activation | None:
        """The activation that saturates between two bounds; None where there is none.

        Examples
        --------
        >>> Activation.between(0.0, 6.0), Activation.between(-1.0, 1.0)
        (<Activation.RELU6: 'relu6'>, None)
        """
        return {(0.0, 6.0): cls.RELU6, (0.0, np.inf): cls.RELU, (-np.inf, np.inf): cls.NONE}.get((lower, upper))

    def apply(self, values: FloatArray) -> FloatArray:
        """Apply it to an array.

        Examples
        --------
        >>> Activation.RELU6.apply(np.array([-1.0, 2.0, 7.0]))
        array([0., 2., 6.])
        """
        if self is Activation.NONE:
            return values
        return np.clip(values, 0.0, 6.0 if self is Activation.RELU6 else np.inf)


@dataclass(frozen=True, slots=True)
class FloatLayer:
    """A layer of a float network.

    Attributes
    ----------
    name
        Unique; names of ONNX nodes are kept.
    kind
        What it does.
    inputs, output
        Tensor names. ADD has two inputs, CONCAT any number, HOST those that are not constants; all others one.
    input_shape, output_shape
        Of the first input and of the output, for one sample, batch axis of size 1 included.
    activation
        What follows; only layers with weights, INPUT, AVERAGE_POOL and ADD may have one.
    weights
        float64 in ONNX layout: CONV ``[out, in / group, *kernel]``, CONV_TRANSPOSE ``[in, out / group, *kernel]``, LINEAR
        ``[in, out]``; for INPUT the multiplier of each channel; None for the others.
    bias
        float64 [out]; for INPUT the offset of each channel; None without weights.
    window
        Geometry of CONV, CONV_TRANSPOSE, AVERAGE_POOL and MAX_POOL; padding counts as zeros in an average.
    group
        Convolution groups.
    axis
        CONCAT: the axis, not negative.
    node
        MOVE and HOST: the ONNX node; its constants are in :attr:`FloatNetwork.constants`.
    """

    name: str
    kind: FloatKind
    inputs: tuple[str, ...]
    output: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    activation: Activation = Activation.NONE
    weights: FloatArray | None = None
    bias: FloatArray | None = None
    window: Window | None = None
    group: int = 1
    axis: int = 1
    node: Node | None = None

    @property
    def parameters(self) -> tuple[FloatArray, FloatArray]:
        """Weights and bias of a layer that has them; `ValueError` for any other."""
        if self.weights is None or self.bias is None:
            raise ValueError(f"layer '{self.name}' of kind {self.kind} has no weights")
        return self.weights, self.bias

    @property
    def geometry(self) -> Window:
        """The window of a layer that has one; `ValueError` for any other."""
        if self.window is None:
            raise ValueError(f"layer '{self.name}' of kind {self.kind} has no window")
        return self.window


@dataclass(frozen=True, slots=True)
class FloatNetwork:
    """Layers in execution order.

    Attributes
    ----------
    inputs
        Names and shapes (batch axis of size 1 included) of the model's inputs, in declared order.
    outputs
        Names of the model's outputs.
    layers
        In execution order: each reads inputs of the model or outputs of earlier layers.
    constants
        Values that the nodes of MOVE and HOST layers read.
    warnings
        What cannot be quantized, each naming the node and the reason.
    opset
        Operator set in which those nodes are written.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    layers: tuple[FloatLayer, ...]
    constants: Mapping[str, Array] = field(default_factory=dict)
    warnings: tuple[Concern, ...] = ()
    opset: int = 17

    def producers(self) -> dict[str, FloatLayer]:
        """The layer that makes each tensor."""
        return {layer.output: layer for layer in self.layers}

    def readers(self) -> dict[str, list[FloatLayer]]:
        """The layers that read each tensor, in order; one that reads it twice stands there twice."""
        found: dict[str, list[FloatLayer]] = {}
        for layer in self.layers:
            for name in layer.inputs:
                found.setdefault(name, []).append(layer)
        return found
