"""Functions that generated C shares, each written out only where it is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["helpers_for"]

_HELPERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "npusim_shift32": """/* value / 2^shift, rounded down: >> of a negative number is not defined by C */
static int32_t npusim_shift32(int32_t value, int32_t shift)
{
    return value >= 0 ? value >> shift : ~(~value >> shift);
}
""",
        "npusim_shift64": """/* value / 2^shift, rounded down: >> of a negative number is not defined by C */
static int64_t npusim_shift64(int64_t value, int32_t shift)
{
    return value >= 0 ? value >> shift : ~(~value >> shift);
}
""",
        "npusim_weight4": """/* The weight of 4 bits with this number, two in a byte, the low one first. */
static int32_t npusim_weight4(const npusim_u8 *packed, int32_t number)
{
    int32_t bits = ((int32_t)packed[number >> 1] >> (number % 2 * 4)) & 15;
    return bits < 8 ? bits : bits - 16;
}
""",
        "npusim_weight2": """/* The weight of 2 bits with this number, four in a byte, the low one first. */
static int32_t npusim_weight2(const npusim_u8 *packed, int32_t number)
{
    int32_t bits = ((int32_t)packed[number >> 2] >> (number % 4 * 2)) & 3;
    return bits < 2 ? bits : bits - 4;
}
""",
        "npusim_round": """/* To the nearest whole number, halves to the even one. */
static float npusim_round(float x)
{
    float whole = npusim_floor(x), rest = x - whole, half = whole * 0.5f;
    if (rest > 0.5f || (rest == 0.5f && npusim_floor(half) != half)) {
        whole = whole + 1.0f;
    }
    return whole;
}
""",
        "npusim_floor": """/* Down to a whole number. */
static float npusim_floor(float x)
{
    float whole;
    if (!(x > -8388608.0f && x < 8388608.0f)) {
        return x; /* from 2^23 on every float is whole */
    }
    whole = (float)(int32_t)x;
    return whole > x ? whole - 1.0f : whole == x ? x : whole;
}
""",
        "npusim_min": """static float npusim_min(float a, float b)
{
    return b < a ? b : a;
}
""",
        "npusim_max": """static float npusim_max(float a, float b)
{
    return b > a ? b : a;
}
""",
    }
)
"""In an order such that each stands behind what calls it."""


def helpers_for(source: str) -> str:
    """The helpers that source calls, and those that they call, each before its callers."""
    chosen: list[str] = []
    text = source
    for name, body in _HELPERS.items():
        if re.search(rf"\b{name}\(", text):
            chosen.insert(0, body)
            text += body
    return "\n".join(chosen)
