"""What every value of a tensor lies in, and what is known of types, inputs, codes and constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from npusim.graph.graph import Array, TensorType

__all__ = [
    "EXACT_FLOAT32",
    "UNKNOWN",
    "Number",
    "ValueRange",
    "holds_numbers",
    "range_of_codes",
    "range_of_constant",
    "range_of_input",
    "range_of_type",
]

EXACT_FLOAT32: Final = 2**24
"""Every integer up to this magnitude is a float32."""

Number: TypeAlias = int | float


@dataclass(frozen=True, slots=True)
class ValueRange:
    """What every value of a tensor lies in.

    Attributes
    ----------
    lower, upper
        A closed interval of all values that are numbers; infinite ends are values that may occur.
    integral
        Every finite value is a whole number.
    nan
        A value may be NaN.
    negative_zero
        A zero may be -0, or which of the two it is differs between implementations.
    """

    lower: Number
    upper: Number
    integral: bool
    nan: bool = False
    negative_zero: bool = False

    @property
    def is_finite(self) -> bool:
        """True when both ends are finite."""
        return not (math.isinf(self.lower) or math.isinf(self.upper))

    @property
    def is_codes(self) -> bool:
        """True for integers small enough that float32 holds each exactly, and nothing else."""
        return self.integral and not self.nan and self.lower >= -EXACT_FLOAT32 and self.upper <= EXACT_FLOAT32

    @property
    def has_zero(self) -> bool:
        """True when a value may be zero."""
        return self.lower <= 0 <= self.upper

    @property
    def magnitude(self) -> Number:
        """The largest absolute value."""
        return max(abs(self.lower), abs(self.upper))


UNKNOWN: Final = ValueRange(-math.inf, math.inf, False, nan=True, negative_zero=True)
"""Nothing is known: any float, NaN included."""


def holds_numbers(dtype: np.dtype[Any]) -> bool:
    """True for Booleans, integers and floats of NumPy itself; float8_e5m2, from elsewhere, calls itself a float too.

    Examples
    --------
    >>> holds_numbers(np.dtype(np.float16)), holds_numbers(np.dtype(np.complex64))
    (True, False)
    """
    return dtype.kind in "iub" or (dtype.kind == "f" and dtype.itemsize > 1)


def range_of_type(dtype: np.dtype[Any]) -> ValueRange:
    """Everything that an element type can hold.

    Examples
    --------
    >>> range_of_type(np.dtype(np.int8))
    ValueRange(lower=-128, upper=127, integral=True, nan=False, negative_zero=False)
    """
    if dtype.kind == "b":
        return ValueRange(0, 1, True)
    if dtype.kind in "iu":
        info = np.iinfo(dtype.str)
        return ValueRange(int(info.min), int(info.max), True)
    return UNKNOWN


def range_of_input(kind: TensorType) -> ValueRange:
    """The range of a model input: every number of its type that is finite."""
    if kind.dtype.kind != "f" or not holds_numbers(kind.dtype):
        return range_of_type(kind.dtype)
    largest = float(np.finfo(kind.dtype.str).max)
    return ValueRange(-largest, largest, False, negative_zero=True)


def range_of_codes(lower: int, upper: int) -> ValueRange:
    """The range of codes that a clip ends; in float a zero among them may have either sign.

    Examples
    --------
    >>> range_of_codes(1, 255).negative_zero
    False
    """
    return ValueRange(lower, upper, True, negative_zero=lower <= 0 <= upper)


def range_of_constant(value: Array) -> ValueRange:
    """The range of a constant's elements."""
    if value.size == 0 or value.dtype.kind not in "iubf":
        return UNKNOWN
    if value.dtype.kind != "f":
        return ValueRange(int(value.min()), int(value.max()), True)
    numbers = value[~np.isnan(value)]
    if numbers.size == 0:
        return UNKNOWN
    finite = numbers[np.isfinite(numbers)]
    return ValueRange(
        float(numbers.min()),
        float(numbers.max()),
        bool((finite == np.floor(finite)).all()),
        nan=numbers.size < value.size,
        negative_zero=bool((np.signbit(numbers) & (numbers == 0)).any()),
    )
