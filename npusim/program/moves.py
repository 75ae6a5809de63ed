"""Layers that move codes and compute nothing: padding and slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npusim.program.direct import Direct, Ends
from npusim.program.layers import LayerKind
from npusim.program.requantization import IntegerArray

__all__ = ["Pad", "Slice"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pad(Direct):
    """A constant code around the data.

    Attributes
    ----------
    pads
        Codes before and behind, for each axis.
    value
        The code less its zero point.
    """

    pads: tuple[tuple[int, int], ...]
    value: int

    @property
    def kind(self) -> LayerKind:
        """PAD."""
        return LayerKind.PAD

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The codes with the constant around them."""
        return np.pad(inputs[0], self.pads, constant_values=self.value)

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """Those of the codes, and the constant."""
        return self.codes([inputs[0][0]]), self.codes([inputs[0][1]])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice(Direct):
    """A part of the data.

    Attributes
    ----------
    slices
        For each axis; the first takes all samples.
    """

    slices: tuple[slice, ...]

    @property
    def kind(self) -> LayerKind:
        """SLICE."""
        return LayerKind.SLICE

    def codes(self, inputs: Sequence[IntegerArray]) -> IntegerArray:
        """The part."""
        return inputs[0][self.slices].reshape(-1, *self.output_shape[1:])

    def interval(self, inputs: Sequence[Ends]) -> Ends:
        """Those of the part."""
        return self.codes([inputs[0][0]]), self.codes([inputs[0][1]])
