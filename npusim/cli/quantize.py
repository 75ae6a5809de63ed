"""``npusim quantize``: from a float model and calibration samples to a model in integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from npusim.cli.destinations import check_destination, force_option
from npusim.cli.options import INPUT_FILES, json_option, model_argument, quiet_option
from npusim.cli.output import Column, Row, count, note, paragraph, print_json, render_table, terminal_width
from npusim.cli.paths import SOURCE, Destination, as_given
from npusim.cli.progress import progress
from npusim.errors import printable
from npusim.findings import Finding
from npusim.quantization import QuantizedModel
from npusim.quantization.model import ACTIVATION_BITS, MIXED, TARGETS, WEIGHT_BITS, LayerReport, check_ending
from npusim.results.quantization import quantize

__all__ = ["quantize_command"]

COLUMNS: Final = (
    Column("#", right=True),
    Column("kind"),
    Column("layer", shrinks=True),
    Column("weights\nbits", right=True),
    Column("one output code is", right=True),
    Column("SQNR\ndB", right=True),
)


@click.command("quantize", short_help="Make a model in integers from a float model.")
@model_argument
@click.option(
    "--calibration", type=SOURCE, metavar="FILE", required=True, help=f"Samples of the model's inputs: {INPUT_FILES}."
)
@click.option(
    "-o", "target", type=Destination(".onnx"), metavar="OUT", required=True, help="Write the quantized model to this file."
)
@click.option(
    "--to",
    type=click.Choice(TARGETS),
    default="tinpu",
    show_default=True,
    help="ONNX for TI's NPU; a TensorFlow Lite model in integers: .tflite, or .h, .c, .cc with it as a C array; ONNX of the "
    "PLiNIO and MATCH family.",
)
@click.option(
    "--weight-bits",
    type=click.Choice([*(str(bits) for bits in WEIGHT_BITS), MIXED]),
    default="8",
    show_default=True,
    help="Of weights; mixed: the fewest that each output channel bears, with --to match.",
)
@click.option(
    "--activation-bits",
    type=click.Choice([str(bits) for bits in ACTIVATION_BITS]),
    default="8",
    show_default=True,
    help="Of codes between layers.",
)
@click.option(
    "--output",
    "output_type",
    type=click.Choice(["int", "float"]),
    default="int",
    show_default=True,
    help="Give codes, or real values by a last multiplication; with --to tflite also take real values.",
)
@force_option
@quiet_option
@json_option
def quantize_command(
    model: str,
    calibration: str,
    target: str,
    to: str,
    weight_bits: str,
    activation_bits: str,
    output_type: str,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Quantize MODEL, a float .onnx file, after training.

    Ranges, steps of weights, rounding and biases are chosen by what loses least on the calibration samples: some hundred that
    look like what the device will see. Each layer is quantized on what the quantized layers before it give, so that it makes
    good what they lost. The result keeps all widths of the NPU, runs in onnxruntime, and is checked in the simulator before it
    is written. With --to tflite it is a full-integer TensorFlow Lite model, whose tensors have channels last; with
    --to match a file of the PLiNIO and MATCH family, whose inputs are codes of the quantizer that is printed. SQNR compares
    each layer with the float model on the calibration samples.

    The exit code is 0 when the model is written, warnings included.

    \b
    Example: npusim quantize float.onnx --calibration windows.npz --weight-bits 4 -o w4.onnx
             npusim quantize float.onnx --calibration windows.npz --to tflite -o model.h
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    check_ending(target, to)
    check_destination(target, (model, calibration), force=force)
    with progress("quantize", quiet=quiet, unit="layers") as report:
        result = quantize(
            model,
            calibration,
            MIXED if weight_bits == MIXED else int(weight_bits),
            int(activation_bits),
            float_output=output_type == "float",
            to=to,
            output=target,
            overwrite=force,
            progress=report,
            announce=note,
        )
    if as_json:
        print_json(result)
    else:
        _print(result.quantization, result.findings, target)
    return 0


def _print(found: QuantizedModel, findings: Sequence[Finding], target: str) -> None:
    width = terminal_width()
    rows = [
        Row(
            (
                str(number),
                layer.kind,
                layer.name,
                _bits(layer),
                "float" if layer.output_scale is None else _range(layer.output_scale),
                f"{layer.sqnr:.1f}",
            )
        )
        for number, layer in enumerate(found.layers, 1)
    ]
    for line in render_table(COLUMNS, rows, width):
        click.echo(line)
    click.echo()
    for finding in findings:
        click.echo(paragraph(f"{finding.severity}: {finding.message}; {finding.remedy}", width))
    scales = ", ".join(f"{name} {scale:.6g}" for name, scale in found.output_scales.items())
    click.echo(paragraph(f"One code of the output is: {scales}.", width))
    for name, (low, high) in found.input_alpha.items():
        told = f"floor(255 / ({high - low:.6g} + 0.001) * clamp(x, {low:.6g}, {high:.6g}))"
        click.echo(paragraph(f"Codes of input {printable(name)} are: {told}; the file does not say so.", width))
    click.echo(f"Written: {printable(as_given(str(target)))}, {count(len(found.file(target)), 'byte')}")


def _bits(layer: LayerReport) -> str:
    """Bits of the weights, the fewest and the most."""
    if layer.weight_bits is None or len(layer.channel_bits) < 2:
        return "" if layer.weight_bits is None else str(layer.weight_bits)
    return f"{min(layer.channel_bits)}-{layer.weight_bits}"


def _range(scale: tuple[float, float]) -> str:
    lower, upper = (f"{value:.3g}" for value in scale)
    return lower if lower == upper else f"{lower} .. {upper}"
