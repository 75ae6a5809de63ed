"""``npusim check``: one verdict before flashing."""

from __future__ import annotations

from collections.abc import Iterator

import click

from npusim.cli.destinations import check_destination, force_option
from npusim.cli.device import device_option
from npusim.cli.options import (
    arithmetic_option,
    input_alpha_option,
    input_codes_option,
    input_stage_option,
    json_option,
    model_argument,
    quiet_option,
    threads_option,
)
from npusim.cli.output import count, note, paragraph, print_json, terminal_width
from npusim.cli.paths import SOURCE, Destination, as_given
from npusim.cli.progress import progress
from npusim.engine.planning import InputAlpha
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.results.check_result import CheckPart, CheckResult
from npusim.results.readiness import check
from npusim.results.samples import DEFAULT_SAMPLES
from npusim.rules import DEFAULT_COMPILER

__all__ = ["check_command", "check_text"]

SHOWN = 5
"""Findings shown, so that the verdict stays on one page."""


@click.command("check", short_help="One verdict before flashing: ready or not, why, what to do first.")
@model_argument
@click.argument("inputs", type=SOURCE, metavar="[INPUTS]", required=False)
@device_option(required=True)
@click.option(
    "--float", "float_model", type=SOURCE, metavar="FLOAT.onnx", help="The float model that was quantized: compare with it."
)
@click.option(
    "--golden", type=SOURCE, metavar="DIR", help="A folder of 'npusim golden write': prove it, and that it is of this model."
)
@click.option(
    "--labels", type=SOURCE, metavar="Y.npz", help="Classes or target values of INPUTS.  [default: the key 'label' in INPUTS]"
)
@click.option("--min-sqnr", type=float, metavar="DB", help="Fail where the output's SQNR against FLOAT.onnx is lower.")
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Fail where fewer samples get the class that FLOAT.onnx gives them.",
)
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Fail where the golden vectors reach fewer of the goals not proven unreachable.",
)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help=f"Samples to generate.  [default: {DEFAULT_SAMPLES}]")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="Seed of the generated samples.  [default: 0]")
@click.option("--compiler", default=DEFAULT_COMPILER, metavar="VERSION", show_default=True, help="Version of the compiler.")
@click.option("--strict", is_flag=True, help="Count warnings like errors, and what is not proven like what is violated.")
@click.option(
    "-o",
    "--output",
    type=Destination(".html"),
    metavar="FILE",
    help="Write the page to this file, as HTML or, where it ends so, .json.",
)
@force_option
@threads_option
@quiet_option
@arithmetic_option
@input_codes_option
@input_alpha_option
@input_stage_option
@json_option
def check_command(
    model: str,
    inputs: str | None,
    device: str,
    float_model: str | None,
    golden: str | None,
    labels: str | None,
    min_sqnr: float | None,
    min_agreement: float | None,
    min_coverage: float | None,
    samples: int | None,
    seed: int | None,
    compiler: str,
    strict: bool,
    output: str | None,
    force: bool,
    threads: int | None,
    quiet: bool,
    arithmetic: str | None,
    input_codes: str | None,
    input_alpha: InputAlpha | None,
    input_stage: str,
    as_json: bool,
) -> int:
    """Say whether MODEL, an .onnx file, is ready for a device, why, and what to do first.

    Five questions, each a command of its own: do the integers give what the graph means (verify)? For every input (bounds)?
    Which layers does the NPU of the device take (lint)? What became of the float model's accuracy (compare, with --float)? Are
    the golden vectors right and of this model, and what do they cover (golden, with --golden)? A part that is not asked for is
    named as such.

    The exit code is 0 when no part fails, and 1 when one does: with a finding of severity error (with --strict also a warning),
    or where a limit is not kept.

    \b
    Example: npusim check model.onnx recorded.npz --device f28p55x
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    if labels is not None and (inputs is None or float_model is None):
        raise UsageError("--labels are for the comparison of INPUTS with a float model; give INPUTS and --float as well")
    if inputs is not None and (samples is not None or seed is not None):
        raise UsageError("--samples and --seed are for generated samples; leave them out where INPUTS are given")
    for option, limit, needed, given in (
        ("--min-sqnr", min_sqnr, "--float", float_model),
        ("--min-agreement", min_agreement, "--float", float_model),
        ("--min-coverage", min_coverage, "--golden", golden),
    ):
        if limit is not None and given is None:
            raise UsageError(f"{option} is about {needed}, which is missing; give both")
    check_destination(output, (model, inputs, float_model, labels), force=force, suffixes=(".html", ".json"))
    session = InferenceSession(
        model, threads=threads, arithmetic=arithmetic, input_codes=input_codes, input_alpha=input_alpha, input_stage=input_stage
    )
    with progress("check", quiet=quiet, unit="percent") as report:
        result = check(
            session,
            device,
            inputs,
            float_model=float_model,
            golden=golden,
            labels=labels,
            min_sqnr=min_sqnr,
            min_agreement=None if min_agreement is None else min_agreement / 100,
            min_coverage=None if min_coverage is None else min_coverage / 100,
            samples=samples,
            seed=seed,
            compiler=compiler,
            strict=strict,
            output=output,
            overwrite=force,
            threads=threads,
            progress=report,
            announce=note,
        )
    if as_json:
        print_json(result)
    else:
        for line in check_text(result, terminal_width()):
            click.echo(click.style(line, fg="red") if line.startswith(("!!", "NOT")) else line)
        if output is not None:
            click.echo(as_given(f"{output}: page written"), err=True)
    return 0 if result else 1


def check_text(result: CheckResult, width: int) -> Iterator[str]:
    """The verdict, the parts, the gravest findings, and what to do first: one page."""
    yield paragraph(result.headline(), width)
    yield ""
    for part in result.parts:
        yield from _part_lines(part, width)
    shown = [finding for finding in result.findings if finding.severity != "info"]
    for finding in shown[:SHOWN]:
        where = "" if finding.layer is None else f" '{finding.layer}':"
        yield ""
        text = f"{finding.severity} ({finding.part}, {finding.rule}){where} {finding.message}; {finding.remedy}."
        yield paragraph(text, width)
    if len(shown) > SHOWN:
        yield ""
        yield f"... and {count(len(shown) - SHOWN, 'more finding')}; --json and -o PAGE.html have all"
    yield ""
    yield paragraph(f"First: {result.first}", width)


def _part_lines(part: CheckPart, width: int) -> Iterator[str]:
    """A part and its answer, which may take several lines."""
    mark = "!!" if part.verdict == "failed" else "  "
    start = f"{mark} {part.part:<8} {part.verdict.replace('_', ' '):<10} "
    found = [count(number, noun) for number, noun in ((part.errors, "error"), (part.warnings, "warning")) if number]
    answer = "; ".join((part.statement, *found))
    lines = paragraph(answer, width - len(start)).splitlines()
    yield from (f"{start if index == 0 else ' ' * len(start)}{line}" for index, line in enumerate(lines))
