"""Inner tensors of a layer: values between its accumulator and its codes that the graph holds and that can be asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.kernels.requantize import scaled_value
from npusim.program.float_operations import FloatOperation, Operator
from npusim.program.requantization import Clip, IntegerArray, Requantization, along
from npusim.program.shift_floor import ShiftFloor

__all__ = ["ArithmeticTap", "CodesTap", "MeanTap", "ResidualTap", "Tap"]


@dataclass(frozen=True, slots=True)
class Tap(ABC):
    """An inner tensor and how to compute it from the layer's accumulator.

    Attributes
    ----------
    tensor
        ONNX name of the inner tensor.
    handed_out
        It is an output of the model, or others than the layer read it.
    """

    tensor: str
    handed_out: bool = field(default=False, kw_only=True)

    @property
    def saturation(self) -> Clip | None:
        """All clips up to here; None before the first."""
        return None

    @property
    def is_whole(self) -> bool:
        """True where every value is a whole number."""
        return True

    @property
    def addend(self) -> IntegerArray | None:
        """int64 [channels]: the tensor is the accumulator plus this; None where it is anything else."""
        return None

    @property
    def parameters(self) -> Mapping[str, npt.NDArray[Any]]:
        """What of the layer's parameters has come in up to here, by name."""
        return {}

    @abstractmethod
    def values(self, accumulator: IntegerArray, axis: int, total: IntegerArray | None) -> npt.NDArray[Any]:
        """The tensor's values.

        Parameters
        ----------
        accumulator, axis
            int64, and where its channels are.
        total
            For a layer with a residual the sum of both; None for others.
        """

    def exact(self, accumulator: int, channel: int) -> Fraction | None:
        """The value before a float rounds it; None behind a floor or a clip, and where it does not follow from the sum."""
        return None

    def is_beyond(self, values: npt.NDArray[Any], limit: int, axis: int) -> npt.NDArray[np.bool_] | None:
        """Where the integer that a value stands for passes a limit; None where it stands for none."""
        return None


@dataclass(frozen=True, slots=True)
class ArithmeticTap(Tap):
    """A part of the arithmetic: ``v = (accumulator + bias) * scale + addend``, times ``2**-shift``; floored, clipped.

    Attributes
    ----------
    part
        What of the staircase has been done.
    floored
        True behind the floor; before it the value is float32 where any shift is not zero.
    clip
        Saturations so far; None before the first.
    """

    part: ShiftFloor
    floored: bool
    clip: Clip | None = None

    @property
    def saturation(self) -> Clip | None:
        """The clip."""
        return self.clip

    @property
    def is_whole(self) -> bool:
        """Behind the floor, or where nothing is shifted."""
        return self.floored or not self.part.shift.any()

    @property
    def addend(self) -> IntegerArray | None:
        """The bias, while nothing else has been done."""
        part = self.part
        others = self.floored or self.clip is not None or part.shift.any() or part.addend.any()
        return None if others or (part.scale != 1).any() else part.bias

    @property
    def parameters(self) -> Mapping[str, npt.NDArray[Any]]:
        """Those of the part."""
        return self.part.parameters

    def values(self, accumulator: IntegerArray, axis: int, total: IntegerArray | None) -> npt.NDArray[Any]:
        """The part's integers, or their float32 before the floor."""
        scaled = self.part.scaled(accumulator, axis)
        if not self.is_whole:
            return scaled_value(scaled, along(self.part.shift, scaled.ndim, axis))
        found = self.part.codes_of_scaled(scaled, axis)
        return found if self.clip is None else self.clip.apply(found)

    def exact(self, accumulator: int, channel: int) -> Fraction | None:
        """``((accumulator + bias) * scale + addend) / 2**shift``."""
        if self.floored or self.clip is not None:
            return None
        bias, scale, shift, addend = (
            int(column[channel]) for column in (self.part.bias, self.part.scale, self.part.shift, self.part.addend)
        )
        return Fraction((accumulator + bias) * scale + addend, 2**shift)

    def is_beyond(self, values: npt.NDArray[Any], limit: int, axis: int) -> npt.NDArray[np.bool_] | None:
        """``|v| * 2**shift > limit``; behind the floor for the largest fraction that it may have cut."""
        if self.clip is not None:
            return None
        margin = 1 if self.floored else 0
        powers = np.ldexp(1.0, along(self.part.shift, values.ndim, axis))
        return np.asarray((np.abs(values.astype(np.float64)) + margin) * powers > limit)

    def operations_behind(self, previous: ShiftFloor, *, floored: bool) -> list[FloatOperation]:
        """What the graph has done since an earlier part: what distinguishes them.

        A bias that rises by c is ``Add(c)``, a multiplier that grows by m is ``Mul(m)``. The quotient that gives m is exact,
        because m is a float and so is the product. Additions of 0 and multiplications by 1 leave no trace, and change no float
        either.
        """
        found, part = [], self.part
        added = (part.bias - previous.bias).astype(np.float64)
        if added.any():
            found.append(FloatOperation(Operator.ADD, added))
        before, after = previous.gain, part.gain
        # behind a multiplication by 0 every further factor gives 0 again
        factor = np.where(before == 0, 1.0, after / np.where(before == 0, 1.0, before))
        if (factor != 1).any():
            found.append(FloatOperation(Operator.MULTIPLY, factor))
        risen = np.ldexp(part.addend.astype(np.float64), -part.shift) - np.ldexp(
            previous.addend.astype(np.float64), -previous.shift
        ) * np.where(factor == 0, 1.0, factor)
        if risen.any():
            found.append(FloatOperation(Operator.ADD, risen))
        if self.floored and not floored:
            found.append(FloatOperation(Operator.FLOOR, factor))
        return found


@dataclass(frozen=True, slots=True)
class MeanTap(Tap):
    """What an averaging node gives: ``float32(accumulator) / float32(divisor)``, times `factor`.

    The factor is 1, or the area by which graphs multiply before they round.
    """

    divisor: int
    factor: int

    @property
    def is_whole(self) -> bool:
        """Not even where it is multiplied back."""
        return False

    def values(self, accumulator: IntegerArray, axis: int, total: IntegerArray | None) -> npt.NDArray[Any]:
        """float32, each operation rounded."""
        mean = accumulator.astype(np.float32) / np.float32(self.divisor)
        return np.asarray(mean if self.factor == 1 else mean * np.float32(self.factor))

    def operations(self, channels: int) -> list[FloatOperation]:
        """The mean, times the area, rounded to the sum that it came from."""
        divisor, factor = np.full(channels, float(self.divisor)), np.full(channels, float(self.factor))
        return [
            FloatOperation(Operator.DIVIDE, divisor),
            FloatOperation(Operator.MULTIPLY, factor),
            FloatOperation(Operator.ROUND, factor),
        ]


@dataclass(frozen=True, slots=True)
class ResidualTap(Tap):
    """The sum of a layer's own codes and the residual, saturated so far.

    Attributes
    ----------
    clip
        None before the first saturation.
    """

    clip: Clip | None = None

    @property
    def saturation(self) -> Clip | None:
        """The clip."""
        return self.clip

    def values(self, accumulator: IntegerArray, axis: int, total: IntegerArray | None) -> npt.NDArray[Any]:
        """The sum."""
        if total is None:
            raise ValueError(f"'{self.tensor}' is the sum with a residual, but there is none")
        return total if self.clip is None else self.clip.apply(total)


@dataclass(frozen=True, slots=True)
class CodesTap(Tap):
    """Codes of a staircase, before or behind saturations.

    Attributes
    ----------
    part
        The staircase.
    clip
        None before the first saturation.
    """

    part: Requantization
    clip: Clip | None = None

    @property
    def saturation(self) -> Clip | None:
        """The clip."""
        return self.clip

    def values(self, accumulator: IntegerArray, axis: int, total: IntegerArray | None) -> npt.NDArray[Any]:
        """The codes."""
        found = self.part.unclipped(accumulator, axis)
        return found if self.clip is None else self.clip.apply(found)
