"""Per-channel ``gain * x + offset`` in a float graph: batch norms and arithmetic with constants, and the activations behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.graph import Node
from npusim.lowering.view import View, per_channel, read_addend, read_clip
from npusim.quantization.float_network import Activation, FloatArray

__all__ = ["Affine", "read_activation", "read_affine"]


@dataclass(frozen=True, slots=True)
class Affine:
    """``gain * x + offset``, float64 [C] each."""

    gain: FloatArray
    offset: FloatArray

    @classmethod
    def identity(cls, channels: int) -> Affine:
        """The one that changes nothing."""
        return cls(np.ones(channels), np.zeros(channels))

    def then(self, following: Affine) -> Affine:
        """Both in one, this one first.

        Examples
        --------
        >>> one, two = Affine(np.array([2.0]), np.array([1.0])), Affine(np.array([3.0]), np.array([5.0]))
        >>> one.then(two)
        Affine(gain=array([6.]), offset=array([8.]))
        """
        return Affine(self.gain * following.gain, self.offset * following.gain + following.offset)


def read_affine(view: View, node: Node) -> Affine | None:
    """What a node computes for each channel (axis 1), or None when it is no such arithmetic."""
    if len(node.inputs) < 2:
        return None
    shape = view.shape(node.outputs[0])
    if node.op_type == "BatchNormalization":
        return _batch_norm(view, node)
    if len(shape) < 2 or shape != _variable_shape(view, node):
        return None
    channels = shape[1]
    addend = read_addend(view, node)
    if addend is not None:
        offset = per_channel(addend, shape, 1)
        return None if offset is None else Affine(np.ones(channels), offset)
    gain = _factor(view, node, shape)
    return None if gain is None or not np.isfinite(gain).all() else Affine(gain, np.zeros(channels))


def read_activation(view: View, node: Node) -> Activation | None:
    """The activation a node is: Relu, or a Clip to [0, 6] or from 0 on; None for any other node."""
    match read_clip(view, node):
        case (0.0, 6.0):
            return Activation.RELU6
        case (0.0, upper) if np.isinf(upper):
            return Activation.RELU
    return None


def _variable_shape(view: View, node: Node) -> tuple[int, ...] | None:
    parts = view.operand_and_constant(node)
    return None if parts is None else view.shape(parts[0])


def _factor(view: View, node: Node, shape: tuple[int, ...]) -> FloatArray | None:
    parts = view.operand_and_constant(node)
    if parts is None or node.op_type not in ("Mul", "Div"):
        return None
    _, constant, constant_first = parts
    found = per_channel(constant, shape, 1)
    if found is None or node.op_type == "Mul":
        return found
    with np.errstate(divide="ignore"):
        return None if constant_first else np.reciprocal(found)


def _batch_norm(view: View, node: Node) -> Affine | None:
    values = [view.constant(name) for name in node.inputs[1:5]]
    if len(values) != 4 or any(value is None for value in values) or node.integer("training_mode", 0):
        return None
    scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
    gain = scale / np.sqrt(variance + node.real("epsilon", 1e-5))
    return Affine(gain, shift - mean * gain)
