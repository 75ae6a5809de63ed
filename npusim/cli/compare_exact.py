"""``npusim compare`` in integers: another quantized model, onnxruntime, or a device dump."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from npusim.cli.output import count, number, paragraph, print_json, result_object, terminal_width
from npusim.cli.progress import progress
from npusim.cli.tables import Column, Row, render_table
from npusim.engine.second_opinion import runtime_version
from npusim.engine.session import InferenceSession
from npusim.files.arrays import replacing
from npusim.files.dumps import Dump
from npusim.findings import Finding
from npusim.graph import Array
from npusim.graph.model_file import ModelFile
from npusim.verification import (
    ExactComparison,
    LayerDifferences,
    compare_models,
    compare_with_dump,
    compare_with_runtime,
    exact_findings,
)

__all__ = ["ExactAgainst", "compare_exact", "exact_object", "print_exact"]

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


@dataclass(frozen=True, slots=True)
class ExactAgainst:
    """What a model is compared with: another session, a dump, or onnxruntime where both are None.

    Attributes
    ----------
    session
        The other quantized model.
    dump
        What a device wrote.
    tensor, layout
        For a dump: the tensor that it holds, and the order of its values.
    """

    session: InferenceSession | None = None
    dump: Dump | None = None
    tensor: str | None = None
    layout: str = "nchw"

    @property
    def described(self) -> dict[str, Any]:
        """What the JSON object says of it."""
        if self.session is not None:
            model = self.session.model
            return {"kind": "model", "path": model.path, "sha256": model.sha256, "version": None}
        if self.dump is not None:
            return {"kind": "dump", "path": self.dump.path, "sha256": None, "version": None}
        return {"kind": "onnxruntime", "path": None, "sha256": None, "version": runtime_version()}


def compare_exact(
    session: InferenceSession,
    against: ExactAgainst,
    feeds: Mapping[str, Array],
    source: Mapping[str, Any],
    *,
    quiet: bool,
    as_json: bool,
    table: str | None = None,
) -> int:
    """Compare, print, and give the exit code: 0 when all values are equal, else 1.

    Parameters
    ----------
    session
        The model.
    against
        The other side.
    feeds
        Inputs by name, samples on the first axis.
    source
        What the JSON object says of the inputs: ``path`` and ``seed``.
    quiet
        No progress on stderr.
    as_json
        Print one JSON object instead of tables.
    table
        A .csv file to write the table of the layers to.
    """
    with progress("compare", quiet=quiet) as report:
        if against.session is not None:
            result = compare_models(session, against.session, feeds, progress=report)
        elif against.dump is not None:
            result = compare_with_dump(
                session, feeds, against.dump, tensor=against.tensor, layout=against.layout, progress=report
            )
        else:
            result = compare_with_runtime(session, feeds, progress=report)
    findings = exact_findings(result)
    if table is not None:
        with replacing(Path(table)) as file:
            file.write(result.to_pandas().to_csv(index=False).encode())
    if as_json:
        print_json(exact_object(session.model, result, findings, against, source))
    else:
        print_exact(result, findings, terminal_width())
    return 0 if result.ok else 1


def exact_object(
    model: ModelFile,
    result: ExactComparison,
    findings: tuple[Finding, ...],
    against: ExactAgainst,
    source: Mapping[str, Any],
) -> dict[str, Any]:
    """The JSON object of an exact comparison."""
    totals = {
        "samples": result.samples,
        "layers": len(result.layers),
        "differing_layers": sum(layer.mismatches > 0 for layer in result.layers),
        "elements": result.elements,
        "mismatches": result.mismatches,
    }
    shared = result_object(model, ok=result.ok, layers=[layer.as_json() for layer in result.layers], totals=totals)
    return {
        **shared,
        "findings": [asdict(finding) for finding in findings],
        "comparison": "exact",
        "against": against.described,
        "inputs": dict(source),
        "not_compared": {"model": list(result.only_model), "other": list(result.only_other)},
        "divergence": None if result.divergence is None else result.divergence.as_json(),
    }


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
        click.echo(str(result.divergence))
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
