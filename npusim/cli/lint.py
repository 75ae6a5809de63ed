"""``npusim lint``: will it run on the NPU, and what does it cost."""

from __future__ import annotations

from pathlib import Path

import click

from npusim.cli.lint_text import print_lint, print_rules
from npusim.cli.options import Invocation, json_option
from npusim.cli.output import json_text, print_json, terminal_width
from npusim.errors import UsageError
from npusim.files.arrays import replacing
from npusim.results.lint import LintResult, LintRules, lint
from npusim.rules import DEFAULT_COMPILER, devices, rulebook
from npusim.rules.rule_types import Rulebook
from npusim.rules.rulebook import all_rulebooks
from npusim.rules.sarif import sarif_log

__all__ = ["lint_command"]

FORMATS = ("text", "json", "sarif")


@click.command("lint", short_help="What runs on the NPU, what does not, and why.")
@click.argument("model", metavar="MODEL", required=False)
@click.option("--device", type=click.Choice(devices()), help="The device; 'soft' stands for the soft library on any other.")
@click.option("--compiler", default=DEFAULT_COMPILER, metavar="VERSION", show_default=True, help="Version of the compiler.")
@click.option("--format", "style", type=click.Choice(FORMATS), default="text", show_default=True, help="How to print.")
@click.option("-o", "--output", metavar="FILE", help="Write the report to this file, in the format asked for (json or sarif).")
@click.option("--fix", "fixed_path", metavar="OUT.onnx", help="Write a repaired model that is proven to give the same outputs.")
@click.option("--rules", "show_rules", is_flag=True, help="Print the rules as a table, of --device or of all devices.")
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings as well.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
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
    wanted = "json" if as_json else style
    if show_rules:
        return _show_rules(device, compiler, wanted)
    if model is None or device is None:
        missing = "MODEL is missing" if model is None else "--device is missing"
        raise UsageError(f"{missing}; give for example 'npusim lint model.onnx --device {devices()[0]}', or --rules")
    if output is not None and wanted == "text":
        raise UsageError("-o writes json or sarif; give one of them with --format")
    for path in (output, fixed_path):
        _check_file(path, model, force=force)
    result = lint(model, device, compiler=compiler, strict=strict, fix=fixed_path, overwrite=force)
    _give(result, wanted, output)
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
        file.write((json_text(value) + "\n").encode())
    click.echo(f"{output}: {len(result.findings)} findings written", err=True)


def _check_file(path: str | None, model: str, *, force: bool) -> None:
    """Refuse before any work what could not be written after it."""
    if path is None:
        return
    target = Path(path)
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder '{target.parent}'; make it first")
    if target.is_dir():
        raise UsageError(f"{path}: is a folder; name a file to write to")
    if target.exists() and Path(model).exists() and target.samefile(model):
        raise UsageError(f"{path}: is the model, and would be overwritten; name another file")
    if target.exists() and not force:
        raise UsageError(f"{path}: exists already; name another file, or overwrite it with --force")


def _show_rules(device: str | None, compiler: str, wanted: str) -> int:
    books: tuple[Rulebook, ...] = all_rulebooks(compiler) if device is None else (rulebook(device, compiler),)
    if wanted == "sarif":
        raise UsageError("rules are printed as text or json; SARIF is for findings")
    if wanted == "json":
        print_json(LintRules(devices=books))
    else:
        print_rules(books, terminal_width())
    return 0
