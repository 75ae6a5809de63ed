"""The staircase of a float layer between codes, computed as a graph says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from npusim.program.requantization import FAR, Clip, FloatArray, IntegerArray, Requantization, TextRow, along

__all__ = ["DequantizedSum"]

UNIT_ROUNDOFF: Final = 2.0**-24
"""Largest relative error of one float32 rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class DequantizedSum(Requantization):
    """``y = clip(rint(f32(f32(accumulator * product + addend) / scale)))``: dequantize, multiply, add, quantize in float32.

    The sum of products is taken as exact and rounded once, because runtimes leave the order of its additions open. Codes are
    centred: the zero point of the result is added behind the rounding.

    Attributes
    ----------
    product
        float64 [channels]: scale of the input times scale of the weights, exact.
    addend
        float32 [channels]: the bias as the graph adds it.
    scale
        float32 [channels]: scale of the result, the same for all channels.

    Examples
    --------
    >>> third = DequantizedSum(np.array([0.25]), np.float32([0.5]), np.float32([0.5]), clip=Clip(-128, 127))
    >>> third.codes(np.array([[0, 1, 3, 9999]])), third.first(np.array([2]))
    (array([[  1,   2,   2, 127]]), array([1]))
    """

    product: FloatArray
    addend: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.product.size)

    @property
    def direction(self) -> IntegerArray:
        """Codes never fall."""
        return np.ones(self.channels, np.int64)

    @property
    def gain(self) -> FloatArray:
        """``product / scale``."""
        return np.asarray(self.product / self.scale.astype(np.float64))

    @property
    def real_bias(self) -> FloatArray:
        """``addend / product``."""
        return np.asarray(self.addend.astype(np.float64) / self.product)

    @property
    def domain(self) -> Clip:
        """Sums of 16-bit codes pass int32."""
        return Clip(-(2**53), 2**53)

    def unclipped(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``rint(f32(f32(accumulator * product + addend) / scale))``."""
        rank = accumulator.ndim
        exact = accumulator * along(self.product, rank, axis) + along(self.addend.astype(np.float64), rank, axis)
        quotient = exact.astype(np.float32) / along(self.scale, rank, axis)
        return np.asarray(np.clip(np.rint(quotient), -FAR, FAR).astype(np.int64))

    def rounding_limit(
        self, accumulator: IntegerArray, magnitude: IntegerArray, terms: int, axis: int = 0
    ) -> npt.NDArray[np.float64]:
        """How far the codes may lie from those of a runtime that rounds each product and each addition, in whatever order.

        The sum of n products, each of them of two rounded factors, is off by at most ``g * magnitude`` with ``g = n * u / (1 -
        n * u)`` and u = 2**-24; the codes are those of both ends of that interval, because the rest never falls. Most
        intervals hold no step, so that the limit is 0 there.

        Parameters
        ----------
        accumulator
            int64, the exact sums of products of codes.
        magnitude
            The same sums of absolute values.
        terms
            Products in a sum.
        axis
            Where the channels are.

        Returns
        -------
        float64 array
            Whole numbers.
        """
        rank, steps = accumulator.ndim, terms + 4
        product, addend = along(self.product, rank, axis), along(self.addend.astype(np.float64), rank, axis)
        relative = steps * UNIT_ROUNDOFF / (1 - steps * UNIT_ROUNDOFF)
        exact, reach = accumulator * product + addend, relative * (magnitude * product + np.abs(addend))
        codes, low, high = (self._codes_of(total, rank, axis) for total in (exact, exact - reach, exact + reach))
        return np.asarray(np.maximum(codes - low, high - codes), np.float64)

    def _codes_of(self, total: FloatArray, rank: int, axis: int) -> IntegerArray:
        """The codes of real sums, saturated."""
        with np.errstate(over="ignore"):
            quotient = total.astype(np.float32) / along(self.scale, rank, axis)
        return self.clip.apply(np.clip(np.rint(quotient), -FAR, FAR).astype(np.int64))

    def text(self, accumulator: int, channel: int) -> tuple[TextRow, ...]:
        """The real sum and its quotient."""
        product, addend, scale = self.product[channel], self.addend[channel], self.scale[channel]
        code = int(np.rint(np.float32(accumulator * product + np.float64(addend)) / scale))
        formula = f"rint(f32(f32({accumulator} * {product:.9g} + {addend:.9g}) / {scale:.9g}))"
        return (TextRow("quantize", formula, code),)
