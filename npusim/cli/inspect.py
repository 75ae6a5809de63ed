"""``npusim inspect``: what a model consists of."""

from __future__ import annotations

from collections.abc import Container, Sequence

import click

from npusim.cli.input_stages import FORMULAS
from npusim.cli.options import (
    arithmetic_option,
    input_alpha_option,
    input_codes_option,
    input_stage_option,
    json_option,
    model_argument,
)
from npusim.cli.output import Column, Row, count, number, one_line, paragraph, print_json, render_table, terminal_width
from npusim.engine.planning import InputAlpha
from npusim.engine.session import InferenceSession
from npusim.graph.model_reader import read_model
from npusim.program.input_stage import InputStage
from npusim.program.inspection import Codes, Inspection, LayerSummary, inspect_program
from npusim.results.inspection import inspect_result
from npusim.rules.dialects import dialect_findings
from npusim.rules.match_findings import match_findings
from npusim.rules.recognition import recognition_findings

__all__ = ["inspect_command"]

DATA_COLUMNS = (
    Column("#", right=True),
    Column("kind"),
    Column("layer", shrinks=True),
    Column("input"),
    Column("output"),
    Column("params", right=True),
    Column("MACs", right=True),
)

ARITHMETIC_COLUMNS = (
    Column("#", right=True),
    Column("codes"),
    Column("kernel"),
    Column("stride"),
    Column("pads"),
    Column("weight\nbits", right=True),
    Column("scale", right=True),
    Column("shift", right=True),
    Column("clip", right=True),
)


@click.command("inspect", short_help="Show the layers of a model.")
@model_argument
@arithmetic_option
@input_codes_option
@input_alpha_option
@input_stage_option
@json_option
def inspect_command(
    model: str, arithmetic: str | None, input_codes: str | None, input_alpha: InputAlpha | None, input_stage: str, as_json: bool
) -> int:
    """Show the layers of MODEL, an .onnx file: kinds, shapes, codes, integer arithmetic, parameters and MACs.

    The column codes tells what a layer reads and makes: u8 or s8 for unsigned or signed integers and the bits that hold every
    code the tensor can have, or float. What is not a layer in integers is a host operation (HOST), listed with the reason.
    Whether a device runs a layer on its NPU is not judged here.

    \b
    Example: npusim inspect model.onnx
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    session = InferenceSession(
        model, arithmetic=arithmetic, input_codes=input_codes, input_alpha=input_alpha, input_stage=input_stage
    )
    found = inspect_program(session.program)
    graph = read_model(session.model)
    findings = (
        *recognition_findings(session.program),
        *dialect_findings(graph, session.program),
        *match_findings(graph, session.program),
    )
    if as_json:
        print_json(inspect_result(session, found, findings))
    else:
        nearest = {stage.name for stage in session.program.quantize_stages if stage.nearest}
        _print(found, nearest, terminal_width())
        if session.input_stage != InputStage.GRAPH:
            formula = FORMULAS[InputStage(session.input_stage)]
            click.echo(paragraph(f"Input stage '{session.input_stage}', instead of the graph's: {formula}.", terminal_width()))
        for finding in findings:
            click.echo(paragraph(f"{finding.message}; {finding.remedy}.", terminal_width()))
    return 0


def _print(found: Inspection, nearest: Container[str], width: int) -> None:
    for title, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            codes = "" if tensor.codes is None else f", codes {_codes(tensor.codes)}"
            click.echo(one_line(f"{title} '{tensor.name}': {tensor.dtype} {_shape(tensor.shape)}{codes}"))
    click.echo()
    numbered = [(str(index), layer) for index, layer in enumerate(found.layers, 1)]
    lines = render_table(DATA_COLUMNS, [_data_row(index, layer) for index, layer in numbered], width)
    arithmetic = [_arithmetic_row(index, layer) for index, layer in numbered if layer.kind != "HOST"]
    if arithmetic:
        lines += ["", *render_table(ARITHMETIC_COLUMNS, arithmetic, width)]
    for line in lines:
        click.echo(line)
    for stage in found.layers:
        if stage.offset is not None and stage.multiplier is not None and stage.clip is not None:
            click.echo()
            click.echo(paragraph(_stage(stage, nearest=stage.name in nearest), width))
    _print_host_operations(found.layers, width)
    click.echo()
    click.echo(paragraph(_totals(found), width))


def _data_row(index: str, layer: LayerSummary) -> Row:
    macs = "-" if layer.multiply_accumulates is None else f"{layer.multiply_accumulates:,}"
    return Row(
        (
            index,
            layer.kind,
            layer.name if layer.operator is None else f"{layer.operator} {layer.name}",
            _shape(layer.input_shape),
            _shape(layer.output_shape),
            f"{layer.parameters:,}",
            macs,
        )
    )


def _arithmetic_row(index: str, layer: LayerSummary) -> Row:
    return Row(
        (
            index,
            f"{_codes(layer.input_codes)}>{_codes(layer.output_codes)}",
            "-" if layer.kernel_shape is None else _shape(layer.kernel_shape),
            "-" if layer.strides is None else _shape(layer.strides),
            "-" if layer.pads is None else ",".join(str(pad) for pad in layer.pads),
            "-" if layer.weight_bits is None else str(layer.weight_bits),
            "-" if layer.scale is None else _range(layer.scale),
            "-" if layer.shift is None else _range(layer.shift),
            "-" if layer.clip is None else f"{layer.clip[0]}..{layer.clip[1]}",
        )
    )


def _stage(stage: LayerSummary, *, nearest: bool) -> str:
    offset, multiplier, clip = stage.offset or (0, 0), stage.multiplier or (1, 1), stage.clip or (0, 0)
    # half a code is part of the offset of a stage that rounds to nearest
    formula = "round((x + offset) * multiplier - 0.5)" if nearest else "floor((x + offset) * multiplier)"
    return (
        f"'{stage.name}' makes codes of float32 values: clip({formula}, {clip[0]}, {clip[1]}), "
        "each operation rounded to float32 in the order of the graph; "
        f"offset {_range(offset)}, multiplier {_range(multiplier)}."
    )


def _print_host_operations(layers: Sequence[LayerSummary], width: int) -> None:
    reasons: dict[str, list[str]] = {}
    for index, layer in enumerate(layers, 1):
        if layer.reason is not None:
            reasons.setdefault(layer.reason, []).append(f"{index} {layer.operator}")
    for reason, operations in reasons.items():
        click.echo()
        click.echo(paragraph(f"Host operations ({', '.join(operations)}): {reason}.", width))


def _totals(found: Inspection) -> str:
    totals = found.totals
    return (
        f"{count(totals.integer_layers, 'integer layer')}, {count(totals.quantize_stages, 'quantize stage')}, "
        f"{count(totals.host_operations, 'host operation')}; {count(totals.parameters, 'parameter')}; "
        f"{count(totals.multiply_accumulates, 'multiply-accumulate')} in integers for one sample; opset {found.opset}"
    )


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape) or "()"


def _codes(codes: Codes | None) -> str:
    return "float" if codes is None else f"{'s' if codes.signed else 'u'}{codes.bits}"


def _range(ends: tuple[float, float]) -> str:
    return number(ends[0]) if ends[0] == ends[1] else f"{number(ends[0])}..{number(ends[1])}"
