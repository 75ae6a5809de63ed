"""The NPU's staircase: bias, integer scale, shift with floor; with an addend behind the scale also that of MATCH and DORY."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from npusim.program.carriers import FLOAT32_LIMIT, FLOAT64_LIMIT, Carrier, CarrierChoice, FloatForm
from npusim.program.float_operations import FloatOperation, Operator
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

__all__ = ["ShiftFloor"]


@dataclass(frozen=True, slots=True, eq=False)
class ShiftFloor(Requantization):
    """``y = clip(((accumulator + bias) * scale + addend) >> shift, clip.lower, clip.upper)``, the shift arithmetic.

    The NPU's batch-norm stage (BNORM) has no addend; MATCH, DORY and NEMO have no bias. All is exact in int64 while the product
    stays within 62 bits.

    Attributes
    ----------
    bias, scale, shift
        int64 [channels]; shifts are 0 to 31.
    addend
        int64 [channels]; all zero where none is given.
    toward_zero
        The shift truncates, as an integer division does in ONNX.

    Examples
    --------
    >>> half = ShiftFloor(np.array([1]), np.array([3]), np.array([1]), clip=Clip(0, 255))
    >>> half.codes(np.array([[-5, 4, 400]])), half.first(np.array([7]))
    (array([[  0,   7, 255]]), array([4]))
    """

    bias: IntegerArray
    scale: IntegerArray
    shift: IntegerArray
    addend: IntegerArray = field(default_factory=lambda: np.zeros(0, np.int64))
    toward_zero: bool = False

    def __post_init__(self) -> None:
        if not self.addend.size:
            object.__setattr__(self, "addend", np.zeros_like(self.bias))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.bias.size)

    @property
    def parameters(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """Bias, scale and shift, and the addend where there is one."""
        found = {"bias": self.bias, "scale": self.scale, "shift": self.shift}
        return {**found, "addend": self.addend} if self.addend.any() else found

    @property
    def direction(self) -> IntegerArray:
        """The sign of the scale."""
        return np.sign(self.scale)

    @property
    def gain(self) -> FloatArray:
        """``scale * 2**-shift``, exact."""
        return np.asarray(np.ldexp(self.scale.astype(np.float64), -self.shift.astype(np.int32)))

    @property
    def real_bias(self) -> FloatArray:
        """The bias without the half LSB that makes the floor round: ``bias + addend / scale - 2**shift / 2 / scale``."""
        with np.errstate(divide="ignore", invalid="ignore"):
            half = np.ldexp(0.5, self.shift) / self.scale
            added = np.where(self.addend == 0, 0.0, self.addend / self.scale)
        return np.asarray(self.bias + added - half)

    @property
    def floor_loss(self) -> FloatArray:
        """What a floor behind a shift takes away on average: ``(1 - 2**-shift) / 2``."""
        return np.asarray((1 - np.ldexp(1.0, -self.shift)) / 2)

    @property
    def operations(self) -> tuple[FloatOperation, ...]:
        """Add, multiply, add, multiply by the power of two, floor; what does nothing is left out."""
        rounding = Operator.TRUNCATE if self.toward_zero else Operator.FLOOR
        return _used(
            FloatOperation(Operator.ADD, self.bias.astype(np.float64)),
            FloatOperation(Operator.MULTIPLY, self.scale.astype(np.float64)),
            FloatOperation(Operator.ADD, self.addend.astype(np.float64)),
            FloatOperation(Operator.MULTIPLY, np.ldexp(1.0, -self.shift)),
            *([FloatOperation(rounding, np.zeros(self.channels))] if self.shift.any() else []),
        )

    @property
    def alternatives(self) -> Mapping[Alternative, Requantization]:
        """A shift that rounds to nearest or toward zero, and no bias."""
        half = (np.int64(1) << self.shift) >> 1
        down = self.addend + half - np.where(half > 0, 1, 0)
        return {
            Alternative.HALF_UP: replace(self, addend=self.addend + half, toward_zero=False),
            Alternative.HALF_DOWN: replace(self, addend=down, toward_zero=False),
            Alternative.TOWARD_ZERO: replace(self, toward_zero=True),
            Alternative.NO_BIAS: replace(self, bias=np.zeros_like(self.bias), addend=np.zeros_like(self.addend)),
        }

    @property
    def domain(self) -> Clip:
        """Where the product stays within 61 bits and a sign."""
        most = 2**61 - 1 - int(np.abs(self.addend).max(initial=0))
        reach = most // max(int(np.abs(self.scale).max(initial=1)), 1) - int(np.abs(self.bias).max(initial=0))
        return Clip(-reach, reach)

    def biased(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``accumulator + bias``."""
        return np.asarray(accumulator + along(self.bias, accumulator.ndim, axis))

    def scaled(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``(accumulator + bias) * scale + addend``."""
        product = self.biased(accumulator, axis) * along(self.scale, accumulator.ndim, axis)
        return np.asarray(product + along(self.addend, accumulator.ndim, axis)) if self.addend.any() else product

    def codes_of_scaled(self, scaled: IntegerArray, axis: int = 0) -> IntegerArray:
        """``scaled >> shift``."""
        shift = along(self.shift, scaled.ndim, axis)
        if self.toward_zero:
            return np.asarray(np.sign(scaled) * (np.abs(scaled) >> shift))
        return np.asarray(scaled >> shift)

    def unclipped(self, accumulator: IntegerArray, axis: int = 0) -> IntegerArray:
        """``((accumulator + bias) * scale + addend) >> shift``."""
        return self.codes_of_scaled(self.scaled(accumulator, axis), axis)

    def real(self, accumulator: FloatArray, axis: int = 0) -> FloatArray:
        """``((accumulator + bias) * scale + addend) * 2**-shift``."""
        bias, scale, shift, addend = (
            along(values, accumulator.ndim, axis) for values in (self.bias, self.scale, self.shift, self.addend)
        )
        return np.asarray(((accumulator + bias) * scale + addend) * np.ldexp(1.0, -shift))

    def rounded(self, real: FloatArray) -> FloatArray:
        """Down, or toward zero."""
        return np.asarray(np.trunc(real) if self.toward_zero else np.floor(real))

    def real_codes(self, accumulator: FloatArray, axis: int = 0) -> FloatArray:
        """The codes of accumulators that may have fractions.

        Half a unit of the product is added before the shift: it changes nothing for integers, and keeps the floor from taking
        away half an LSB more from codes with a fractional part.
        """
        bias, scale, shift, addend = (
            along(values, accumulator.ndim, axis) for values in (self.bias, self.scale, self.shift, self.addend)
        )
        scaled = (accumulator + bias) * scale + addend
        rounding = np.trunc if self.toward_zero else np.floor
        codes = rounding((scaled + 0.5) * np.ldexp(1.0, -shift))
        return np.asarray(np.clip(codes, self.clip.lower, self.clip.upper))

    def first(self, code: IntegerArray) -> IntegerArray:
        """``ceil(((code << shift) - addend) / scale) - bias``; for a negative scale the accumulator behind the last one."""
        bias, scale, shift, addend = (
            along(values, code.ndim, 0) for values in (self.bias, self.scale, self.shift, self.addend)
        )
        goal = code << shift
        if self.toward_zero:
            goal = np.where(code <= 0, ((code - 1) << shift) + 1, goal)
        goal, size = goal - addend, np.maximum(np.abs(scale), 1)
        found = np.where(scale > 0, -(-goal // size), -goal // size + 1) - bias
        return np.where(scale == 0, np.where(goal <= 0, -NEVER, NEVER), found)

    def beyond(self, lower: int, upper: int) -> tuple[IntegerArray, IntegerArray]:
        """Where ``(accumulator + bias) * scale + addend`` leaves a range, in closed form."""
        size, rises = np.maximum(np.abs(self.scale), 1), self.scale > 0
        low, high = lower - self.addend, upper - self.addend
        above = np.where(rises, high // size, -low // size) + 1 - self.bias
        below = np.where(rises, -(-low // size), -(high // size)) - 1 - self.bias
        dead = self.scale == 0
        return np.where(dead, -NEVER, below), np.where(dead, NEVER, above)

    def text(self, accumulator: int, channel: int) -> tuple[TextRow, ...]:
        """Bias, scale, addend and shift, each with its result."""
        bias, scale, shift, addend = (int(part[channel]) for part in (self.bias, self.scale, self.shift, self.addend))
        biased = accumulator + bias
        product = biased * scale
        rows = [
            TextRow("bias", f"{accumulator} + {_signed(bias)}", biased),
            TextRow("scale", f"{biased} * {_signed(scale)}", product),
        ]
        if self.addend.any():
            rows.append(TextRow("addend", f"{product} + {_signed(addend)}", product + addend))
        total = product + addend
        rounding = "trunc" if self.toward_zero else "floor"
        code = -(-total >> shift) if self.toward_zero and total < 0 else total >> shift
        return (*rows, TextRow("shift", f"{rounding}({total} / 2^{shift})", code))

    def may_differ(
        self,
        one: Alternative | None,
        other: Alternative,
        lower: IntegerArray,
        upper: IntegerArray,
        codes: tuple[IntegerArray, IntegerArray],
    ) -> npt.NDArray[np.bool_]:
        """Closed forms without addend: ties by congruence; other roundings wherever a product may have a remainder."""
        if self.addend.any() or self.toward_zero or other is Alternative.NO_BIAS:
            return super(ShiftFloor, self).may_differ(one, other, lower, upper, codes)
        falls, used = self.scale < 0, self.scale != 0
        low, high = lower + self.bias, upper + self.bias
        low, high = np.where(falls, -high, low), np.where(falls, -low, high)
        size = np.where(used, np.abs(self.scale), 1)
        start = np.maximum(low, -((-codes[0] << self.shift) // size))
        stop = np.minimum(high, -((-(codes[1] + 1) << self.shift) // size) - 1)
        if {one, other} == {Alternative.HALF_UP, Alternative.HALF_DOWN}:
            # with scale = 2**e * odd a tie is t = 2**(shift-1-e)  (mod 2**(shift-e)), which has no solution for e >= shift
            twos = np.log2(size & -size).astype(np.int64)
            period = np.int64(1) << np.maximum(self.shift - twos, 1)
            tie = start + ((period >> 1) - start) % period
            return np.asarray(used & (twos < self.shift) & (tie <= stop))
        remainders = (size & ((np.int64(1) << self.shift) - 1)) != 0
        return np.asarray(used & (start <= stop) & remainders)

    def carriers(self, sums: IntegerArray, largest_code: int) -> tuple[CarrierChoice, ...]:
        """What has to stay below 2**24 or 2**53.

        Folded: the products are multiples of ``2**-shift``, so in units of that every partial sum of ``(accumulator + bias) *
        scale`` counts. Plain float32: partial sums and ``accumulator + bias``; the one product with ``scale * 2**-shift`` that
        follows is exact wherever the result is inside of the clip, when ``(largest code + 1) << shift`` is at most 2**24, and
        beyond the clip rounding cannot bring it back. float64: everything.
        """
        scale, shift = self.reduced()
        biased = sums + np.abs(self.bias)
        folded = int((biased * np.abs(scale).clip(1) + np.abs(self.addend)).max(initial=0))
        found = [CarrierChoice(Carrier.FLOAT32_FOLDED, folded, FLOAT32_LIMIT)]
        inside = largest_code + 1 << int(shift.max(initial=0)) <= FLOAT32_LIMIT
        if inside and not self.addend.any():
            found.append(CarrierChoice(Carrier.FLOAT32, int(biased.max(initial=0)), FLOAT32_LIMIT))
        wide = CarrierChoice(Carrier.FLOAT64, folded, FLOAT64_LIMIT)
        return (*found, wide, CarrierChoice(Carrier.INTEGER, folded, 2**63))

    def form(self, carrier: Carrier) -> FloatForm:
        """Integers times a power of two: one product, or none where it goes into the weights."""
        scale, shift = self.reduced()
        multiplier, addend = np.ldexp(scale.astype(np.float64), -shift), np.ldexp(self.addend.astype(np.float64), -shift)
        rounding = FloatOperation(Operator.TRUNCATE if self.toward_zero else Operator.FLOOR, np.zeros(self.channels))
        last = (rounding,) if shift.any() else ()
        if carrier is Carrier.FLOAT32_FOLDED:
            return FloatForm(multiplier, np.asarray(self.bias * multiplier + addend, np.float64), last)
        steps = _used(FloatOperation(Operator.MULTIPLY, multiplier), FloatOperation(Operator.ADD, addend))
        return FloatForm(None, self.bias.astype(np.float64), (*steps, *last))

    def folded(self, lower: IntegerArray, upper: IntegerArray) -> tuple[IntegerArray, IntegerArray] | None:
        """Partial sums times the odd part of the scale: common factors of two of scale and power do not count."""
        odd = self.scale // np.maximum(self.scale & -self.scale, 1)
        low, high = lower + np.minimum(self.bias, 0), upper + np.maximum(self.bias, 0)
        if self.addend.any():
            return None
        return np.minimum(low * odd, high * odd), np.maximum(low * odd, high * odd)

    @property
    def whole_gain(self) -> FloatArray:
        """``scale * 2**(smallest shift - shift)``."""
        return np.asarray(np.ldexp(self.scale.astype(np.float64), (self.shift.min() - self.shift).astype(np.int32)))

    def reduced(self) -> tuple[IntegerArray, IntegerArray]:
        """Scale and shift of each channel without common factors of two: the same multiplier in the fewest bits."""
        scale, shift = self.scale.copy(), self.shift.copy()
        if self.addend.any() or self.toward_zero:
            return scale, shift
        while (even := (scale % 2 == 0) & (scale != 0) & (shift > 0)).any():
            scale, shift = np.where(even, scale // 2, scale), np.where(even, shift - 1, shift)
        return scale, shift


def _used(*operations: FloatOperation) -> tuple[FloatOperation, ...]:
    """Operations without those that change nothing."""
    neutral = {Operator.ADD: 0.0, Operator.MULTIPLY: 1.0}
    kept = (one for one in operations if one.operator not in neutral or (one.operand != neutral[one.operator]).any())
    return tuple(kept)


def _signed(value: int) -> str:
    return f"({value})" if value < 0 else str(value)
