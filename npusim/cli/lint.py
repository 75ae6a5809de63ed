"""``npusim lint``: will it run on the NPU, and what does it cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from npusim.cli.destinations import check_destination, force_option
from npusim.cli.device import device_option
from npusim.cli.options import Invocation, arithmetic_option, json_option
from npusim.cli.output import Column, Row, count, json_text, one_line, paragraph, print_json, render_table, terminal_width
from npusim.cli.paths import SOURCE, Destination, as_given
from npusim.errors import UsageError, printable
from npusim.files.writing import replacing
from npusim.findings import SourcedFinding
from npusim.results.lint import LintResult, LintRules, lint
from npusim.rules import DEFAULT_COMPILER, LintedLayer, LintReport, Placement, Rulebook, Source, devices, rulebook
from npusim.rules.cycles import CycleEstimate, estimate_cycles
from npusim.rules.fix import Fixed
from npusim.rules.rulebook import all_rulebooks
from npusim.rules.sarif import sarif_log

__all__ = ["lint_command", "print_lint", "print_rules"]

FORMATS = ("text", "json", "sarif")


@click.command("lint", short_help="What runs on the NPU, what does not, and why.")
@click.argument("model", type=SOURCE, metavar="MODEL", required=False)
@device_option()
@click.option("--compiler", default=DEFAULT_COMPILER, metavar="VERSION", show_default=True, help="Version of the compiler.")
@click.option("--format", "style", type=click.Choice(FORMATS), default="text", show_default=True, help="How to print.")
@click.option(
    "-o",
    "--output",
    type=Destination(".json"),
    metavar="FILE",
    help="Write the report to this file, in the format asked for (json or sarif).",
)
@click.option(
    "--fix",
    "fixed_path",
    type=Destination(".onnx"),
    metavar="OUT.onnx",
    help="Write a repaired model that is proven to give the same outputs.",
)
@click.option("--rules", "show_rules", is_flag=True, help="Print the rules as a table, of --device or of all devices.")
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings as well.")
@force_option
@arithmetic_option
@json_option
def lint_command(
    model: str | None,
    device: str | None,
    compiler: str,
    style: str,
    output: str | None,
    fixed_path: str | None,
    show_rules: bool,
    strict: bool,
    force: bool,
    arithmetic: str | None,
    as_json: bool,
) -> int:
    """Hold MODEL, an .onnx file, against the public rules of a device.

    Each layer is judged npu, host or unknown: npu only where a public document covers it completely and no rule is broken.
    Every finding names the rule, its document and date, what was seen, what is wanted and what to do. Numbers that do not fit
    the widths in which the NPU stores them, operations left in float, open sizes and foreign quantization are found too.
    Memory is held against the device, and cycles are estimated from published figures.

    With --fix, repairs that keep every output bit are made: channels padded with zeros to multiples of 4, fully connected
    inputs padded, saturations merged or narrowed, MatMul and Add made one Gemm. The file is written only when the outputs are
    proven equal.

    The exit code is 0 without errors, 1 with findings of level error (with --strict also warnings). With --fix it is that of
    the repaired model.

    \b
    Example: npusim lint model.onnx --device f28p55x
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    _remember(model, as_json=as_json or style == "json")
    if show_rules:
        return _show_rules(device, compiler, "json" if as_json else style)
    if model is None or device is None:
        missing = "MODEL is missing" if model is None else "--device is missing"
        raise UsageError(f"{missing}; give for example 'npusim lint model.onnx --device {devices()[0]}', or --rules")
    wanted = "json" if as_json and (style == "text" or output is None) else style
    if output is not None and wanted == "text":
        raise UsageError("-o writes json or sarif; give one of them with --format")
    for path in (output, fixed_path):
        check_destination(path, (model,), force=force)
    result = lint(model, device, arithmetic=arithmetic, compiler=compiler, strict=strict, fix=fixed_path, overwrite=force)
    _give(result, wanted, output)
    if as_json and output is not None:
        print_json(result)
    return 0 if result else 1


def _remember(model: str | None, *, as_json: bool) -> None:
    """Errors are to name the model, and to be JSON where the report would be."""
    invocation = click.get_current_context().find_object(Invocation)
    if invocation is not None:
        invocation.model, invocation.as_json = model, as_json


def _give(result: LintResult, wanted: str, output: str | None) -> None:
    if wanted == "text":
        print_lint(result.report, result.fixed, None if result.fix is None else result.fix.path, terminal_width())
        return
    value = sarif_log(result.file, result.report) if wanted == "sarif" else result
    if output is None:
        print_json(value)
        return
    with replacing(Path(output)) as file:
        file.write(as_given(json_text(value) + "\n").encode())
    click.echo(f"{printable(as_given(output))}: {count(len(result.findings), 'finding')} written", err=True)


def _show_rules(device: str | None, compiler: str, wanted: str) -> int:
    books: tuple[Rulebook, ...] = all_rulebooks(compiler) if device is None else (rulebook(device, compiler),)
    if wanted == "sarif":
        raise UsageError("rules are printed as text or json; SARIF is for findings")
    if wanted == "json":
        print_json(LintRules(devices=books))
    else:
        print_rules(books, terminal_width())
    return 0


LAYER_COLUMNS: Final = (
    Column("#", right=True),
    Column("verdict"),
    Column("kind"),
    Column("layer", shrinks=True),
    Column("rule"),
    Column("MACs", right=True),
    Column("bytes", right=True),
)

RULE_COLUMNS: Final = (Column("rule"), Column("if broken"), Column("compiler"), Column("date"))

NAMED_LAYERS: Final = 4
"""Layers named in a finding that is the same for several."""


def print_lint(report: LintReport, fixed: Fixed | None, path: str | None, width: int) -> None:
    """Print a report, and what was repaired."""
    device = report.book.device
    rules = "rules of the patterns only" if not device.npu else "public rules"
    click.echo(f"{device.title}, compiler {report.book.compiler}: {rules}")
    _print_layers(report.layers, width)
    _print_findings(report, width)
    _print_cost(report, width)
    if fixed is not None:
        _print_fixed(fixed, path, width)


def print_rules(books: Sequence[Rulebook], width: int) -> None:
    """Print the rules as tables: those of the NPU, what is covered, and the documents."""
    for book in books:
        click.echo(f"{book.device.title} ({book.device.name}), compiler {book.compiler}")
        rows = [
            Row(
                (rule.id, f"{rule.verdict}, {rule.severity}", _versions(rule.since, rule.until), rule.source.dated),
                notes=(f"{' '.join(rule.kinds)}: {rule.text}",),
            )
            for rule in book.rules
        ]
        rows += [
            Row(
                (cover.id, "covered", _versions(cover.since, cover.until), cover.source.dated),
                notes=(f"{' '.join(cover.kinds)}: {cover.text}",),
            )
            for cover in book.covers
        ]
        rows += [Row((limit.id, limit.severity, "all", limit.source.dated), notes=(limit.text,)) for limit in book.limits]
        for line in render_table(RULE_COLUMNS, rows, width):
            click.echo(line)
        click.echo()
    items: list[Source] = []
    for book in books:
        items += [rule.source for rule in book.rules]
        items += [cover.source for cover in book.covers]
        items += [limit.source for limit in book.limits]
    click.echo("Documents:")
    for source in dict.fromkeys(items):
        note = f"; {source.note}" if source.note else ""
        click.echo(paragraph(f"{source.dated}: {source.title} ({source.kind}){note}", width))


def _versions(since: str, until: str) -> str:
    if since and until:
        return f"{since} to {until}"
    return f"from {since}" if since else f"before {until}" if until else "all"


def _print_layers(layers: Sequence[LintedLayer], width: int) -> None:
    if not layers:
        return
    rows = [
        Row(
            (
                str(index),
                str(layer.verdict),
                layer.operator or layer.kind,
                layer.name,
                layer.rule,
                f"{layer.cost.multiply_accumulates:,}",
                f"{layer.cost.parameter_bytes:,}",
            ),
            marked=layer.verdict is not Placement.NPU,
        )
        for index, layer in enumerate(layers, 1)
    ]
    click.echo()
    for line in render_table(LAYER_COLUMNS, rows, width):
        click.echo(line)


def _print_findings(report: LintReport, width: int) -> None:
    """Findings that say the same of several layers are printed once."""
    lines = {layer.step.name: layer for layer in report.layers}
    groups: dict[tuple[str, ...], list[SourcedFinding]] = {}
    for finding in report.findings:
        groups.setdefault((finding.severity, finding.rule, finding.message, finding.remedy), []).append(finding)
    for (severity, rule, message, remedy), members in groups.items():
        first = members[0]
        click.echo()
        click.echo(paragraph(f"{severity}: {rule}: {message}.", width))
        _print_indented(f"at {_places(members)}", width)
        if severity != "info":
            _print_indented(f"remedy: {remedy}", width)
        if first.source is not None:
            _print_indented(f"source: {first.source}, {first.date}", width)
        if first.note:
            _print_indented(f"note: {first.note}", width)
        layer = lines.get(first.layer or "")
        if severity != "info" and layer is not None and layer.line is not None:
            click.echo(f"  {one_line(layer.line)}")
            if layer.compiler_message is not None and "compiler_message" in (first.evidence or {}):
                click.echo(f"  {printable(layer.compiler_message)}")


def _places(members: Sequence[SourcedFinding]) -> str:
    shown = [_place(finding) for finding in members[:NAMED_LAYERS]]
    more = len(members) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _place(finding: SourcedFinding) -> str:
    node = "the model" if finding.node is None else f"node '{finding.node}'"
    return node if finding.tensor is None else f"{node}, tensor '{finding.tensor}'"


def _print_cost(report: LintReport, width: int) -> None:
    if report.memory is None:
        return
    device, memory, share = report.book.device, report.memory, report.npu_share
    of_flash = f" of {device.flash:,} of flash" if device.flash else ""
    of_ram = f" of {device.ram:,} of RAM" if device.ram else ""
    part = "" if share is None else f", {share:.1%} of them on the NPU"
    verdicts = ", ".join(f"{report.verdicts(placement)} {placement}" for placement in Placement)
    click.echo()
    click.echo(paragraph(f"{count(len(report.layers), 'layer')}: {verdicts}.", width))
    click.echo(paragraph(f"{count(report.multiply_accumulates, 'multiply-accumulate')}{part}.", width))
    click.echo(paragraph(f"Parameters take {report.parameter_bytes:,} bytes{of_flash}.", width))
    peak = f"Live tensors take at most {memory.peak_bytes:,} bytes{of_ram}, at '{memory.step}'"
    text = f"{peak}; codes alone {memory.codes_bytes:,}."
    click.echo(paragraph(text, width))
    click.echo(paragraph(_cycles(estimate_cycles(report)), width))
    found = f"{count(report.count('error'), 'error')}, {count(report.count('warning'), 'warning')}"
    click.echo(paragraph(f"{found}.", width))


def _cycles(estimate: CycleEstimate) -> str:
    if estimate.cycles is None:
        return f"No estimate of cycles: {estimate.reason}."
    return (
        f"Estimate: {estimate.cycles:,} cycles ({estimate.milliseconds} ms), {estimate.lowest:,} to {estimate.highest:,}; "
        f"fitted to 16 published figures, {estimate.error:.0%} off at worst on a network left out of the fit. Not measured."
    )


def _print_fixed(fixed: Fixed, path: str | None, width: int) -> None:
    click.echo()
    if fixed.content is None:
        click.echo(paragraph(f"Nothing to repair; '{path}' is not written.", width))
    else:
        text = (
            f"Repaired, in '{path}': every output is proven equal for all inputs, and was on {count(fixed.samples, 'sample')}."
        )
        click.echo(paragraph(text, width))
    groups: dict[tuple[str, str], list[str]] = {}
    for repair in fixed.repairs:
        groups.setdefault((repair.repair, repair.message), []).append(f"'{repair.layer}'")
    for (name, message), layers in groups.items():
        _print_indented(f"{name} at {', '.join(layers)}: {message}", width)
    for layer, reason in fixed.left:
        _print_indented(f"not repaired, '{layer}': {reason}", width)
    if fixed.content is not None:
        click.echo()
        click.echo("After the repair:")
        _print_layers(fixed.report.layers, width)
        _print_findings(fixed.report, width)
        _print_cost(fixed.report, width)


def _print_indented(text: str, width: int) -> None:
    for line in paragraph(text, width - 2).splitlines():
        click.echo(f"  {line}")
