"""The staircases of runtimes without floats: a multiplier of 31 bits, and how its product is rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from npusim.kernels.fixed_point import Rounding, divide_power_of_two, high_product, multiply_fixed_point, reduce_multiplier
from npusim.program.carriers import FLOAT64_LIMIT, Carrier, CarrierChoice, FloatForm
from npusim.program.float_operations import FloatOperation, Operator
from npusim.program.requantization import (
    Alternative,
    Clip,
    FloatArray,
    IntegerArray,
    Requantization,
    TextRow,
    along,
)

__all__ = ["FixedPoint"]

AWAY = 1.0 + 2.0**-44
"""Times this, a tie lies farther from zero than the tie, and no other multiple of ``2**-31`` below ``2**12`` reaches one."""


@dataclass(frozen=True, slots=True, eq=False)
class FixedPoint(Requantization):
    """``y = clip((accumulator + bias) * Q * 2**(e - 31))``, rounded as :class:`~npusim.kernels.fixed_point.Rounding` says.

    Codes are centred: the zero point of the result is not added. Exact in int64 while ``|accumulator + bias| * 2**max(e, 0)``
    is at most ``2**31`` (for ``Q15`` below ``2**47``).

    Attributes
    ----------
    bias, multiplier, exponent
        int64 [channels]; multipliers Q are 0 or of 31 bits, exponents e -31 to 30.
    rounding
        How the product is rounded.
    away
        bool [channels], for ``UPUP``: channels that round half away from zero in the second rounding, as ``DOUBLE`` does.
        Vectorized kernels leave the last channels to such code. All False where none is given.

    Examples
    --------
    >>> quarter = FixedPoint(np.array([1]), np.array([2**30]), np.array([-1]), Rounding.DOUBLE, clip=Clip(-128, 127))
    >>> quarter.codes(np.array([[-7, 5, 9000]])).tolist(), quarter.first(np.array([2])).tolist()
    ([[-2, 2, 127]], [4])
    """

    bias: IntegerArray
    multiplier: IntegerArray
    exponent: IntegerArray
    rounding: Rounding
    away: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __post_init__(self) -> None:
        if not self.away.size:
            object.__setattr__(self, "away", np.zeros(self.bias.size, np.bool_))

    @property
    def parameters(self) -> Mapping[str, npt.NDArray[Any]]:
        """Bias, multiplier and exponent, and the channels that round in another way where there are some."""
        found = {"bias": self.bias, "multiplier": self.multiplier, "exponent": self.exponent}
        return {**found, "away": self.away} if self.away.any() else found

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.bias.size)

    @property
    def direction(self) -> IntegerArray:
        """1, and 0 for a multiplier of 0."""
        return np.sign(self.multiplier)

    @property
    def gain(self) -> FloatArray:
        """``Q * 2**(e - 31)``; for Q15 that of its 16 bits."""
        if self.rounding is Rounding.Q15:
            return np.asarray(
                np.ldexp(reduce_multiplier(self.multiplier).astype(np.float64), (self.exponent - 15).astype(np.int32))
            )
        return np.asarray(np.ldexp(self.multiplier.astype(np.float64), (self.exponent - 31).astype(np.int32)))

    @property
    def real_bias(self) -> FloatArray:
        """The bias."""
        return self.bias.astype(np.float64)

    @property
    def alternatives(self) -> Mapping[Alternative, Requantization]:
        """One rounding half up, two of them half up where this one has two, and no bias."""
        found: dict[Alternative, Requantization] = {Alternative.NO_BIAS: replace(self, bias=np.zeros_like(self.bias))}
        if self.rounding in (Rounding.DOUBLE, Rounding.UPUP):
            found[Alternative.HALF_UP] = replace(self, rounding=Rounding.SINGLE)
        return found

    @property
    def domain(self) -> Clip:
        """Where the shifted sum stays within 31 bits and a sign."""
        bits = 46 if self.rounding is Rounding.Q15 else 31 - max(int(self.exponent.max(initial=0)), 0)
        reach = 2**bits - 1 - int(np.abs(self.bias).max(initial=0))
        return Clip(-max(reach, 0), max(reach, 0))

    def biased(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``accumulator + bias``."""
        return np.asarray(accumulator + along(self.bias, accumulator.ndim, axis))

    def unclipped(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """The rounded product."""
        rank = accumulator.ndim
        operands = self.biased(accumulator, axis), along(self.multiplier, rank, axis), along(self.exponent, rank, axis)
        found = multiply_fixed_point(*operands, self.rounding)
        if not self.away.any():
            return found
        return np.where(along(self.away, rank, axis), multiply_fixed_point(*operands, Rounding.DOUBLE), found)

    def text(self, accumulator: int, channel: int) -> tuple[TextRow, ...]:
        """Bias, product and each rounding with its result."""
        bias, multiplier, exponent = (int(part[channel]) for part in (self.bias, self.multiplier, self.exponent))
        total = accumulator + bias
        rows = [TextRow("bias", f"{accumulator} + ({bias})" if bias < 0 else f"{accumulator} + {bias}", total)]
        if self.rounding in (Rounding.SINGLE, Rounding.Q15):
            code = int(self.unclipped(np.full((self.channels, 1), accumulator, np.int64))[channel, 0])
            narrow = self.rounding is Rounding.Q15
            factor, shift = (int(reduce_multiplier(np.array(multiplier))), 15) if narrow else (multiplier, 31)
            return (*rows, TextRow("multiplier", f"half_up({total} * {factor} / 2^{shift - exponent})", code))
        left, right = max(exponent, 0), max(-exponent, 0)
        high = high_product(np.array(total << left), np.array(multiplier))
        shown = f"{total} * 2^{left}" if left else f"{total}"
        rows.append(TextRow("multiplier", f"half_up({shown} * {multiplier} / 2^31)", int(high)))
        if self.rounding is Rounding.DOUBLE or self.away[channel]:
            return (*rows, TextRow("shift", f"half_away({int(high)} / 2^{right})", int(divide_power_of_two(high, right))))
        return (*rows, TextRow("shift", f"half_up({int(high)} / 2^{right})", (int(high) + ((1 << right) >> 1)) >> right))

    def carriers(self, sums: IntegerArray, largest_code: int) -> tuple[CarrierChoice, ...]:
        """float64 where every sum is exact, and every product whose code is not saturated.

        A product of an accumulator with Q is a multiple of ``2**(e - 31)`` (``e - 15`` for Q15); the halves that are added
        are, too. Inside of the clip it is below ``largest code + 1``, so it is exact when that many units are below
        ``2**53``. Beyond the clip it may be rounded: rounding is monotone, so it cannot come back.
        """
        biased = sums + np.abs(self.bias)
        wide = int(biased.max(initial=0))
        unit = 15 if self.rounding is Rounding.Q15 else 31
        units = (largest_code + 2) << (unit - int(self.exponent.min(initial=0)))
        product = int((biased.astype(object) * self.multiplier).max(initial=0)) if self.channels else 0
        inside = max(wide, min(units, product))
        found = [CarrierChoice(Carrier.FLOAT64, inside, FLOAT64_LIMIT)]
        return (*found, CarrierChoice(Carrier.INTEGER, wide << max(int(self.exponent.max(initial=0)), 0), 2**63))

    def form(self, carrier: Carrier) -> FloatForm:
        """Products with a multiplier, halves added before each floor; half away from zero as :data:`AWAY` and half to even."""
        half = FloatOperation(Operator.ADD, np.full(self.channels, 0.5))
        floor = FloatOperation(Operator.FLOOR, np.zeros(self.channels))
        bias = self.bias.astype(np.float64)
        if self.rounding in (Rounding.SINGLE, Rounding.Q15):
            return FloatForm(None, bias, (FloatOperation(Operator.MULTIPLY, self.gain), half, floor))
        left, right = np.maximum(self.exponent, 0), np.maximum(-self.exponent, 0)
        factor = np.ldexp(self.multiplier.astype(np.float64), (left - 31).astype(np.int32))
        first = (FloatOperation(Operator.MULTIPLY, factor), half, floor)
        if not right.any():
            return FloatForm(None, bias, first)
        back: npt.NDArray[np.float64] = np.ldexp(1.0, -right.astype(np.int32))
        if self.away.any():
            # half up is half to even behind half a unit of the last place that is cut off
            rest: tuple[FloatOperation, ...] = (
                FloatOperation(Operator.MULTIPLY, np.where(self.away, back * AWAY, back)),
                FloatOperation(Operator.ADD, np.where(self.away, 0.0, back / 2)),
                FloatOperation(Operator.ROUND, np.zeros(self.channels)),
            )
        elif self.rounding is Rounding.DOUBLE:
            rest = (
                FloatOperation(Operator.MULTIPLY, back * AWAY),
                FloatOperation(Operator.ROUND, np.zeros(self.channels)),
            )
        else:
            rest = (FloatOperation(Operator.MULTIPLY, back), half, floor)
        return FloatForm(None, bias, (*first, *rest))
