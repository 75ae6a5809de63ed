"""Single nodes of ``gain * x + offset`` for each channel, in every spelling, and nodes that saturate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npusim.graph import Array, Node
from npusim.program.lowering.tinpu.view import View, per_channel, read_clip

__all__ = ["Affine", "FloatArray", "read_affine", "read_saturation"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Affine:
    """``gain * x + offset``, float64 [C] each."""

    gain: FloatArray
    offset: FloatArray

    @classmethod
    def identity(cls, channels: int) -> Affine:
        """The one that changes nothing."""
        return cls(np.ones(channels), np.zeros(channels))

    @classmethod
    def of_batch_norm(
        cls, scale: FloatArray, shift: FloatArray, mean: FloatArray, variance: FloatArray, epsilon: float
    ) -> Affine:
        """A batch norm with its running statistics: ``scale * (x - mean) / sqrt(variance + epsilon) + shift``.

        Examples
        --------
        >>> scale, shift, mean, variance = (np.array([value]) for value in (2.0, 1.0, 3.0, 4.0))
        >>> Affine.of_batch_norm(scale, shift, mean, variance, 0.0)
        Affine(gain=array([1.]), offset=array([-2.]))
        """
        gain = scale / np.sqrt(variance + epsilon)
        return cls(gain, shift - mean * gain)

    def then(self, following: Affine) -> Affine:
        """Both in one, this one first.

        Examples
        --------
        >>> one, two = Affine(np.array([2.0]), np.array([1.0])), Affine(np.array([3.0]), np.array([5.0]))
        >>> one.then(two)
        Affine(gain=array([6.]), offset=array([8.]))
        """
        return Affine(self.gain * following.gain, self.offset * following.gain + following.offset)


def read_affine(view: View, node: Node, shape: tuple[int, ...] | None = None, axis: int = 1) -> Affine | None:
    """What a node computes for each channel, or None when it is not such arithmetic.

    Parameters
    ----------
    view
        The graph.
    node
        Any node.
    shape
        Shape in which channels are counted, of as many elements in the same order as what the node reads (a layer's output
        before a reshape); that of the node itself by default.
    axis
        The channel axis of that shape.
    """
    found = _gain_and_offset(view, node)
    if found is None:
        return None
    source, gain, offset = found
    own = view.shape(node.outputs[0])
    if own != view.shape(source) or len(own) < 2:
        return None
    wanted = own if shape is None else shape
    gains, offsets = (_by_channel(value, own, wanted, axis) for value in (gain, offset))
    return None if gains is None or offsets is None or not np.isfinite(gains).all() else Affine(gains, offsets)


def read_saturation(view: View, node: Node) -> tuple[float, float] | None:
    """The bounds of Clip, Relu, and of Min or Max against one constant number; None for any other node."""
    return read_clip(view, node)


def _gain_and_offset(view: View, node: Node) -> tuple[str, FloatArray, FloatArray] | None:
    """The variable operand, and gain and offset that broadcast against it."""
    one, zero = np.ones(()), np.zeros(())
    if node.op_type == "BatchNormalization":
        return _batch_norm(view, node)
    if node.op_type == "Neg":
        return node.inputs[0], -one, zero
    parts = view.operand_and_constant(node)
    if parts is None or parts[1].dtype.kind != "f":
        return None
    source, constant, constant_first = parts
    value = constant.astype(np.float64)
    match node.op_type:
        case "Add":
            return source, one, value
        case "Sub":
            return (source, -one, value) if constant_first else (source, one, -value)
        case "Mul":
            return source, value, zero
        case "Div" if not constant_first:
            with np.errstate(divide="ignore"):
                return source, np.reciprocal(value), zero
    return None


def _batch_norm(view: View, node: Node) -> tuple[str, FloatArray, FloatArray] | None:
    values = [view.constant(name) for name in node.inputs[1:5]]
    if len(values) != 4 or any(value is None for value in values) or node.integer("training_mode", 0):
        return None
    scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
    affine = Affine.of_batch_norm(scale, shift, mean, variance, node.real("epsilon", 1e-5))
    column = (-1, *(1,) * (len(view.shape(node.outputs[0])) - 2))
    return node.inputs[0], affine.gain.reshape(column), affine.offset.reshape(column)


def _by_channel(value: Array, shape: tuple[int, ...], wanted: tuple[int, ...], axis: int) -> FloatArray | None:
    """One number for each channel of another shape with the same elements; None where a channel has several."""
    if shape == wanted or value.size == 1:
        return per_channel(value.reshape(()) if value.size == 1 else value, wanted, axis)
    if value.ndim > len(shape):
        return None
    spread = np.broadcast_to(value, shape).reshape(wanted)
    rows = np.moveaxis(spread, axis, 0).reshape(wanted[axis], -1)
    return rows[:, 0].astype(np.float64) if bool((rows == rows[:, :1]).all()) else None
