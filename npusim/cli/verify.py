"""``npusim verify``: every layer against the runtime of the model's format."""

from __future__ import annotations

from collections.abc import Sequence

import click

from npusim.bounds import Verdict
from npusim.cli.directed import check_options, directed_options, directed_paragraphs
from npusim.cli.input_stages import changes_of, holds_for
from npusim.cli.options import (
    allow_float_option,
    arithmetic_option,
    dask_option,
    input_alpha_option,
    input_codes_option,
    input_stage_option,
    json_option,
    model_argument,
    quiet_option,
    threads_option,
)
from npusim.cli.output import (
    Column,
    Row,
    count,
    note,
    number,
    paragraph,
    print_json,
    print_not_quantized,
    render_table,
    terminal_width,
)
from npusim.cli.paths import SOURCE
from npusim.cli.progress import progress
from npusim.engine.cluster import open_cluster
from npusim.engine.planning import InputAlpha
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.results.directed import Directed, search_directed
from npusim.results.samples import DEFAULT_SAMPLES, choose_inputs
from npusim.results.verification import EveryInput, VerifiedStage, VerifyResult, remedy_of, verify_samples
from npusim.verification import ONNXRUNTIME, StepComparison, Verification

__all__ = ["verify_command"]

COLUMNS = (
    Column("layer", shrinks=True),
    Column("kind"),
    Column("comparison"),
    Column("values", right=True),
    Column("mismatches", right=True),
    Column("max diff\n(LSB)", right=True),
)

EXACT_GIVEN_INPUTS = (
    "exact given inputs: a float32 sum before the layer may be rounded in another order, so the layer is compared on "
    "onnxruntime's own inputs; given those, every value must be equal."
)
BOUNDED = (
    "bounded: a float32 operation whose order of rounding is free; values must agree within what that order can change, a "
    "limit computed for each element. On the host the largest difference is then one of floats, not of codes."
)
ESTIMATED = (
    "Of LSTM and GRU the limit is an estimate of what rounding does over the steps of a sequence, not a proven bound: a "
    "difference beyond it may be rounding still."
)
BEYOND_FLOAT32 = (
    "beyond float32: inner values past 2^24, which onnxruntime can hold only rounded. There the integers are right and are not "
    "counted as mismatches; the codes that follow from them are compared like any others."
)


@click.command("verify", short_help="Compare every layer of a model with its runtime.")
@model_argument
@click.argument("inputs", type=SOURCE, metavar="[INPUTS]", required=False)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help=f"Samples to generate.  [default: {DEFAULT_SAMPLES}]")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="Seed of the generated samples.  [default: 0]")
@directed_options
@click.option("--oracle", is_flag=True, help="Also compile the model's C source and compare all its layers.")
@allow_float_option
@threads_option
@dask_option
@quiet_option
@arithmetic_option
@input_codes_option
@input_alpha_option
@input_stage_option
@json_option
def verify_command(
    model: str,
    inputs: str | None,
    samples: int | None,
    seed: int | None,
    directed: bool,
    seconds: float | None,
    output: str | None,
    oracle: bool,
    force: bool,
    allow_float: bool,
    threads: int | None,
    dask: str | None,
    quiet: bool,
    arithmetic: str | None,
    input_codes: str | None,
    input_alpha: InputAlpha | None,
    input_stage: str,
    as_json: bool,
) -> int:
    """Compare every tensor of every layer of MODEL, an .onnx file, with onnxruntime.

    A model of TensorFlow Lite, a .tflite file or a C header with one, is compared with tflite-micro or ai-edge-litert, as the
    arithmetic says; some of them hand over the outputs only, and then only outputs are compared.

    INPUTS is a .npz, .npy, .csv or .parquet file of samples. Without it samples are generated: extremes first, then random
    ones over the range of the input stage, the same for the same seed.

    With --directed, inputs are searched at which onnxruntime gives another code than the integers, in each layer for which
    that is not excluded. Inputs of the model that are found are compared like the other samples. Where only inputs of the
    layer itself are found, that is a warning.

    With --oracle the model is written as C, compiled and run as well: a second opinion in which NumPy has no part.

    The exit code is 0 when all values agree and 1 when one does not, or when nothing of the model is quantized.

    \b
    Example: npusim verify model.onnx recorded.npz
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    check_options(directed, seconds, output, (model, inputs), force=force)
    if inputs is not None and (samples is not None or (seed is not None and not directed)):
        raise UsageError("--samples and --seed are for generated samples; leave them out where INPUTS are given")
    session = InferenceSession(
        model, threads=threads, arithmetic=arithmetic, input_codes=input_codes, input_alpha=input_alpha, input_stage=input_stage
    )
    feeds, source = choose_inputs(session, inputs, samples, None if inputs is not None else seed, note)
    searched = None
    if directed:
        with progress("directed search", quiet=quiet, unit="seconds") as report:
            searched = search_directed(session, feeds, seconds=seconds, seed=seed or 0, output=output, progress=report)
    with open_cluster(dask) as cluster, progress("verify", quiet=quiet) as report:
        result = verify_samples(
            session,
            feeds,
            source,
            searched=searched,
            oracle=oracle,
            allow_float=allow_float,
            cluster=cluster,
            progress=report,
        )
    if as_json:
        print_json(result)
    else:
        _print(result, searched, session.arithmetic, terminal_width())
        print_not_quantized(result.findings, terminal_width())
    return 0 if result else 1


def _print_stage(stage: VerifiedStage, width: int) -> None:
    if stage.variant is not None:
        click.echo(paragraph(" ".join((holds_for(stage.variant), *changes_of(stage.differences))), width))


def _differing(result: Verification) -> list[StepComparison]:
    return [step for step in result.steps if step.mismatches]


def _print(found: VerifyResult, searched: Directed | None, arithmetic: str, width: int) -> None:
    result = found.comparison
    differing = _differing(result)
    rows = [_row(step, result.runtime) for step in result.steps]
    for line in render_table(COLUMNS, rows, width):
        click.echo(click.style(line, fg="red") if line.startswith("!!") else line)
    for text in _notes(result.steps):
        click.echo()
        click.echo(paragraph(text, width))
    click.echo()
    for step in differing:
        click.echo(paragraph(f"'{step.name}': {remedy_of(step, differing[0], arithmetic, result.runtime)}", width))
    for text in [] if searched is None else directed_paragraphs(searched):
        click.echo(paragraph(text, width))
    for finding in found.findings:
        if finding.rule in ("unknown-dialect", "runtime_setting", "file_differs"):
            click.echo(paragraph(f"{finding.message}; {finding.remedy}.", width))
    _print_stage(found.input_stage, width)
    if found.oracle is not None:
        opinion = found.oracle
        said = "equal" if not opinion.mismatches else f"NOT EQUAL: {opinion.mismatches:,} differ, first in '{opinion.first}'"
        values = f"{count(opinion.layers, 'layer')}, {count(opinion.elements, 'value')}"
        click.echo(paragraph(f"C source compiled by {opinion.compiler}: {said} ({values}).", width))
    click.echo(paragraph(f"{_verdict(result)}; {_for_every_input(found.every_input)}", width))


def _row(step: StepComparison, runtime: str) -> Row:
    cells = (
        step.name,
        step.kind,
        step.comparison.replace("_", " "),
        f"{step.elements:,}",
        f"{step.mismatches:,}",
        _difference(step.largest_difference),
    )
    first = step.first_difference
    if first is None:
        return Row(cells)
    place = f"'{first.tensor}' at {list(first.index)}"
    return Row(cells, True, (f"first: {place}: npusim {number(first.npusim)}, {runtime} {number(first.onnxruntime)}",))


def _difference(value: float) -> str:
    """Whole differences in full, as codes have; of floats three digits."""
    return number(value) if value % 1 == 0 else f"{value:.3g}"


def _notes(steps: Sequence[StepComparison]) -> list[str]:
    """In plain words, what comparisons other than exact ones mean."""
    notes = []
    bounded = [step for step in steps if step.comparison == "bounded"]
    if bounded:
        estimated = f" {ESTIMATED}" if any(step.estimated for step in bounded) else ""
        notes.append(f"{BOUNDED} Largest limit: {_difference(max(step.limit for step in bounded))}.{estimated}")
    if any(step.comparison == "exact_given_inputs" for step in steps):
        carried = sum(step.carried for step in steps)
        end_to_end = f" End to end, {count(carried, 'value')} differ, because their inputs already do." if carried else ""
        notes.append(EXACT_GIVEN_INPUTS + end_to_end)
    beyond = sum(step.beyond_float32 for step in steps)
    if beyond:
        notes.append(f"{BEYOND_FLOAT32} Here: {count(beyond, 'value')}.")
    return notes


def _verdict(result: Verification) -> str:
    bounded = sum(step.comparison == "bounded" for step in result.steps)
    layers, values = count(len(result.steps), "layer"), count(result.elements, "value")
    samples = count(result.samples, "sample")
    if result.ok:
        within = f" ({count(bounded, 'layer')} within the limit of float rounding)" if bounded else ""
        verdict = f"equal{within}: {layers}, {values}, {samples}"
    elif not result.elements:
        verdict = f"NOT EQUAL: no value was compared, {samples}"
    elif result.contradicted:
        verdict = f"NOT EQUAL: {layers} are, {values}, {samples}, but not the file's outputs"
    else:
        verdict = f"NOT EQUAL: {result.mismatches:,} of {values} differ, in {len(_differing(result))} of {layers}, {samples}"
    if result.runtime != ONNXRUNTIME:
        return f"{verdict}; compared with {result.runtime} {result.onnxruntime}"
    if result.settings:
        named = f"{ONNXRUNTIME} {result.onnxruntime}"
        found = [(setting.setting, setting.mismatches) for setting in result.settings]
        return f"{verdict}; running the file, {named} gives " + ", ".join(
            f"{f'{differing:,} other' if differing else 'the same'} outputs ({setting})" for setting, differing in found
        )
    runtime = f"onnxruntime {result.onnxruntime} with optimizations"
    if result.optimized_mismatches:
        return (
            f"{verdict}; {runtime} differs from itself without in {result.optimized_mismatches:,} of "
            f"{count(result.outputs, 'output value')}"
        )
    return f"{verdict}; {runtime} agrees"


def _for_every_input(every: EveryInput) -> str:
    """What is proven beyond the samples; with its optimizations onnxruntime needs more room to be exact."""
    if every.verdict is Verdict.PROVEN:
        optimized = every.onnxruntime_optimized.verdict is Verdict.PROVEN
        return f"proven equal for every input{'' if optimized else ', without optimizations'}"
    if every.verdict is Verdict.VIOLATED:
        return f"NOT equal for every input: {every.reason}"
    return f"not proven for every input: {every.reason}"
