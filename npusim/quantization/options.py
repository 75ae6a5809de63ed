"""What a user can choose when quantizing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from npusim.errors import UsageError

__all__ = ["ACTIVATION_BITS", "WEIGHT_BITS", "Options"]

WEIGHT_BITS: Final = (8, 4, 2)
"""Widths of weights that the NPU has."""

ACTIVATION_BITS: Final = (8, 4)
"""Widths of codes between layers."""


@dataclass(frozen=True, slots=True)
class Options:
    """Choices that hold for the whole network.

    Attributes
    ----------
    weight_bits
        8, 4 or 2.
    activation_bits
        8 or 4; inputs and outputs of the model always have 8.
    float_output
        Whether the model gives real values, by a last multiplication, instead of codes.

    Raises
    ------
    UsageError
        If a width is not one of these.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    float_output: bool = False

    def __post_init__(self) -> None:
        if self.weight_bits not in WEIGHT_BITS:
            raise UsageError(f"weight_bits is {self.weight_bits}, wanted 8, 4 or 2")
        if self.activation_bits not in ACTIVATION_BITS:
            raise UsageError(f"activation_bits is {self.activation_bits}, wanted 8 or 4")
