"""What is watched while inputs are searched: a layer's accumulators, or those of its weight digits, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npusim.bounds.channels import digits_of
from npusim.bounds.verdicts import Property
from npusim.engine.reference import accumulate
from npusim.graph import Array
from npusim.program import IntegerArray, IntegerLayer, LayerKind, Tap, TapSource

__all__ = ["Observation", "Place", "observation"]


@dataclass(frozen=True, slots=True)
class Place:
    """One element of an accumulator.

    Attributes
    ----------
    channel
        Output channel.
    index
        Position in the accumulator of one sample, the batch axis left out.
    digit
        Number of the weight digit whose accumulator is meant; None for the whole one.
    """

    channel: int
    index: tuple[int, ...]
    digit: int | None


@dataclass(frozen=True, slots=True)
class Observation:
    """How to get the watched values from a trace.

    Attributes
    ----------
    layer
        The layer.
    tensors
        Names of the tensors that a trace has to keep.
    tap
        Inner tensor that holds the accumulator plus its bias; None where it is computed from the layer's inputs.
    digits
        The weight digits ``[digits, *weights.shape]`` whose accumulators are watched; None for the whole accumulator.
    residual
        Tensor that is added behind the requantization and may hide what happened before; None where there is none.
    """

    layer: IntegerLayer
    tensors: tuple[str, ...]
    tap: Tap | None
    digits: IntegerArray | None
    residual: str | None = None

    def values(self, tensors: Mapping[str, Array]) -> IntegerArray:
        """The watched values, int64 [samples, rows, positions]."""
        if self.tap is not None:
            trailing = len(self.layer.accumulator_shape) - 1 - self.layer.channel_axis
            shape = (-1, *self.layer.accumulator_shape[1:])
            whole = tensors[self.tap.tensor].astype(np.int64).reshape(shape) - self.tap.bias.reshape(-1, *(1,) * trailing)
            return self.by_row(whole)
        codes = [tensors[name].astype(np.int64) for name in self.layer.inputs]
        if self.digits is None:
            return self.by_row(accumulate(self.layer, codes))
        return np.concatenate([self.by_row(accumulate(self.layer, codes, digit)) for digit in self.digits], axis=1)

    def hidden(self, tensors: Mapping[str, Array], values: IntegerArray) -> IntegerArray:
        """By how much a residual pushes the layer's codes out of their range, where other codes would not show.

        Parameters
        ----------
        tensors
            A trace.
        values
            The watched values in it.

        Returns
        -------
        int64, in the shape of `values` or broadcastable to it on the last axis; 0 where nothing is hidden.
        """
        layer = self.layer
        if self.residual is None or layer.requantization is None or layer.inner_clip is None:
            return np.zeros((*values.shape[:2], 1), np.int64)
        part = layer.requantization
        bias, scale, shift = (item[:, None] for item in (part.bias, part.scale, part.shift))
        inner = np.clip((values + bias) * scale >> shift, layer.inner_clip.lower, layer.inner_clip.upper)
        total = inner + self.by_row(tensors[self.residual].astype(np.int64))
        return np.asarray(np.maximum(np.maximum(total - part.clip.upper, part.clip.lower - total), 0))

    def place(self, row: int, position: int) -> Place:
        """The element that a row and a position stand for."""
        axis = self.layer.channel_axis - 1
        shape = self.layer.accumulator_shape[1:]
        digit, channel = divmod(row, shape[axis])
        others = np.unravel_index(position, (*shape[:axis], *shape[axis + 1 :]))
        index = (*(int(item) for item in others[:axis]), channel, *(int(item) for item in others[axis:]))
        return Place(channel, index, None if self.digits is None else digit)

    def weights(self, digit: int | None) -> IntegerArray | None:
        """The weights that make an accumulator: the layer's own, or one digit of them."""
        return self.layer.weights if digit is None or self.digits is None else self.digits[digit]

    def by_row(self, values: IntegerArray) -> IntegerArray:
        """An accumulator as int64 [samples, channels, positions]."""
        moved = np.moveaxis(values, self.layer.channel_axis, 1)
        return moved.reshape(*moved.shape[:2], -1)


def observation(layer: IntegerLayer, statement: Property) -> Observation:
    """What to watch of a layer to see a statement fail."""
    if statement is Property.DIGIT_18BIT:
        # a sum without weights has one digit, 1
        digits = np.ones((1, 1), np.int64) if layer.kind is LayerKind.AVGPOOL else digits_of(layer)
        return Observation(layer, layer.inputs, None, digits)
    tap = next((tap for tap in layer.taps if _is_plain(tap)), None)
    tensors = layer.inputs if tap is None else (tap.tensor,)
    if statement is Property.ONNXRUNTIME_EXACT and layer.kind is LayerKind.PWCONVRES:
        residual = layer.inputs[1]
        return Observation(layer, (*dict.fromkeys((*tensors, residual)),), tap, None, residual)
    return Observation(layer, tensors, tap, None)


def _is_plain(tap: Tap) -> bool:
    return (
        tap.source is TapSource.ACCUMULATOR
        and tap.clip is None
        and not tap.floored
        and not tap.shift.any()
        and bool((tap.scale == 1).all())
    )
