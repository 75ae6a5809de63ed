"""What the report draws: charts and the network as inline SVG, and numbers as short text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from npusim.comparison.code_sums import Histogram
from npusim.comparison.layer_result import ErrorPart, Scatter
from npusim.comparison.result import LayerComparison
from npusim.comparison.sums import FloatArray

__all__ = [
    "SHADES",
    "channel_heatmap",
    "channel_strip",
    "decibels",
    "histogram_chart",
    "network_picture",
    "number",
    "parts_bar",
    "percent",
    "scatter_chart",
    "shade",
]

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


BOX: Final = (236, 30)
GAP: Final = (18, 16)
LONGEST: Final = 26
"""Characters of a layer's name that are shown; the end says more than the beginning."""


def network_picture(layers: Sequence[LayerComparison], /) -> str:
    """Draw the layers; one that reads two others stands below both.

    Parameters
    ----------
    layers
        In execution order. What a layer reads that is not among them is left out.
    """
    depths: dict[str, int] = {}
    rows: list[list[LayerComparison]] = []
    for layer in layers:
        depth = 1 + max((depths[name] for name in layer.inputs if name in depths), default=-1)
        depths[layer.name] = depth
        while len(rows) <= depth:
            rows.append([])
        rows[depth].append(layer)
    widest = max((len(row) for row in rows), default=1)
    width = widest * (BOX[0] + GAP[0])
    places: dict[str, tuple[float, float]] = {}
    for depth, row in enumerate(rows):
        left = (width - len(row) * (BOX[0] + GAP[0]) + GAP[0]) / 2
        for column, layer in enumerate(row):
            places[layer.name] = left + column * (BOX[0] + GAP[0]), depth * (BOX[1] + GAP[1])
    height = len(rows) * (BOX[1] + GAP[1])
    edges = "".join(_edge(places[name], places[layer.name]) for layer in layers for name in layer.inputs if name in places)
    boxes = "".join(_box(layer, *places[layer.name]) for layer in layers)
    return (
        f'<svg class="network" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="The network, {len(layers)} layers">{edges}{boxes}</svg>'
    )


def _edge(source: tuple[float, float], target: tuple[float, float]) -> str:
    x1, y1 = source[0] + BOX[0] / 2, source[1] + BOX[1]
    x2, y2 = target[0] + BOX[0] / 2, target[1]
    if x1 == x2 and y2 - y1 > GAP[1]:  # past the layers between the two
        side = x1 + BOX[0] / 2 + GAP[0] / 2
        return f'<path class="edge" d="M{x1:g} {y1:g}C{side:g} {y1 + 8:g} {side:g} {y2 - 8:g} {x2:g} {y2:g}"/>'
    middle = (y1 + y2) / 2
    return f'<path class="edge" d="M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"/>'


def _box(layer: LayerComparison, x: float, y: float) -> str:
    alone = None if layer.attribution is None else layer.attribution.introduced_sqnr_db
    name = layer.name if len(layer.name) <= LONGEST else "…" + layer.name[-LONGEST + 1 :]
    figure = "" if alone is None else f"{decibels(alone)} dB"
    return (
        f'<a href="#layer-{layer.index}"><rect class="shade-{shade(alone)}" x="{x:g}" y="{y:g}" width="{BOX[0]}" '
        f'height="{BOX[1]}" rx="4"/><text x="{x + 7:g}" y="{y + 12:g}">{escape(layer.kind)}'
        f"{'' if layer.weight_bits is None else f' {layer.weight_bits}-bit'}</text>"
        f'<text x="{x + 7:g}" y="{y + 24:g}" class="name">{escape(name)}</text>'
        f'<text x="{x + BOX[0] - 7:g}" y="{y + 19:g}" text-anchor="end" class="figure">{figure}</text></a>'
    )
