"""The network as a picture: layers from top to bottom, coloured by the error that each introduces."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from npusim.comparison.report.figures import decibels, shade
from npusim.comparison.result import LayerComparison

__all__ = ["network_picture"]

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
