"""``npusim compare``: which layer errs, and why."""

from __future__ import annotations

from pathlib import Path

import click

from npusim.cli.compare_exact import compare_exact
from npusim.cli.compare_float import FloatOptions, SampleNumbers, compare_float
from npusim.cli.compare_proof import ProofOptions, compare_proof
from npusim.cli.destinations import force_option
from npusim.cli.options import (
    INPUT_FILES,
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
from npusim.cli.output import note
from npusim.cli.paths import SOURCE, Destination
from npusim.comparison.findings import Limits
from npusim.comparison.float_comparison import is_quantized
from npusim.engine.planning import InputAlpha
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.files.dumps import read_dump
from npusim.results.compared_samples import read_compared
from npusim.results.comparison import RUNTIME, other_model
from npusim.results.samples import DEFAULT_SAMPLES
from npusim.verification import LAYOUTS
from npusim.verification.equality import DEFAULT_SECONDS

__all__ = ["compare_command"]


@click.command("compare", short_help="Find the layer that errs, and why.")
@model_argument
@click.option(
    "--against",
    type=SOURCE,
    required=True,
    metavar="OTHER",
    help="A float or a quantized .onnx file, a dump, or 'ort' for onnxruntime.",
)
@click.option("--data", type=SOURCE, metavar="X.npz", help=f"Samples, a {INPUT_FILES} file; without it samples are generated.")
@click.option(
    "--labels",
    type=SOURCE,
    metavar="Y.npz",
    help="Classes or target values of the samples.  [default: the key 'label' in --data]",
)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help=f"Samples to generate.  [default: {DEFAULT_SAMPLES}]")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="Seed of the generated samples.  [default: 0]")
@click.option("--tensor", metavar="NAME", help="For a dump of one array: the tensor that it holds.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="For a dump: the order of the values.  [default: nchw]")
@click.option("--csv", "table", type=Destination(".csv"), metavar="OUT.csv", help="Write the table of the layers.")
@click.option(
    "--csv-samples",
    "samples_table",
    type=Destination(".csv"),
    metavar="OUT.csv",
    help="Write the samples that flip or err most (float models only).",
)
@click.option(
    "-o",
    "--output",
    "--report",
    "report",
    type=Destination(".html"),
    metavar="OUT.html",
    help="Write a report that opens offline (float models only).",
)
@click.option("--channels", is_flag=True, help="Put the numbers of each channel into the JSON object (float models only).")
@click.option(
    "--min-sqnr", type=float, metavar="D", help="Exit code 1 below this SQNR of the output, in dB (float models only)."
)
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Exit code 1 below this accuracy, in percent (float models and labels only).",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Exit code 1 where the accuracy is lower than the float model's by more than this, in percent; without labels where "
    "more samples change their class (float models only).",
)
@click.option(
    "--exclude",
    type=SampleNumbers(),
    default=(),
    metavar="N,N-N",
    help="Leave samples out, counted from 0, such as 3,17,40-59; all others keep their numbers (float models only).",
)
@click.option(
    "--prove", is_flag=True, help="Prove that both models are equal for every input, or find one at which they differ."
)
@click.option(
    "--certificate", type=Destination(".json"), metavar="CERT.json", help="With --prove: write what was found as a certificate."
)
@click.option("--check", type=SOURCE, metavar="CERT.json", help="With --prove: prove this certificate again.")
@click.option(
    "--witness", type=Destination(".npz"), metavar="X.npz", help="With --prove: write inputs at which outputs differ."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="T",
    help=f"With --prove: time for the search for a difference.  [default: {DEFAULT_SECONDS:g}]",
)
@click.option(
    "--against-arithmetic", metavar="NAME", help="How the integer layers of OTHER are computed.  [default: that of its format]"
)
@force_option
@threads_option
@dask_option
@quiet_option
@arithmetic_option
@input_codes_option
@input_alpha_option
@input_stage_option
@json_option
def compare_command(
    model: str,
    against: str,
    data: str | None,
    labels: str | None,
    samples: int | None,
    seed: int | None,
    tensor: str | None,
    layout: str | None,
    table: str | None,
    samples_table: str | None,
    report: str | None,
    channels: bool,
    min_sqnr: float | None,
    min_accuracy: float | None,
    max_drop: float | None,
    exclude: tuple[int, ...],
    prove: bool,
    certificate: str | None,
    check: str | None,
    witness: str | None,
    seconds: float | None,
    against_arithmetic: str | None,
    input_codes: str | None,
    input_alpha: InputAlpha | None,
    force: bool,
    threads: int | None,
    dask: str | None,
    quiet: bool,
    arithmetic: str | None,
    input_stage: str,
    as_json: bool,
) -> int:
    """Compare MODEL, a quantized .onnx file, with something else, layer by layer.

    With the float model that was quantized: layers are aligned though names and nodes differ, the scales that the graph does
    not carry are recovered, and for each layer the table says how large its error is, where it comes from (its inputs, the
    weights, bias and scale, rounding, clipping), and what the output would win if this layer alone were float. Findings name
    causes and remedies.

    With another quantized model, onnxruntime or a device dump, every value must be equal; the first that is not is explained
    with its arithmetic.

    With --prove two models are compared for every input: they are proven equal, or an input is found at which they differ, or
    it is said where the proof stops. A model and itself with --against-arithmetic show whether two arithmetics agree.

    The exit code is 0 as expected, and 1 for a finding of severity error, a value that is not equal, or what is not proven.

    \b
    Example: npusim compare model.onnx --against float.onnx --data recorded.npz
    Example: npusim compare model.onnx --against simplified.onnx --prove
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    given = (
        *(("--csv-samples", samples_table), ("--report", report), ("--channels", channels), ("--labels", labels)),
        *(("--min-sqnr", min_sqnr is not None), ("--min-accuracy", min_accuracy is not None)),
        *(("--max-drop", max_drop is not None), ("--exclude", bool(exclude))),
    )
    parts = (None if value is None else value / 100 for value in (min_accuracy, max_drop))
    limits = Limits(min_sqnr, *parts)
    options = FloatOptions(table, samples_table, report, channels, limits, exclude, threads, quiet, as_json, dask)
    options.check((model, against, data, labels), force=force)
    proof = ProofOptions(certificate, check, witness, seconds, against_arithmetic)
    proof.check((model, against, data, check), asked=prove, force=force)
    session = InferenceSession(
        model, threads=threads, arithmetic=arithmetic, input_codes=input_codes, input_alpha=input_alpha, input_stage=input_stage
    )
    if dask is not None and (prove or _is_dump(against)):
        raise UsageError("--dask is for samples and models; a proof and a dump are computed in this process, leave it out")
    if prove:
        if table is not None or options.is_for_floats or labels is not None or tensor is not None or layout is not None:
            raise UsageError("--prove compares two models for every input; leave out options for tables, reports and dumps")
        return compare_proof(
            session, proof.other(against, input_stage, threads), data, proof, seed=seed, quiet=quiet, as_json=as_json
        )
    is_dump = _is_dump(against)
    other = None if is_dump or against == RUNTIME else other_model(against, input_stage, threads)
    if not is_dump and (tensor is not None or layout is not None):
        raise UsageError("--tensor and --layout are for dumps; leave them out here")
    dump = read_dump(against) if is_dump else None
    against_float = other is not None and not is_quantized(other.program)
    feeds, known, source = read_compared(session, data, labels, samples, seed, extremes=not against_float, announce=note)
    if other is not None and against_float:
        return compare_float(session, other, feeds, known, source, options)
    if floats_only := [name for name, value in given if value]:
        what = "a dump" if is_dump else "onnxruntime" if other is None else "a quantized model"
        raise UsageError(
            f"{' and '.join(floats_only)}: for comparisons with a float model only, but '{against}' is {what}; leave it out "
            "or give a float model with --against"
        )
    return compare_exact(
        session,
        other if dump is None else dump,
        feeds,
        source,
        quiet=quiet,
        as_json=as_json,
        tensor=tensor,
        layout=layout or LAYOUTS[0],
        table=table,
        dask=dask,
    )


def _is_dump(against: str) -> bool:
    """Whether the other side is neither a model nor onnxruntime."""
    return against != RUNTIME and Path(against).suffix.lower() not in (".onnx", ".tflite")
