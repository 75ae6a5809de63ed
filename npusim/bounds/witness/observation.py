"""What is watched while inputs are searched: a layer's accumulators, or those of its weight digits, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npusim.bounds.channels import digits_of
from npusim.bounds.verdicts import Property
from npusim.graph import Array
from npusim.program import Accumulating, IntegerArray, Weighted
from npusim.program.accumulation import accumulate

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
        Inner tensor that holds the accumulator plus a bias per channel, and that; None where it is computed from the layer's
        inputs.
    digits
        The weight digits ``[digits, *weights.shape]`` whose accumulators are watched; None for the whole accumulator.
    residual
        Tensor that is added behind the requantization and may hide what happened before; None where there is none.
    """

    layer: Accumulating
    tensors: tuple[str, ...]
    tap: tuple[str, IntegerArray] | None
    digits: IntegerArray | None
    residual: str | None = None

    def values(self, tensors: Mapping[str, Array]) -> IntegerArray:
        """The watched values, int64 [samples, rows, positions]."""
        if self.tap is not None:
            name, bias = self.tap
            shape = (-1, *self.layer.accumulator_shape[1:])
            whole = tensors[name].astype(np.int64).reshape(shape) - self.layer.by_channel(bias)
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
        if self.residual is None:
            return np.zeros((*values.shape[:2], 1), np.int64)
        residual = self.by_row(tensors[self.residual].astype(np.int64))
        total = layer.before_clip(layer.requantization.unclipped(values, axis=1), residual)
        clip = layer.output_clip
        return np.asarray(np.maximum(np.maximum(total - clip.upper, clip.lower - total), 0))

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
        own = self.layer.weights if isinstance(self.layer, Weighted) else None
        return own if digit is None or self.digits is None else self.digits[digit]

    def by_row(self, values: IntegerArray) -> IntegerArray:
        """An accumulator as int64 [samples, channels, positions]."""
        moved = np.moveaxis(values, self.layer.channel_axis, 1)
        return moved.reshape(*moved.shape[:2], -1)


def observation(layer: Accumulating, statement: Property) -> Observation:
    """What to watch of a layer to see a statement fail."""
    if statement is Property.DIGIT_18BIT:
        # a sum without weights has one digit, 1
        digits = np.ones((1, 1), np.int64) if layer.mean_of is not None else digits_of(layer)
        return Observation(layer, layer.inputs, None, digits)
    plain = ((tap.tensor, tap.addend) for tap in layer.taps)
    found = next(((name, added) for name, added in plain if added is not None), None)
    tensors = layer.inputs if found is None else (found[0],)
    if statement is Property.ONNXRUNTIME_EXACT and layer.residual is not None:
        return Observation(layer, (*dict.fromkeys((*tensors, layer.residual)),), found, None, layer.residual)
    return Observation(layer, tensors, found, None)
