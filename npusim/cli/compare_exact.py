"""``npusim compare`` in integers: another quantized model, onnxruntime, or a device dump."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from npusim.cli.output import Column, Row, count, number, paragraph, print_json, render_table, terminal_width
from npusim.cli.progress import progress
from npusim.engine.cluster import open_cluster
from npusim.engine.session import InferenceSession
from npusim.errors import printable
from npusim.files.dumps import Dump
from npusim.files.tables import csv_bytes
from npusim.files.writing import replacing
from npusim.findings import Finding
from npusim.graph import Array
from npusim.results.base import SampleSource
from npusim.results.comparison import compare_exactly
from npusim.verification import ExactComparison, LayerDifferences

__all__ = ["compare_exact", "print_exact"]

COLUMNS = (
    Column("layer", shrinks=True),
    Column("kind"),
    Column("values", right=True),
    Column("mismatches", right=True),
    Column("mean diff\n(LSB)", right=True),
    Column("max diff\n(LSB)", right=True),
)

SHOWN_BINS = 4
"""Differences of a histogram shown in a table, the most frequent ones."""


def compare_exact(
    session: InferenceSession,
    other: InferenceSession | Dump | None,
    feeds: Mapping[str, Array],
    source: SampleSource,
    *,
    quiet: bool,
    as_json: bool,
    tensor: str | None = None,
    layout: str = "nchw",
    table: str | None = None,
    dask: str | None = None,
) -> int:
    """Compare, print, and give the exit code: 0 when all values are equal, else 1.

    Parameters
    ----------
    session
        The model.
    other
        The other side: another quantized model, a dump, or None for onnxruntime.
    feeds
        Inputs by name, samples on the first axis.
    source
        Where the inputs are from.
    quiet
        No progress on stderr.
    as_json
        Print one JSON object instead of tables.
    tensor, layout
        For a dump: the tensor that it holds, and the order of its values.
    table
        A .csv file to write the table of the layers to.
    dask
        Address of workers.
    """
    with open_cluster(dask) as cluster, progress("compare", quiet=quiet) as report:
        done = compare_exactly(session, other, feeds, source, tensor=tensor, layout=layout, cluster=cluster, progress=report)
    if table is not None:
        with replacing(Path(table)) as file:
            file.write(csv_bytes(done.result.to_pandas()))
    if as_json:
        print_json(done)
    else:
        print_exact(done.result, done.findings, terminal_width())
    return 0 if done else 1


def print_exact(result: ExactComparison, findings: tuple[Finding, ...], width: int) -> None:
    """A table of the layers, the first divergence with its arithmetic, and the verdict."""
    for line in render_table(COLUMNS, [_row(layer) for layer in result.layers], width):
        click.echo(click.style(line, fg="red") if line.startswith("!!") else line)
    for note in result.notes:
        click.echo()
        click.echo(paragraph(f"Reading: {note}.", width))
    if any(layer.comparison != "exact" for layer in result.layers):
        click.echo()
        click.echo(
            paragraph(
                "(given): compared on the other side's own inputs, because a float32 sum before may be rounded in another "
                "order; (bounded): such a sum itself, within the limit of its rounding.",
                width,
            )
        )
    if result.divergence is not None:
        click.echo()
        click.echo(printable(str(result.divergence), keep="\n"))
    click.echo()
    for finding in findings:
        where = "" if finding.layer is None else f" '{finding.layer}':"
        click.echo(paragraph(f"{finding.severity} ({finding.rule}){where} {finding.message}; {finding.remedy}.", width))
    click.echo(paragraph(_verdict(result), width))


def _row(layer: LayerDifferences) -> Row:
    marks = {"exact_given_inputs": " (given)", "bounded": " (bounded)"}
    cells = (
        layer.name,
        layer.kind + marks.get(layer.comparison, ""),
        f"{layer.elements:,}",
        f"{layer.mismatches:,}",
        _short(layer.mean_difference),
        _short(layer.largest),
    )
    return Row(cells, layer.mismatches > 0, tuple(_histogram(layer)))


def _short(value: float) -> str:
    return number(value) if value % 1 == 0 else f"{value:.3g}"


def _histogram(layer: LayerDifferences) -> Iterator[str]:
    """How often the most frequent differences but 0 occur, in ascending order."""
    differing = {key: found for key, found in layer.histogram.items() if key}
    if differing:
        frequent = sorted(differing, key=lambda key: -differing[key])[:SHOWN_BINS]
        shown = ", ".join(f"{key:+d} {differing[key]:,} times" for key in sorted(frequent))
        rest = len(differing) - len(frequent)
        yield f"LSB: {shown}" + (f", and {count(rest, 'other difference')}" if rest else "")


def _verdict(result: ExactComparison) -> str:
    layers, values, samples = (
        count(len(result.layers), "layer"),
        count(result.elements, "value"),
        count(result.samples, "sample"),
    )
    if result.ok:
        return f"equal to {result.names[1]}: {layers}, {values}, {samples}"
    differing = sum(layer.mismatches > 0 for layer in result.layers)
    return f"NOT EQUAL to {result.names[1]}: {result.mismatches:,} of {values} differ, in {differing} of {layers}, {samples}"
