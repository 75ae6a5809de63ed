"""The page: what stands where, and writing it to a file."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import npusim
from npusim.comparison.layer_result import PART_NAMES
from npusim.comparison.report import drawings as charts
from npusim.comparison.report import drawings as figures
from npusim.comparison.report.drawings import network_picture
from npusim.comparison.result import FloatComparison, LayerComparison
from npusim.errors import UsageError, printable
from npusim.files.writing import replacing
from npusim.findings import Finding

__all__ = ["ReportContent", "check_drawable", "render_report", "write_report"]

NEEDED: Final = {"jinja2": "jinja2", "PIL": "pillow"}
"""Modules that draw a report, and the packages they come in."""

PART_MEANINGS: Final = {
    "inherited": "came with the inputs",
    "weights": "integer instead of float weights",
    "bias_and_scale": "rounded biases, scales and shifts",
    "rounding": "rounding the output to codes",
    "clipping": "clipping the output to its range",
}


@dataclass(frozen=True, slots=True, eq=False)
class ReportContent:
    """What a report shows.

    Attributes
    ----------
    model, model_sha256, against
        Names of the quantized and the float model, and the SHA-256 of the first.
    comparison
        Layer by layer.
    findings
        In the order in which they are to be read.
    """

    model: str
    model_sha256: str
    against: str
    comparison: FloatComparison
    findings: Sequence[Finding]


def check_drawable() -> None:
    """Make sure that what draws a report is installed, before any work for it.

    Raises
    ------
    UsageError
        Naming the packages that are missing.
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise UsageError(f"a report needs {' and '.join(missing)}, not installed here; pip install '.[report]'")


def render_report(content: ReportContent) -> str:
    """The page as HTML; the same content gives the same text.

    Raises
    ------
    UsageError
        If the packages that draw it are not installed.
    """
    check_drawable()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=figures.number, db=figures.decibels, percent=figures.percent, shade=figures.shade, cell=_cell_strength
    )
    environment.tests.update(finite=lambda value: value is not None and math.isfinite(value))
    template = environment.from_string((files(__package__) / "page.html.j2").read_text(encoding="utf-8"))
    comparison = content.comparison
    text: str = template.render(
        content=content,
        model=Path(content.model).name,
        against=Path(content.against).name,
        comparison=comparison,
        classifications=[item.classification for item in comparison.outputs if item.classification is not None],
        worst_layer=_worst_layer(comparison.layers),
        style=Markup((files(__package__) / "page.css").read_text(encoding="utf-8")),
        picture=Markup(network_picture(comparison.layers)),
        drawings={layer.index: {name: Markup(svg) for name, svg in _drawings(layer).items()} for layer in comparison.layers},
        part_names=PART_NAMES,
        part_meanings=PART_MEANINGS,
        places={layer.name: layer.index for layer in comparison.layers},
        version=npusim.__version__,
    )
    return printable(text, keep="\n\t\xa0")


def write_report(path: str | os.PathLike[str], content: ReportContent) -> None:
    """Write the page; it appears whole or not at all.

    Raises
    ------
    UsageError
        If the packages that draw it are not installed, or the file cannot be written.
    """
    text = render_report(content)
    with replacing(Path(path)) as file:
        file.write(text.encode("utf-8"))


def _drawings(layer: LayerComparison) -> dict[str, str]:
    rails = () if layer.kind == "HOST" else (layer.codes.lower, layer.codes.upper)
    found = {
        "codes": charts.histogram_chart(layer.code_histogram, title="Codes", rails=rails),
        "errors": charts.histogram_chart(layer.error_histogram, title="Error in LSB"),
        "scatter": charts.scatter_chart(layer.scatter, title="Quantized against float values"),
        "strip": charts.channel_strip(layer.channels.sqnr_db, title="SQNR of each channel"),
    }
    if len(layer.code_histogram.counts) > 1:
        found["channel_codes"] = charts.channel_heatmap(layer.code_histogram, title="Codes of each channel", rails=rails)
        found["channel_errors"] = charts.channel_heatmap(layer.error_histogram, title="Error in LSB of each channel")
    if layer.attribution is not None:
        found["parts"] = charts.parts_bar(layer.attribution.parts)
    return found


def _worst_layer(layers: Sequence[LayerComparison]) -> LayerComparison | None:
    """The layer that would give the output most, were it float."""
    known = [layer for layer in layers if layer.effect is not None and math.isfinite(layer.effect.if_float_gain_db)]
    gaining = [layer for layer in known if layer.effect is not None and layer.effect.if_float_gain_db > 0]
    return max(gaining, key=_gain, default=None)


def _gain(layer: LayerComparison) -> float:
    return -math.inf if layer.effect is None else layer.effect.if_float_gain_db


def _cell_strength(count: int, row: Any) -> float:  # noqa: ANN401 - a row of an integer matrix
    """Share of a row's counts, for the colour of a cell in a confusion matrix."""
    total = int(row.sum())
    return round(count / total, 3) if total else 0.0
