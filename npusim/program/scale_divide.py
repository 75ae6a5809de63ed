"""The staircase of a scale and a division by any integer: NEMO's and DORY's files, averages of MATCH and DORY."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from npusim.program.requantization import (
    NEVER,
    Alternative,
    Clip,
    FloatArray,
    IntegerArray,
    Requantization,
    TextRow,
    along,
)

__all__ = ["ScaleDivide"]


@dataclass(frozen=True, slots=True, eq=False)
class ScaleDivide(Requantization):
    """``y = clip(floor((accumulator * scale + addend) / divisor))``, or the same toward zero.

    Attributes
    ----------
    scale, addend
        int64 [channels].
    divisor
        int64 [channels], 1 or more.
    toward_zero
        The division truncates, as that of integers does in ONNX.

    Examples
    --------
    >>> third = ScaleDivide(np.array([1]), np.array([0]), np.array([3]), clip=Clip(-128, 127))
    >>> third.codes(np.array([[5, -1]])).tolist(), third.first(np.array([2])).tolist()
    ([[1, -1]], [6])
    """

    scale: IntegerArray
    addend: IntegerArray
    divisor: IntegerArray
    toward_zero: bool = False

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.scale.size)

    @property
    def direction(self) -> IntegerArray:
        """The sign of the scale."""
        return np.sign(self.scale)

    @property
    def gain(self) -> FloatArray:
        """``scale / divisor``."""
        return np.asarray(self.scale / self.divisor)

    @property
    def real_bias(self) -> FloatArray:
        """``(addend - divisor / 2) / scale``: the floor takes away half a code."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.addend - self.divisor / 2) / self.scale)

    @property
    def floor_loss(self) -> FloatArray:
        """``(1 - 1 / divisor) / 2``."""
        return np.asarray((1 - 1 / self.divisor) / 2)

    @property
    def domain(self) -> Clip:
        """Where the product stays within 61 bits and a sign."""
        most = 2**61 - 1 - int(np.abs(self.addend).max(initial=0))
        reach = most // max(int(np.abs(self.scale).max(initial=1)), 1)
        return Clip(-reach, reach)

    @property
    def alternatives(self) -> Mapping[Alternative, Requantization]:
        """A division that rounds to nearest or toward zero."""
        half = self.divisor // 2
        return {
            Alternative.HALF_UP: replace(self, addend=self.addend + half, toward_zero=False),
            Alternative.HALF_DOWN: replace(self, addend=self.addend + (self.divisor - 1) // 2, toward_zero=False),
            Alternative.TOWARD_ZERO: replace(self, toward_zero=True),
        }

    def scaled(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``accumulator * scale + addend``."""
        scale, addend = (along(values, accumulator.ndim, axis) for values in (self.scale, self.addend))
        return np.asarray(accumulator * scale + addend)

    def codes_of_scaled(self, scaled: IntegerArray, axis: int = 0) -> IntegerArray:
        """``scaled / divisor``, rounded."""
        divisor = along(self.divisor, scaled.ndim, axis)
        if self.toward_zero:
            return np.asarray(np.sign(scaled) * (np.abs(scaled) // divisor))
        return np.asarray(scaled // divisor)

    def unclipped(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``(accumulator * scale + addend) / divisor``, rounded."""
        return self.codes_of_scaled(self.scaled(accumulator, axis), axis)

    def rounded(self, real: FloatArray) -> FloatArray:
        """Down, or toward zero."""
        return np.asarray(np.trunc(real) if self.toward_zero else np.floor(real))

    def first(self, code: IntegerArray) -> IntegerArray:
        """``ceil((code * divisor - addend) / scale)``; for a negative scale the accumulator behind the last one."""
        scale, addend, divisor = (along(values, code.ndim, 0) for values in (self.scale, self.addend, self.divisor))
        goal = code * divisor
        if self.toward_zero:
            goal = np.where(code <= 0, (code - 1) * divisor + 1, goal)
        goal, size = goal - addend, np.maximum(np.abs(scale), 1)
        found = np.where(scale > 0, -(-goal // size), -goal // size + 1)
        return np.where(scale == 0, np.where(goal <= 0, -NEVER, NEVER), found)

    def text(self, accumulator: int, channel: int) -> tuple[TextRow, ...]:
        """Scale, addend and division, each with its result."""
        scale, addend, divisor = (int(values[channel]) for values in (self.scale, self.addend, self.divisor))
        product = accumulator * scale
        total = product + addend
        code = -(-total // divisor) if self.toward_zero and total < 0 else total // divisor
        return (
            TextRow("scale", f"{accumulator} * {scale}", product),
            TextRow("addend", f"{product} + {addend}", total),
            TextRow("division", f"{'trunc' if self.toward_zero else 'floor'}({total} / {divisor})", code),
        )
