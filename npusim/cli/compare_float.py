"""``npusim compare`` with a float model: the work, the files, and the JSON object."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from npusim.cli.compare_text import print_comparison
from npusim.cli.destinations import check_destination
from npusim.cli.output import print_json, terminal_width
from npusim.cli.progress import progress
from npusim.comparison.findings import Limits
from npusim.comparison.result import FloatComparison, samples_table
from npusim.engine.cluster import open_cluster
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.files.tables import csv_bytes
from npusim.files.writing import replacing
from npusim.findings import Finding
from npusim.graph import Array
from npusim.graph.model_file import ModelFile
from npusim.results.base import SampleSource
from npusim.results.comparison import compare_in_floats

__all__ = ["FloatOptions", "compare_float"]


MOST_EXCLUDED: Final = 10**7
"""Samples of one span that are left out."""


class SampleNumbers(click.ParamType[tuple[int, ...]]):
    """Numbers of samples, and spans of them: ``3,17,40-59``."""

    name = "numbers"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers."""
        if isinstance(value, tuple):
            return value
        found: list[int] = []
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
            if match is None:
                self.fail(f"'{part}' is no number of a sample, such as 3, and no span of them, such as 40-59", param, ctx)
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                self.fail(f"the span {part.strip()} ends before it begins", param, ctx)
            if last - first >= MOST_EXCLUDED:
                self.fail(f"the span {part.strip()} has more than {MOST_EXCLUDED:,} samples", param, ctx)
            found.extend(range(first, last + 1))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class FloatOptions:
    """Options of a comparison with a float model: files to write, what to print, limits, threads, workers."""

    table: str | None
    samples: str | None
    report: str | None
    channels: bool
    limits: Limits
    exclude: tuple[int, ...]
    threads: int | None
    quiet: bool
    as_json: bool
    dask: str | None = None

    @property
    def is_for_floats(self) -> bool:
        """Whether something is asked for that only a comparison with a float model gives."""
        return self.samples is not None or self.report is not None or self.channels or self.limits.any or bool(self.exclude)

    def check(self, sources: Sequence[str | None], *, force: bool) -> None:
        """Refuse before any work what could not be written after it."""
        if self.channels and not self.as_json:
            raise UsageError(
                "--channels is for --json, which is not given: it puts the numbers of each channel into the JSON object; "
                "add --json, or leave --channels out"
            )
        if self.report is not None:
            from npusim.comparison.report import check_drawable

            check_drawable()
        for path in (self.table, self.samples, self.report):
            check_destination(path, sources, force=force)
        written = [Path(path).absolute() for path in (self.table, self.samples, self.report) if path is not None]
        if len(set(written)) < len(written):
            raise UsageError("two of --csv, --csv-samples and --report name the same file; name different ones")


def compare_float(
    session: InferenceSession,
    reference: InferenceSession,
    feeds: Mapping[str, Array],
    labels: Array | None,
    source: SampleSource,
    options: FloatOptions,
) -> int:
    """Compare, write, print, and give the exit code: 1 for a finding of severity error, else 0."""
    with open_cluster(options.dask) as cluster, progress("compare", quiet=options.quiet, unit="parts") as report:
        done = compare_in_floats(
            session,
            reference,
            feeds,
            source,
            labels=labels,
            channels=options.channels,
            limits=options.limits,
            exclude=options.exclude,
            threads=options.threads,
            cluster=cluster,
            progress=report,
        )
    comparison, findings = done.result, done.findings
    if options.table is not None:
        with replacing(Path(options.table)) as file:
            file.write(csv_bytes(comparison.to_pandas()))
    if options.samples is not None and comparison.outputs:
        listed = samples_table(comparison.outputs[0].classification, comparison.outputs[0].worst)
        with replacing(Path(options.samples)) as file:
            file.write(csv_bytes(listed))
    if options.report is not None:
        _write_report(options.report, session.model, reference.model, comparison, findings)
    if options.as_json:
        print_json(done)
    else:
        print_comparison(comparison, findings, source, terminal_width())
    return 0 if done else 1


def _write_report(
    path: str, model: ModelFile, against: ModelFile, comparison: FloatComparison, findings: Sequence[Finding]
) -> None:
    from npusim.comparison.report import ReportContent, write_report

    write_report(path, ReportContent(model.label, model.sha256, against.label, comparison, findings))
