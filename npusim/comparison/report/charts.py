"""Charts as inline SVG: colours come from the page's style sheet, so that one picture serves light, dark and print."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Final

import numpy as np

from npusim.comparison.code_sums import Histogram
from npusim.comparison.layer_result import ErrorPart, Scatter
from npusim.comparison.report.figures import number
from npusim.comparison.sums import FloatArray

__all__ = ["channel_heatmap", "channel_strip", "histogram_chart", "parts_bar", "scatter_chart"]

WIDTH: Final = 320
HEIGHT: Final = 96
FOOT: Final = 16
"""Room for the labels of an axis."""

INK: Final = (46, 116, 204)
"""Colour of heat maps: read as well on white as on black."""

STRONGEST_DB: Final = 60.0
"""SQNR at which the bar of a channel ends."""


def histogram_chart(histogram: Histogram, /, *, title: str, rails: Sequence[float] = ()) -> str:
    """Bars of all channels together; heights are square roots of counts, so that rare values are seen beside common ones.

    Parameters
    ----------
    histogram
        Counts.
    title
        What is counted; read out by screen readers.
    rails
        Values to mark.
    """
    whole = histogram.over_channels()
    counts = whole.counts[0]
    first, last = _shown(whole, rails)
    heights = np.sqrt(counts[first:last] / max(int(counts.max()), 1)) * HEIGHT
    step = WIDTH / max(last - first, 1)
    bars = "".join(
        f"M{index * step:.1f} {HEIGHT}v-{height:.1f}h{step:.2f}v{height:.1f}z" for index, height in enumerate(heights) if height
    )
    low, high = whole.start + first * whole.width, whole.start + last * whole.width
    marks = "".join(_rail((rail + 0.5 * whole.width - low) / (high - low) * WIDTH, rail) for rail in rails)
    outside = int(whole.below[0] + whole.above[0])
    note = f", {outside:,} values outside" if outside else ""
    return (
        f'<svg class="chart" viewBox="0 -8 {WIDTH} {HEIGHT + FOOT + 8}" role="img" aria-label="{title}{note}">'
        f'<path class="bar" d="{bars}"/><path class="axis" d="M0 {HEIGHT}h{WIDTH}"/>{marks}'
        f'<text x="0" y="{HEIGHT + 12}">{number(low)}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 12}" text-anchor="end">{number(high - whole.width)}</text></svg>'
    )


def _shown(histogram: Histogram, rails: Sequence[float]) -> tuple[int, int]:
    """The bins worth showing, from the first to one past the last: those with values, and those of the rails."""
    bins = histogram.counts.shape[1]
    places = [int(np.floor((rail - histogram.start) / histogram.width)) for rail in rails]
    used = [*np.flatnonzero(histogram.counts.sum(axis=0)), *(place for place in places if 0 <= place < bins)]
    return (int(min(used)), int(max(used)) + 1) if used else (0, bins)


def _rail(x: float, value: float) -> str:
    anchor, aside = ("start", 3) if x < WIDTH / 2 else ("end", -3)
    label = f'<text class="rail-label" x="{x + aside:.1f}" y="0" text-anchor="{anchor}">{number(value)}</text>'
    return f'<path class="rail" d="M{x:.1f} 0v{HEIGHT}"/>{label}'


def scatter_chart(scatter: Scatter, /, *, title: str) -> str:
    """Float values across, quantized values up, and the line on which they are equal."""
    x, y = scatter.float_values, scatter.quantized_values
    side = 200
    if not len(x):
        return ""
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    span = (high - low) or 1.0
    points = np.unique(np.round(np.stack([(x - low) / span * side, side - (y - low) / span * side], axis=1), 1), axis=0)
    path = "".join(f"M{column:g} {row:g}h0" for column, row in points)
    return (
        f'<svg class="chart square" viewBox="-4 -4 {side + 8} {side + FOOT + 4}" role="img" aria-label="{title}">'
        f'<path class="axis" d="M0 {side}L{side} 0"/><path class="point" d="{path}"/>'
        f'<text x="0" y="{side + 12}">{number(low)}</text>'
        f'<text x="{side}" y="{side + 12}" text-anchor="end">{number(high)}</text></svg>'
    )


def channel_heatmap(histogram: Histogram, /, *, title: str, rails: Sequence[float] = ()) -> str:
    """One line for each channel, one column for each bin, the stronger the more values (fourth root, by channel)."""
    from PIL import Image

    counts = histogram.counts
    first, last = _shown(histogram, rails)
    counts = counts[:, first:last]
    pixels = np.zeros((*counts.shape, 4), np.uint8)
    pixels[..., :3] = INK
    pixels[..., 3] = np.round(255 * (counts / np.maximum(counts.max(axis=1, keepdims=True), 1)) ** 0.25)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png", optimize=True)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    height = int(np.clip(6 * len(counts), 36, 260))
    low = histogram.start + first * histogram.width
    span = (last - first) * histogram.width
    marks = "".join(
        f'<path class="rail" d="M{(rail + 0.5 * histogram.width - low) / span * WIDTH:.1f} 0v{height}"/>' for rail in rails
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height + FOOT}" role="img" aria-label="{title}">'
        f'<image href="data:image/png;base64,{data}" width="{WIDTH}" height="{height}" preserveAspectRatio="none"/>'
        f'<path class="frame" d="M0 0h{WIDTH}v{height}h-{WIDTH}z"/>{marks}'
        f'<text x="0" y="{height + 12}">{number(low)}</text>'
        f'<text x="{WIDTH}" y="{height + 12}" text-anchor="end">{number(low + span - histogram.width)}</text></svg>'
    )


def channel_strip(sqnr_db: FloatArray, /, *, title: str) -> str:
    """A bar for each channel: its SQNR, from 0 to 60 dB; without any error the whole height."""
    shares = np.nan_to_num(np.clip(sqnr_db / STRONGEST_DB, 0, 1), nan=0.0, posinf=1.0)
    step, height = WIDTH / len(shares), 48
    bars = "".join(
        f"M{index * step:.1f} {height}v-{share * height:.1f}h{step * 0.85:.2f}v{share * height:.1f}z"
        for index, share in enumerate(shares)
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height + FOOT}" role="img" aria-label="{title}">'
        f'<path class="bar" d="{bars}"/><path class="axis" d="M0 {height}h{WIDTH}"/>'
        f'<text x="0" y="{height + 12}">0</text>'
        f'<text x="{WIDTH}" y="{height + 12}" text-anchor="end">{len(shares) - 1}</text></svg>'
    )


def parts_bar(parts: Sequence[ErrorPart], /) -> str:
    """The parts of an error side by side, as long as the energy that each has; parts that cancel make the bar no shorter."""
    energies = [part.root_mean_square_error**2 for part in parts]
    whole = sum(energies) or 1.0
    pieces, start = [], 0.0
    for part, energy in zip(parts, energies, strict=True):
        width = energy / whole * WIDTH
        label = part.name.replace("_", " ")
        if width >= 0.5:
            place = f'x="{start:.1f}" y="0" width="{width:.1f}" height="10"'
            pieces.append(f'<rect class="part-{part.name}" {place}><title>{label}</title></rect>')
        start += width
    return f'<svg class="parts" viewBox="0 0 {WIDTH} 10" preserveAspectRatio="none" aria-hidden="true">{"".join(pieces)}</svg>'
