"""Choices of widths that were measured, the best of them, and a plot."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated, Final, Literal

from npusim.errors import UsageError
from npusim.quantization.model import WEIGHT_BITS
from npusim.schemas.derivation import Choice, Count, Finite

__all__ = ["QuantizedChoice", "check_choices_ending", "choices_plot", "pareto_front"]

WIDTH: Final = 640
HEIGHT: Final = 400
EDGE: Final = 56
"""Pixels around the area of the plot."""


@dataclass(frozen=True, slots=True)
class QuantizedChoice:
    """A choice of widths that was made and measured in integers on the calibration samples.

    Attributes
    ----------
    bytes
        Of parameters: weights packed, biases, scales and shifts.
    sqnr
        Of the first output, in dB.
    accuracy
        Share of samples with the right class, or without labels with the float model's; null for outputs without classes.
    predicted
        SQNR that the sensitivities of single layers led to expect, in dB; null where all layers have one width.
    refined
        Whether single weights were moved afterwards for the sake of the outputs.
    chosen
        Whether this is the model.
    layer_bits
        Width of the weights of each layer.
    """

    bytes: Count
    sqnr: Annotated[float, Finite()] | Literal["inf"]
    accuracy: Annotated[float, Finite()] | None
    predicted: Annotated[float, Finite()] | Literal["inf"] | None
    refined: bool
    chosen: bool
    layer_bits: Mapping[str, Annotated[int, Choice(WEIGHT_BITS)]]


def check_choices_ending(path: str | os.PathLike[str]) -> None:
    """Make sure that a file's name says whether it is a table or a plot.

    Raises
    ------
    UsageError
        If it does not.
    """
    if Path(path).suffix not in (".csv", ".svg"):
        raise UsageError(f"{path}: choices of bits are written as a table, .csv, or as a plot, .svg; name such a file")


def pareto_front(choices: Sequence[QuantizedChoice]) -> tuple[QuantizedChoice, ...]:
    """Choices that no other one beats in bytes without losing SQNR, the smallest first."""
    front: list[QuantizedChoice] = []
    for choice in sorted(choices, key=lambda one: (one.bytes, -float(one.sqnr))):
        if not front or float(choice.sqnr) > float(front[-1].sqnr):
            front.append(choice)
    return tuple(front)


def choices_plot(choices: Sequence[QuantizedChoice]) -> str:
    """SQNR against bytes as SVG: a dot for each choice, a line through the best, the chosen one filled."""
    known = [choice for choice in choices if math.isfinite(float(choice.sqnr))]
    sizes, levels = [choice.bytes for choice in known] or [0], [float(choice.sqnr) for choice in known] or [0.0]
    left, right = min(sizes), max(sizes) + (min(sizes) == max(sizes))
    low, high = math.floor(min(levels) / 5) * 5, math.floor(max(levels) / 5) * 5 + 5

    def place(choice: QuantizedChoice) -> tuple[float, float]:
        across = (choice.bytes - left) / (right - left) * (WIDTH - 2 * EDGE) + EDGE
        up = (float(choice.sqnr) - low) / (high - low) * (HEIGHT - 2 * EDGE) + EDGE
        return round(across, 1), round(HEIGHT - up, 1)

    lines = [
        f'<line x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        f'<text x="{EDGE - 8}" y="{y + 4}" text-anchor="end">{level}</text>'
        for level in range(low, high + 1, 5)
        for y in [round(HEIGHT - EDGE - (level - low) / (high - low) * (HEIGHT - 2 * EDGE), 1)]
    ]
    path = " ".join(f"{x},{y}" for x, y in map(place, pareto_front(known)))
    dots = []
    for choice in known:
        x, y = place(choice)
        widths = ", ".join(f"{name} {bits}" for name, bits in choice.layer_bits.items())
        told = escape(f"{choice.bytes:,} bytes, {float(choice.sqnr):.1f} dB: {widths}")
        fill = "#c00" if choice.chosen else "#fff"
        dots.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{fill}" stroke="#06c"><title>{told}</title></circle>')
    ends = "".join(
        f'<text x="{x}" y="{HEIGHT - EDGE + 20}" text-anchor="middle">{size:,}</text>'
        for x, size in ((EDGE, left), (WIDTH - EDGE, right))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(lines)}{ends}'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">bytes of parameters</text>'
        f'<text x="{EDGE}" y="{EDGE - 16}" text-anchor="middle">SQNR, dB</text>'
        f'<polyline points="{path}" fill="none" stroke="#06c"/>{"".join(dots)}</svg>\n'
    )
