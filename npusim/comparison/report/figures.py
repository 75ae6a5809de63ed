"""Numbers as short text for people, and the steps of the colour scale."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["SHADES", "decibels", "number", "percent", "shade"]

SHADES: Final = (40.0, 30.0, 24.0, 18.0, 12.0)
"""SQNR in dB below which the colours get stronger: 40 dB is the rounding of 7 bits, 12 dB is noise a quarter as large as the
signal."""


def number(value: float | None, digits: int = 3) -> str:
    """A number with some significant digits; a dash for what is not known.

    Examples
    --------
    >>> number(0.012345), number(float("inf")), number(None)
    ('0.0123', '∞', '-')
    """
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}" if abs(value) < 10_000 else f"{value:,.0f}"


def decibels(value: float | None) -> str:
    """A ratio in dB with one decimal.

    Examples
    --------
    >>> decibels(23.456), decibels(float("inf"))
    ('23.5', '∞')
    """
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value:.1f}"


def percent(share: float | None) -> str:
    """A share as percent; a trace is never shown as nothing.

    Examples
    --------
    >>> percent(0.1234), percent(0.0), percent(0.00001)
    ('12.3%', '0%', '<0.1%')
    """
    if share is None or math.isnan(share):
        return "-"
    if share == 0:
        return "0%"
    return "<0.1%" if 0 < share < 0.001 else f"{share * 100:.3g}%"


def shade(sqnr_db: float | None) -> int:
    """Step of the colour scale, 0 (calm) to 5 (strong), for an error alone.

    Examples
    --------
    >>> shade(50.0), shade(20.0), shade(3.0), shade(None)
    (0, 3, 5, 0)
    """
    if sqnr_db is None or math.isnan(sqnr_db):
        return 0
    return sum(sqnr_db < limit for limit in SHADES)
