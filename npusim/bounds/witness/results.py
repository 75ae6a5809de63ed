"""What a search for a counterexample gives: a witness, or the honest statement that none was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from npusim.bounds.layer_verdicts import DIGIT_LIMITS, INT32_LIMITS
from npusim.bounds.verdicts import Property, Refutation
from npusim.graph import Array

__all__ = ["NoWitness", "Rounding", "Witness"]


@dataclass(frozen=True, slots=True)
class Rounding:
    """Where floats leave the integers: the first inner tensor that onnxruntime holds rounded.

    Attributes
    ----------
    tensor
        ONNX name.
    exact
        What the integers say it is.
    rounded
        What onnxruntime holds.
    """

    tensor: str
    exact: Fraction
    rounded: float


@dataclass(frozen=True, slots=True)
class Witness:
    """Inputs at which a statement about a layer fails, and the arithmetic that shows it; always true.

    Attributes
    ----------
    statement
        What fails.
    layer, tensor
        The layer and the tensor that it produces.
    index
        Position in that tensor, for one sample, the batch axis first.
    channel
        Its output channel.
    digit
        For ``digit_18bit``: number of the weight digit, the least significant being 0. None for the others.
    accumulator
        The accumulator there (of the digit, if there is one).
    bias, scale, shift
        The requantization of the channel.
    code
        The layer's code in integers.
    other_code
        For ``onnxruntime_exact`` onnxruntime's, for ``soft_int32`` the one after the product has wrapped around, which may be
        the same. None for ``digit_18bit``: what a device makes of it is not known.
    rounding
        For ``onnxruntime_exact``: where floats leave the integers.
    layer_inputs
        The layer's inputs by tensor name, as codes, for one sample.
    model_inputs
        The model's inputs that lead there, for one sample; None where only the layer's inputs are known, so that whether the
        model ever takes them is open.
    evaluations, seconds
        What the search took.
    """

    statement: Property
    layer: str
    tensor: str
    index: tuple[int, ...]
    channel: int
    digit: int | None
    accumulator: int
    bias: int
    scale: int
    shift: int
    code: int
    other_code: float | None
    rounding: Rounding | None
    layer_inputs: Mapping[str, Array] = field(repr=False)
    model_inputs: Mapping[str, Array] | None = field(default=None, repr=False)
    evaluations: int = 0
    seconds: float = 0.0

    @property
    def product(self) -> int:
        """``(accumulator + bias) * scale``."""
        return (self.accumulator + self.bias) * self.scale

    @property
    def limits(self) -> tuple[int, int] | None:
        """The range that is left: of int32, or of 18 bits; None for ``onnxruntime_exact``."""
        return {Property.SOFT_INT32: INT32_LIMITS, Property.DIGIT_18BIT: DIGIT_LIMITS}.get(self.statement)

    @property
    def evidence(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        found: dict[str, Any] = {"tensor": self.tensor, "index": list(self.index), "channel": self.channel}
        if self.digit is not None:
            return {**found, "digit": self.digit, "accumulator": self.accumulator, "limits": list(DIGIT_LIMITS)}
        found |= {"accumulator": self.accumulator, "bias": self.bias, "scale": self.scale, "shift": self.shift}
        found |= {"product": self.product, "npusim": self.code}
        if self.statement is Property.SOFT_INT32:
            return {**found, "wrapped": self.other_code, "limits": list(INT32_LIMITS)}
        found["onnxruntime"] = _whole(self.other_code)
        if self.rounding is not None:
            exact, rounded = _whole(float(self.rounding.exact)), _whole(self.rounding.rounded)
            found["rounding"] = {"tensor": self.rounding.tensor, "exact": exact, "rounded": rounded}
        return found

    @property
    def explanation(self) -> str:
        """The arithmetic in one sentence, without a full stop."""
        place = f"'{self.tensor}' at {list(self.index)}"
        if self.digit is not None:
            return f"{place}: the accumulator of weight digit {self.digit} is {self.accumulator:,}, past 18 bits"
        sums = f"({self.accumulator} {'-' if self.bias < 0 else '+'} {abs(self.bias)}) * {self.scale} = {self.product}"
        if self.statement is Property.SOFT_INT32:
            return f"{place}: {sums} is past int32; the code is {self.code}, after wrapping around {self.other_code}"
        where = ""
        if self.rounding is not None:
            exact, rounded = (_decimal(part) for part in (self.rounding.exact, Fraction(self.rounding.rounded)))
            where = f", because it holds {rounded} instead of {exact} in '{self.rounding.tensor}'"
        integers = f"{sums}, shifted right by {self.shift} and clipped: {self.code}"
        return f"{place}: {integers}; onnxruntime gives {self.other_code:g}{where}"

    @property
    def refutation(self) -> Refutation | None:
        """What it says about the model: that the statement is violated; None for a witness at the layer only."""
        if self.model_inputs is None:
            return None
        numbers = {key: value for key, value in self.evidence.items() if isinstance(value, int)}
        return Refutation(self.layer, self.statement, f"{self._summary}, for an input that was found", numbers)

    @property
    def _summary(self) -> str:
        if self.statement is Property.DIGIT_18BIT:
            return f"the accumulator of digit {self.digit} of channel {self.channel} is {self.accumulator:,}, past 18 bits"
        if self.statement is Property.SOFT_INT32:
            return f"(accumulator + bias) * scale of channel {self.channel} is {self.product:,}, past int32"
        codes = f"code {self.code} in integers and {self.other_code:g} in floats"
        return f"an accumulator of {self.accumulator:,} in channel {self.channel} gives {codes}"


@dataclass(frozen=True, slots=True)
class NoWitness:
    """No input was found at which a statement about a layer fails; always false.

    Attributes
    ----------
    statement, layer
        What was tried.
    reason
        Why the search ended, one clause without a full stop.
    proven
        True when there is none: no code that the layer's inputs can take leads to a failing value.
    evaluations, seconds
        What the search took.
    """

    statement: Property
    layer: str
    reason: str
    proven: bool = False
    evaluations: int = 0
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return False


def _whole(value: float | None) -> float | None:
    """Integers as such."""
    return int(value) if value is not None and float(value).is_integer() else value


def _decimal(value: Fraction) -> str:
    """A number in full: fractions whose denominator is a power of two end."""
    whole, power = abs(value.numerator), value.denominator.bit_length() - 1
    digits = f"{whole * 5**power:0{power + 1}d}"
    sign = "-" if value < 0 else ""
    return sign + (digits if power == 0 else f"{digits[:-power]}.{digits[-power:]}")
