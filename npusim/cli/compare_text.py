"""What ``npusim compare`` prints for people when it compares with a float model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import click

from npusim.cli.output import Column, Row, count, paragraph, render_table
from npusim.comparison.findings import AGREEING
from npusim.comparison.layer_result import Attribution, ErrorPart
from npusim.comparison.result import Classification, FloatComparison, LayerComparison, OutputComparison
from npusim.findings import Finding
from npusim.results.base import SampleSource

__all__ = ["print_comparison"]

COLUMNS: Final = (
    Column("layer", shrinks=True),
    Column("kind"),
    Column("SQNR\n(dB)", right=True),
    Column("alone\n(dB)", right=True),
    Column("bias\n(LSB)", right=True),
    Column("max\n(LSB)", right=True),
    Column("clip\n(%)", right=True),
    Column("mostly"),
    Column("gain\n(dB)", right=True),
)

LEGEND: Final = (
    "SQNR: against the float tensor. alone: of the layer fed with the float model's activations. bias, max: signed mean and "
    "largest error. clip: codes on a rail, without the zeros of a ReLU. mostly: where most of the error comes from, and how "
    "much of its energy: inputs of the layer, weights, scale (with bias and shift), floor, clip. gain: what the output would "
    "win if this layer alone were float."
)

MARKED_DB: Final = 3.0
"""Gain of the output from which on a layer is marked."""

PART_WORDS: Final = {
    "inherited": "inputs",
    "weights": "weights",
    "bias_and_scale": "scale",
    "rounding": "floor",
    "clipping": "clip",
}


def print_comparison(comparison: FloatComparison, findings: Sequence[Finding], source: SampleSource, width: int) -> None:
    """A table of the layers, the outputs, the findings, and the verdict."""
    for line in render_table(COLUMNS, [_row(layer) for layer in comparison.layers], width):
        click.echo(click.style(line, fg="red") if line.startswith("!!") else line)
    click.echo()
    click.echo(paragraph(LEGEND, width))
    for output in comparison.outputs:
        click.echo()
        for text in _output(output):
            click.echo(paragraph(text, width))
    if findings:
        click.echo()
    for finding in findings:
        where = "" if finding.layer is None else f" '{finding.layer}':"
        click.echo(paragraph(f"{finding.severity} ({finding.rule}){where} {finding.message}; {finding.remedy}.", width))
    click.echo()
    click.echo(paragraph(_verdict(comparison, source), width))


def _row(layer: LayerComparison) -> Row:
    gain = None if layer.effect is None else layer.effect.if_float_gain_db
    rails = layer.codes.share_on_upper + (0.0 if layer.codes.lower_is_relu else layer.codes.share_on_lower)
    cells = (
        layer.name,
        layer.operator or layer.kind,
        _decibels(layer.metrics.sqnr_db),
        "" if layer.attribution is None else _decibels(layer.attribution.introduced_sqnr_db),
        _short(layer.metrics.mean_error_lsb),
        f"{layer.metrics.largest_error_lsb:.3g}",
        f"{100 * rails:.2g}" if layer.codes.has_rails else "",
        "" if layer.attribution is None else _mostly(layer.attribution),
        "" if gain is None or math.isnan(gain) else f"{round(gain, 1) + 0.0:+.1f}",
    )
    return Row(cells, gain is not None and gain >= MARKED_DB)


def _short(value: float) -> str:
    return f"{value + 0.0:.2f}" if abs(value) < 100 else f"{value:.3g}"


def _mostly(attribution: Attribution) -> str:
    """The largest part of the error in a word, with its share where that is below all."""
    largest: ErrorPart = max(attribution.parts, key=lambda part: part.share)
    if largest.share <= 0:
        return "-"
    return f"{PART_WORDS[largest.name]} {100 * largest.share:.0f}%"


def _decibels(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else ("inf" if value > 0 else str(value))


def _output(output: OutputComparison) -> list[str]:
    texts = [
        f"output '{output.tensor}': SQNR {_decibels(output.sqnr_db)} dB ({_decibels(output.fitted_sqnr_db)} dB with the best "
        f"common scale), mean error {output.mean_error:.3g}, largest {output.largest_error:.3g}, R2 {output.r_squared:.4f}, "
        f"SMAPE {output.smape:.3g}%",
        f"sample by sample: median {_decibels(output.sample_sqnr_median_db)} dB, a tenth of the samples at most "
        f"{_decibels(output.sample_sqnr_tenth_db)} dB",
    ]
    if output.classification is not None:
        texts += _classes(output.classification)
    if output.regression is not None:
        found = output.regression
        texts.append(
            f"against the targets, float and quantized: R2 {found.float_r_squared:.4f} and {found.quantized_r_squared:.4f}, "
            f"SMAPE {found.float_smape:.3g}% and {found.quantized_smape:.3g}%, mean absolute error "
            f"{found.float_mean_absolute_error:.3g} and {found.quantized_mean_absolute_error:.3g}"
        )
    if output.worst:
        shown = ", ".join(f"{sample.sample} ({sample.error:.3g})" for sample in output.worst[:5])
        texts.append(f"worst samples (root mean square error): {shown}")
    return texts


def _classes(found: Classification) -> list[str]:
    samples = int(found.agreement_confusion.sum())
    texts = [f"same class in both models: {100 * found.agreement:.2f}%, {count(found.flip_count, 'flip')} in {samples:,}"]
    if found.float_accuracy is not None and found.quantized_accuracy is not None:
        texts.append(
            f"accuracy on {count(found.labelled, 'labelled sample')}: float {100 * found.float_accuracy:.2f}%, quantized "
            f"{100 * found.quantized_accuracy:.2f}% ({found.flips_to_wrong} turned wrong, {found.flips_to_right} turned right)"
        )
    if found.flips:
        shown = ", ".join(
            f"{flip.sample} ({flip.float_class} to {flip.quantized_class}, margin {flip.float_margin:.3g})"
            for flip in found.flips[:5]
        )
        texts.append(f"flips by margin of the float model: {shown}")
    return texts


def _verdict(comparison: FloatComparison, source: SampleSource) -> str:
    layers = count(len(comparison.layers), "layer")
    aligned = f"{layers} aligned" + (f", {len(comparison.unpaired)} not" if comparison.unpaired else "")
    sure = sum(layer.pair.confidence == "certain" for layer in comparison.layers)
    kind = "generated " if source.path is None else ""
    scale = ""
    if comparison.scale_agreement is not None and comparison.scale_agreement <= AGREEING:
        scale = f"; recovered scales agree with the model's own output scale within {100 * comparison.scale_agreement:.2g}%"
    together = ""
    if math.isfinite(comparison.weights_float_sqnr_db):
        together = f"; with all layers with weights in float the output has {comparison.weights_float_sqnr_db:.1f} dB"
    return (
        f"{aligned} ({sure} certain), {kind}{count(comparison.samples, 'sample')}, parts and gains on "
        f"{comparison.experiment_samples:,} of them{together}{scale}"
    )
