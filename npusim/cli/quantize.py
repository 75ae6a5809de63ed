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
from npusim.quantization.model import ACTIVATION_BITS, AUTO, MIXED, TARGETS, WEIGHT_BITS, LayerReport, check_ending
from npusim.results.quantization import QuantizeResult, quantize
from npusim.results.quantized_choices import QuantizedChoice, check_choices_ending

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
    type=click.Choice([*(str(bits) for bits in WEIGHT_BITS), AUTO, MIXED]),
    default="8",
    show_default=True,
    help="Of weights; auto: of each layer, under the limits below; mixed: the fewest that each output channel bears, with "
    "--to match.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --weight-bits auto: what loses least while parameters take at most so many bytes on the device.",
)
@click.option(
    "--max-cycles",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --weight-bits auto: refuse what lint estimates to be slower; its estimate does not depend on bits.",
)
@click.option(
    "--min-sqnr",
    type=float,
    metavar="D",
    help="With --weight-bits auto: the least SQNR of the output on the calibration samples, in dB; without --max-bytes the "
    "smallest parameters that reach it are chosen.",
)
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="The same for the accuracy, in percent; without --labels the part of samples with the float model's class.",
)
@click.option("--labels", type=SOURCE, metavar="Y.npz", help="With --weight-bits auto: classes of the calibration samples.")
@click.option(
    "--pareto",
    type=Destination(".csv"),
    metavar="OUT",
    multiple=True,
    help="With --weight-bits auto: measure the best choice for every size, and write them as a table (.csv) or a plot (.svg).",
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
    max_bytes: int | None,
    max_cycles: int | None,
    min_sqnr: float | None,
    min_accuracy: float | None,
    labels: str | None,
    pareto: tuple[str, ...],
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

    With --weight-bits auto each layer gets 8, 4 or 2 bits, by what each alone loses on the output; see the documentation. It
    needs scipy: pip install '.[solver]'.

    The exit code is 0 when the model is written, warnings included.

    \b
    Example: npusim quantize float.onnx --calibration windows.npz --weight-bits 4 -o w4.onnx
             npusim quantize float.onnx --calibration windows.npz --weight-bits auto --max-bytes 4000 -o auto.onnx
             npusim quantize float.onnx --calibration windows.npz --to tflite -o model.h
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    check_ending(target, to)
    sources = (model, calibration, *(() if labels is None else (labels,)))
    for path in pareto:
        check_choices_ending(path)
    for destination in (target, *pareto):
        check_destination(destination, sources, force=force)
    with progress("quantize", quiet=quiet, unit="layers") as report:
        result = quantize(
            model,
            calibration,
            weight_bits if weight_bits in (AUTO, MIXED) else int(weight_bits),
            int(activation_bits),
            float_output=output_type == "float",
            to=to,
            output=target,
            overwrite=force,
            progress=report,
            announce=note,
            max_bytes=max_bytes,
            max_cycles=max_cycles,
            min_sqnr=min_sqnr,
            min_accuracy=None if min_accuracy is None else min_accuracy / 100,
            labels=labels,
            all_choices=bool(pareto),
        )
    for path in pareto:
        result.save_choices(path, overwrite=force)
    if as_json:
        print_json(result)
    else:
        _print(result.quantization, result.findings, target)
        _print_choice(result)
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


def _print_choice(result: QuantizeResult) -> None:
    """What the chosen widths cost and give, and what the same bits everywhere would."""
    if not result.choices:
        return
    chosen = next(choice for choice in result.choices if choice.chosen)
    click.echo(f"Parameters take {count(chosen.bytes, 'byte')}; {_reached(chosen)}.")
    for bits in WEIGHT_BITS:
        for choice in result.choices:
            if choice.predicted is None and not choice.refined and set(choice.layer_bits.values()) == {bits}:
                click.echo(f"With {bits} bits everywhere: {count(choice.bytes, 'byte')}; {_reached(choice)}.")


def _reached(choice: QuantizedChoice) -> str:
    classes = "" if choice.accuracy is None else f", {choice.accuracy:.2%} of the classes right"
    return f"SQNR {float(choice.sqnr):.1f} dB{classes}, on the calibration samples"


def _bits(layer: LayerReport) -> str:
    """Bits of the weights, the fewest and the most."""
    if layer.weight_bits is None or len(layer.channel_bits) < 2:
        return "" if layer.weight_bits is None else str(layer.weight_bits)
    return f"{min(layer.channel_bits)}-{layer.weight_bits}"


def _range(scale: tuple[float, float]) -> str:
    lower, upper = (f"{value:.3g}" for value in scale)
    return lower if lower == upper else f"{lower} .. {upper}"
