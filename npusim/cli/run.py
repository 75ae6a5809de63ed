"""``npusim run``: the outputs of a model, to the bit, and any inner tensor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import numpy as np

from npusim.cli.options import engine_option, json_option, model_argument, quiet_option, threads_option
from npusim.cli.output import count, number, print_json, result_object, terminal_width
from npusim.cli.progress import progress
from npusim.cli.tables import Column, Row, render_table
from npusim.datasets import read_inputs, write_arrays
from npusim.errors import UsageError
from npusim.graph import Array
from npusim.model_file import ModelFile
from npusim.session import InferenceSession
from npusim.simulation import Simulation, input_specs, simulate
from npusim.trace import step_kind

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
@click.argument("inputs", metavar="INPUTS")
@click.option("-o", "--output", required=True, metavar="OUT.npz", help="Archive to write; it appears whole or not at all.")
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
@engine_option
@threads_option
@quiet_option
@json_option
def run_command(
    model: str,
    inputs: str,
    output: str,
    patterns: tuple[str, ...],
    codes: bool,
    engine: str,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Compute the outputs of MODEL, an .onnx file, for the samples in INPUTS.

    INPUTS is a .npz file with an array for each input, or a .npy, .csv or .parquet file for a model with one input. OUT.npz
    gets an array for each output and for each traced tensor, under their ONNX names.

    \b
    Example: npusim run model.onnx samples.npz -o outputs.npz --trace '*/Clip_output_0'
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    _check_destination(output, (model, inputs))
    session = InferenceSession(model, engine=engine, threads=threads)
    feeds = read_inputs(inputs, input_specs(session))
    with progress("run", quiet=quiet) as report:
        result = simulate(session, feeds, patterns=patterns, codes=codes, progress=report)
    write_arrays(output, result.arrays)
    if as_json:
        print_json(_as_object(session.model, result, output))
    else:
        _print(result, output)
    return 0


def _check_destination(output: str, sources: tuple[str, ...]) -> None:
    """Refuse before any work what could not be written after it."""
    path = Path(output)
    if path.suffix != ".npz":
        raise UsageError(f"{output}: outputs are written as a .npz archive; let the name end in .npz")
    if not path.parent.is_dir():
        raise UsageError(f"{output}: there is no folder '{path.parent}'; make it first")
    if path.is_dir():
        raise UsageError(f"{output}: is a folder; name a file to write to")
    for source in sources:
        if path.exists() and os.path.exists(source) and path.samefile(source):
            raise UsageError(f"{output}: is read as well ('{source}'), and would be overwritten; name another file")


def _as_object(model: ModelFile, result: Simulation, output: str) -> dict[str, Any]:
    layers = [{"name": step.name, "tensor": step.tensors[-1], "kind": step_kind(step)} for step in result.steps]
    totals = {
        "samples": result.samples,
        "layers": len(layers),
        "outputs": len(result.outputs),
        "traced": len(result.traced),
    }
    return {
        **result_object(model, ok=True, layers=layers, totals=totals),
        "output": output,
        "arrays": [_array_object(name, array, result) for name, array in result.arrays.items()],
    }


def _array_object(name: str, array: Array, result: Simulation) -> dict[str, Any]:
    lowest, highest = _ends(array)
    return {
        "name": name,
        "role": "output" if name in result.outputs else "traced",
        "dtype": array.dtype.name,
        "shape": array.shape,
        "smallest": lowest,
        "largest": highest,
    }


def _ends(array: Array) -> tuple[Any, Any]:
    """Smallest and largest value; None for an array without elements."""
    return (np.min(array).item(), np.max(array).item()) if array.size else (None, None)


def _print(result: Simulation, output: str) -> None:
    rows = []
    for name, array in result.arrays.items():
        found = _array_object(name, array, result)
        ends = ("-" if found[end] is None else number(found[end]) for end in ("smallest", "largest"))
        rows.append(Row((name, found["role"], found["dtype"], "x".join(str(size) for size in array.shape) or "()", *ends)))
    for line in render_table(COLUMNS, rows, terminal_width()):
        click.echo(line)
    click.echo()
    click.echo(f"{output}: {count(len(rows), 'array')}, {count(result.samples, 'sample')}")
