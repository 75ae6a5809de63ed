"""The staircase of kernels that requantize in float32: ONNX Runtime's and XNNPACK's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from npusim.program.carriers import FLOAT32_LIMIT, Carrier, CarrierChoice, FloatForm
from npusim.program.float_operations import FloatOperation, Operator
from npusim.program.requantization import (
    FAR,
    INT32,
    Alternative,
    Clip,
    FloatArray,
    IntegerArray,
    Requantization,
    TextRow,
    along,
)

__all__ = ["FloatMultiplier"]


@dataclass(frozen=True, slots=True, eq=False)
class FloatMultiplier(Requantization):
    """``y = clip(rint(f32(f32(accumulator + bias) * multiplier)))``; codes are centred, the zero point is not added.

    Attributes
    ----------
    bias
        int64 [channels].
    multiplier
        float32 [channels], 0 or more.
    rounding
        What is done in place of rounding to the nearest whole number with halves to even; None for that.

    Examples
    --------
    >>> half = FloatMultiplier(np.array([1]), np.float32([0.5]), clip=Clip(-128, 127))
    >>> half.codes(np.array([[-4, 0, 4, 999]])).tolist(), half.first(np.array([2])).tolist()
    ([[-2, 0, 2, 127]], [2])
    """

    bias: IntegerArray
    multiplier: npt.NDArray[np.float32]
    rounding: Alternative | None = None

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.bias.size)

    @property
    def direction(self) -> IntegerArray:
        """1, and 0 for a multiplier of 0."""
        return np.sign(self.multiplier).astype(np.int64)

    @property
    def gain(self) -> FloatArray:
        """The multiplier."""
        return self.multiplier.astype(np.float64)

    @property
    def real_bias(self) -> FloatArray:
        """The bias."""
        return self.bias.astype(np.float64)

    @property
    def alternatives(self) -> Mapping[Alternative, Requantization]:
        """No bias; the same product rounded with halves up or down, or toward zero."""
        others = (Alternative.HALF_UP, Alternative.HALF_DOWN, Alternative.TOWARD_ZERO)
        found: dict[Alternative, Requantization] = {one: replace(self, rounding=one) for one in others}
        return {Alternative.NO_BIAS: replace(self, bias=np.zeros_like(self.bias)), **found}

    @property
    def domain(self) -> Clip:
        """Sums of 32 bits."""
        reach = INT32.upper - int(np.abs(self.bias).max(initial=0))
        return Clip(-reach, reach)

    def biased(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``accumulator + bias``."""
        return np.asarray(accumulator + along(self.bias, accumulator.ndim, axis))

    def unclipped(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``rint(f32(f32(accumulator + bias) * multiplier))``."""
        total = self.biased(accumulator, axis).astype(np.float32)
        return _rounded(total, along(self.multiplier, accumulator.ndim, axis), self.rounding)

    def text(self, accumulator: int, channel: int) -> tuple[TextRow, ...]:
        """Bias and product."""
        bias, multiplier = int(self.bias[channel]), self.multiplier[channel]
        total = accumulator + bias
        code = int(_rounded(np.float32(total), multiplier, self.rounding))
        return (
            TextRow("bias", f"{accumulator} + ({bias})" if bias < 0 else f"{accumulator} + {bias}", total),
            TextRow("multiplier", f"rint(f32(f32({total}) * {float(multiplier)!r}))", code),
        )

    def carriers(self, sums: IntegerArray, largest_code: int) -> tuple[CarrierChoice, ...]:
        """float32 where every sum is exact in it: the rest is the arithmetic itself."""
        if self.rounding is not None:
            return super(FloatMultiplier, self).carriers(sums, largest_code)
        biased = int((sums + np.abs(self.bias)).max(initial=0))
        return CarrierChoice(Carrier.FLOAT32, biased, FLOAT32_LIMIT), CarrierChoice(Carrier.INTEGER, biased, 2**63)

    def form(self, carrier: Carrier) -> FloatForm:
        """One product, rounded half to even."""
        product = FloatOperation(Operator.MULTIPLY, self.gain)
        return FloatForm(None, self.bias.astype(np.float64), (product, FloatOperation(Operator.ROUND, np.zeros(self.channels))))


def _rounded(
    total: npt.NDArray[np.float32] | np.float32, multiplier: npt.NDArray[np.float32] | np.float32, rounding: Alternative | None
) -> IntegerArray:
    """The product as a whole number; beyond all codes, infinity too, it stays far beyond them."""
    with np.errstate(over="ignore"):
        product = np.asarray(total * multiplier)
    match rounding:
        case Alternative.HALF_UP:
            whole = np.floor(product.astype(np.float64) + 0.5)
        case Alternative.HALF_DOWN:
            whole = np.ceil(product.astype(np.float64) - 0.5)
        case Alternative.TOWARD_ZERO:
            whole = np.trunc(product)
        case _:
            whole = np.rint(product)
    return np.asarray(np.clip(whole, -FAR, FAR).astype(np.int64))
