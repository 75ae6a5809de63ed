"""What a user should know about a float network that is quantized."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Concern"]


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that could not be quantized, does not fit, or looks wrong.

    Attributes
    ----------
    rule
        ``kept_in_float``, ``bias_saturated``, ``coarse_input`` or ``silent_channels``.
    severity
        ``warning`` or ``info``.
    layer
        Name of the layer.
    message, remedy
        What is the case, and what to do about it, one clause each.
    """

    rule: str
    severity: str
    layer: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Both clauses."""
        return f"{self.message}; {self.remedy}"
