"""``npusim verify``: every layer against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from npusim.bounds import Certificate, Property, Verdict, certify
from npusim.cli.directed import Directed, check_options, directed_options, search_directed
from npusim.cli.options import INPUT_FILES, json_option, model_argument, quiet_option, threads_option
from npusim.cli.output import count, number, paragraph, print_json, result_object, terminal_width
from npusim.cli.progress import progress
from npusim.cli.tables import Column, Row, render_table
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import input_specs
from npusim.errors import UsageError
from npusim.files.datasets import read_inputs
from npusim.findings import Finding
from npusim.graph import Array
from npusim.graph.model_file import ModelFile
from npusim.program import Batching
from npusim.search.sampling import generate_inputs
from npusim.verification import StepComparison, Verification, verify

__all__ = ["verify_command"]

DEFAULT_SAMPLES = 64

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
    "bounded: a float32 operation on the host whose order of rounding is free; values must agree within what that order can "
    "change, a limit computed for each element. The largest difference is then one of floats, not of codes."
)
BEYOND_FLOAT32 = (
    "beyond float32: inner values past 2^24, which onnxruntime can hold only rounded. There the integers are right and are not "
    "counted as mismatches; the codes that follow from them are compared like any others."
)


@click.command("verify", short_help="Compare every layer of a model with onnxruntime.")
@model_argument
@click.argument("inputs", metavar="[INPUTS]", required=False)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help=f"Samples to generate.  [default: {DEFAULT_SAMPLES}]")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="Seed of the generated samples.  [default: 0]")
@directed_options
@threads_option
@quiet_option
@json_option
def verify_command(
    model: str,
    inputs: str | None,
    samples: int | None,
    seed: int | None,
    directed: bool,
    seconds: float | None,
    output: str | None,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Compare every tensor of every layer of MODEL, an .onnx file, with onnxruntime.

    INPUTS is a .npz, .npy, .csv or .parquet file of samples. Without it samples are generated: extremes first, then random
    ones over the range of the input stage, the same for the same seed.

    With --directed, inputs are searched at which onnxruntime gives another code than the integers, in each layer for which
    that is not excluded. Inputs of the model that are found are compared like the other samples. Where only inputs of the
    layer itself are found, that is a warning.

    The exit code is 0 when all values agree and 1 when one does not.

    \b
    Example: npusim verify model.onnx recorded.npz
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    check_options(directed, seconds, output, (model, inputs))
    session = InferenceSession(model, threads=threads)
    feeds, source = _choose_inputs(session, inputs, samples, None if directed and inputs is not None else seed)
    searched = None
    if directed:
        searched = search_directed(session, feeds, seconds=seconds, seed=seed or 0, output=output, quiet=quiet)
        feeds = searched.added_to(feeds)
    with progress("verify", quiet=quiet) as report:
        result = verify(session, feeds, progress=report)
    certificate = certify(session.program, refutations=() if searched is None else searched.refutations)
    if as_json:
        print_json(_as_object(session.model, result, source, certificate, searched))
    else:
        _print(result, certificate, searched, terminal_width())
    return 0 if result.ok else 1


def _choose_inputs(
    session: InferenceSession, path: str | None, samples: int | None, seed: int | None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The inputs to compare on, and what the JSON object says of them."""
    if path is not None:
        if samples is not None or seed is not None:
            raise UsageError("--samples and --seed are for generated samples; leave them out where INPUTS are given")
        return read_inputs(path, input_specs(session)), {"path": path, "seed": None}
    if session.program.batching is Batching.FIXED:
        raise UsageError(
            f"{session.model.label} has no batch axis of one sample, so no samples can be generated for it; give INPUTS, a "
            f"{INPUT_FILES} file"
        )
    chosen = 0 if seed is None else seed
    feeds = generate_inputs(session.program, DEFAULT_SAMPLES if samples is None else samples, seed=chosen)
    return feeds, {"path": None, "seed": chosen}


def _as_object(
    model: ModelFile,
    result: Verification,
    source: Mapping[str, Any],
    certificate: Certificate,
    searched: Directed | None,
) -> dict[str, Any]:
    totals = {
        "samples": result.samples,
        "layers": len(result.steps),
        "differing_layers": len(_differing(result)),
        "elements": result.elements,
        "mismatches": result.mismatches,
    }
    runtime = {
        "version": result.onnxruntime,
        "optimizations_agree": result.optimized_mismatches == 0,
        "outputs": result.outputs,
        "optimized_mismatches": result.optimized_mismatches,
    }
    shared = result_object(model, ok=result.ok, layers=[_layer_object(step) for step in result.steps], totals=totals)
    exact, optimized = (certificate.model[one] for one in (Property.ONNXRUNTIME_EXACT, Property.ONNXRUNTIME_OPTIMIZED))
    every = {
        "verdict": str(exact.verdict),
        "reason": exact.reason,
        "onnxruntime_optimized": {"verdict": str(optimized.verdict), "reason": optimized.reason},
    }
    findings = (*_findings(result), *([] if searched is None else searched.findings()))
    return {
        **shared,
        "findings": [{**asdict(item), "evidence": dict(item.evidence) or None} for item in findings],
        "inputs": dict(source),
        "onnxruntime": runtime,
        "every_input": every,
        "directed": None if searched is None else searched.as_object(),
    }


def _layer_object(step: StepComparison) -> dict[str, Any]:
    return {
        "name": step.name,
        "tensor": step.tensor,
        "kind": step.kind,
        "comparison": step.comparison,
        "elements": step.elements,
        "mismatches": step.mismatches,
        "largest_difference": step.largest_difference,
        "limit": step.limit if step.comparison == "bounded" else None,
        "carried": step.carried,
        "beyond_float32": step.beyond_float32,
        "first_difference": _difference_object(step),
    }


def _difference_object(step: StepComparison) -> dict[str, Any] | None:
    first = step.first_difference
    if first is None:
        return None
    return {
        "tensor": first.tensor,
        "index": list(first.index),
        "npusim": first.npusim,
        "onnxruntime": first.onnxruntime,
    }


def _findings(result: Verification) -> list[Finding]:
    differing = _differing(result)
    if not differing and not result.ok:
        remedy = "give a model and inputs that lead to at least one value"
        return [Finding("nothing_compared", "error", None, "no value was compared", remedy)]
    return [
        Finding(
            "mismatch",
            "error",
            step.name,
            f"{step.mismatches} of {step.elements} values differ from onnxruntime's",
            _remedy(step, differing[0]),
            _difference_object(step) or {},
        )
        for step in differing
    ]


def _remedy(step: StepComparison, first: StepComparison) -> str:
    """What to make of a layer that differs."""
    if step is not first:
        return f"look at layer '{first.name}' first: what differs there flows on"
    if step.beyond_float32:
        return (
            "inner values of this layer pass 2^24, where onnxruntime's float32 has to round and the device's integers do not: "
            "rely on npusim's values, and keep such layers in mind when onnxruntime is the reference"
        )
    return "no inner value of this layer passes 2^24, so float32 does not explain it; please report it as a bug in npusim"


def _differing(result: Verification) -> list[StepComparison]:
    return [step for step in result.steps if step.mismatches]


def _print(result: Verification, certificate: Certificate, searched: Directed | None, width: int) -> None:
    differing = _differing(result)
    rows = [_row(step) for step in result.steps]
    for line in render_table(COLUMNS, rows, width):
        click.echo(click.style(line, fg="red") if line.startswith("!!") else line)
    for note in _notes(result.steps):
        click.echo()
        click.echo(paragraph(note, width))
    click.echo()
    for step in differing:
        click.echo(paragraph(f"'{step.name}': {_remedy(step, differing[0])}", width))
    for text in [] if searched is None else searched.paragraphs():
        click.echo(paragraph(text, width))
    click.echo(paragraph(f"{_verdict(result)}; {_for_every_input(certificate)}", width))


def _row(step: StepComparison) -> Row:
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
    return Row(cells, True, (f"first: {place}: npusim {number(first.npusim)}, onnxruntime {number(first.onnxruntime)}",))


def _difference(value: float) -> str:
    """Whole differences in full, as codes have; of floats three digits."""
    return number(value) if value % 1 == 0 else f"{value:.3g}"


def _notes(steps: Sequence[StepComparison]) -> list[str]:
    """In plain words, what comparisons other than exact ones mean."""
    notes = []
    bounded = [step for step in steps if step.comparison == "bounded"]
    if bounded:
        notes.append(f"{BOUNDED} Largest limit: {_difference(max(step.limit for step in bounded))}.")
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
    else:
        verdict = f"NOT EQUAL: {result.mismatches:,} of {values} differ, in {len(_differing(result))} of {layers}, {samples}"
    runtime = f"onnxruntime {result.onnxruntime} with optimizations"
    if result.optimized_mismatches:
        return (
            f"{verdict}; {runtime} differs from itself without in {result.optimized_mismatches:,} of "
            f"{count(result.outputs, 'output value')}"
        )
    return f"{verdict}; {runtime} agrees"


def _for_every_input(certificate: Certificate) -> str:
    """What is proven beyond the samples; with its optimizations onnxruntime needs more room to be exact."""
    exact = certificate.model[Property.ONNXRUNTIME_EXACT]
    if exact.holds:
        optimized = certificate.model[Property.ONNXRUNTIME_OPTIMIZED].holds
        return f"proven equal for every input{'' if optimized else ', without optimizations'}"
    if exact.verdict is Verdict.VIOLATED:
        return f"NOT equal for every input: {exact.reason}"
    return f"not proven for every input: {exact.reason}"
