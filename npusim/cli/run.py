"""``npusim run``: the outputs of a model, to the bit, and any inner tensor."""

from __future__ import annotations

import click

from npusim.cli.destinations import check_destination, force_option
from npusim.cli.options import (
    arithmetic_option,
    dask_option,
    engine_option,
    input_alpha_option,
    input_codes_option,
    input_stage_option,
    json_option,
    model_argument,
    quiet_option,
    threads_option,
)
from npusim.cli.output import Column, Row, count, note, number, print_json, render_table, terminal_width
from npusim.cli.paths import SOURCE, Destination, as_given
from npusim.cli.progress import progress
from npusim.engine.cluster import open_cluster
from npusim.engine.planning import InputAlpha
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import input_specs
from npusim.errors import printable
from npusim.files.datasets import read_inputs
from npusim.results.simulation import RunResult, run_to_archive

__all__ = ["run_command"]

COLUMNS = (
    Column("array", shrinks=True),
    Column("role"),
    Column("dtype"),
    Column("shape"),
    Column("smallest", right=True),
    Column("largest", right=True),
)


@click.command("run", short_help="Compute the outputs of a model.")
@model_argument
@click.argument("inputs", type=SOURCE, metavar="INPUTS")
@click.option(
    "-o",
    "--output",
    type=Destination(".npz"),
    required=True,
    metavar="OUT.npz",
    help="Archive to write; it appears whole or not at all.",
)
@click.option(
    "--trace",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Also store the inner tensors of these ONNX names, as integer codes where they are integers; *, ? and [...] match. "
    "May be given several times.",
)
@click.option(
    "--codes",
    is_flag=True,
    help="Store outputs as the integer codes that the device holds (int8, uint8), not in the element type that MODEL declares.",
)
@force_option
@engine_option
@threads_option
@dask_option
@quiet_option
@arithmetic_option
@input_codes_option
@input_alpha_option
@input_stage_option
@json_option
def run_command(
    model: str,
    inputs: str,
    output: str,
    patterns: tuple[str, ...],
    codes: bool,
    force: bool,
    engine: str,
    threads: int | None,
    dask: str | None,
    quiet: bool,
    arithmetic: str | None,
    input_codes: str | None,
    input_alpha: InputAlpha | None,
    input_stage: str,
    as_json: bool,
) -> int:
    """Compute the outputs of MODEL, an .onnx file, for the samples in INPUTS.

    INPUTS is a .npz file with an array for each input, or a .npy, .csv or .parquet file for a model with one input. OUT.npz
    gets an array for each output and for each traced tensor, under their ONNX names.

    \b
    Example: npusim run model.onnx samples.npz -o outputs.npz --trace '*/Clip_output_0'
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    check_destination(output, (model, inputs), force=force, suffixes=(".npz",))
    session = InferenceSession(
        model,
        engine=engine,
        threads=threads,
        arithmetic=arithmetic,
        input_codes=input_codes,
        input_alpha=input_alpha,
        input_stage=input_stage,
    )
    feeds = read_inputs(inputs, input_specs(session), note)
    with open_cluster(dask) as cluster, progress("run", quiet=quiet) as report:
        done = run_to_archive(session, feeds, output, patterns=patterns, codes=codes, cluster=cluster, progress=report)
    if as_json:
        print_json(done)
    else:
        _print(done)
    return 0


def _print(done: RunResult) -> None:
    rows = []
    for found in done.arrays:
        ends = ("-" if end is None else number(end) for end in (found.smallest, found.largest))
        rows.append(Row((found.name, found.role, found.dtype, "x".join(map(str, found.shape)) or "()", *ends)))
    for line in render_table(COLUMNS, rows, terminal_width()):
        click.echo(line)
    click.echo()
    click.echo(f"{printable(as_given(done.output))}: {count(len(rows), 'array')}, {count(done.totals.samples, 'sample')}")
