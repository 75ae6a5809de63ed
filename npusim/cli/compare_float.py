"""``npusim compare`` with a float model: the work, the files, and the JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from npusim.cli.compare_text import print_comparison
from npusim.cli.output import print_json, result_object, terminal_width
from npusim.cli.progress import progress
from npusim.comparison.dataset_result import samples_table
from npusim.comparison.findings import alignment_findings, find_causes, observe_codes, weight_of
from npusim.comparison.float_comparison import compare_with_float
from npusim.comparison.result import FloatComparison
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.files.arrays import replacing
from npusim.findings import Finding
from npusim.graph import Array
from npusim.graph.model_file import ModelFile

__all__ = ["FloatOptions", "compare_float", "float_object", "ranked_findings"]

BY_CHANNEL: Final = ("channels", "channel_mean_error", "channel_root_mean_square_error", "by_channel", "weight_correlation")


@dataclass(frozen=True, slots=True)
class FloatOptions:
    """Options of a comparison with a float model: files to write, what to print, threads."""

    table: str | None
    samples: str | None
    report: str | None
    channels: bool
    threads: int | None
    quiet: bool
    as_json: bool

    def check(self, sources: Sequence[str | None], *, force: bool) -> None:
        """Refuse before any work what could not be written after it."""
        if self.channels and not self.as_json:
            raise UsageError("--channels is for --json; give both, or write a report with --report")
        if self.report is not None:
            from npusim.comparison.report import check_drawable

            check_drawable()
        for path in (self.table, self.samples, self.report):
            if path is None:
                continue
            target = Path(path)
            if not target.parent.is_dir():
                raise UsageError(f"{path}: there is no folder '{target.parent}'; make it first")
            if target.is_dir():
                raise UsageError(f"{path}: is a folder; name a file to write to")
            for source in sources:
                if source is not None and target.exists() and Path(source).exists() and target.samefile(source):
                    raise UsageError(f"{path}: is read as well ('{source}'), and would be overwritten; name another file")
            if target.exists() and not force:
                raise UsageError(f"{path}: exists already; name another file, or overwrite it with --force")
        written = [Path(path).absolute() for path in (self.table, self.samples, self.report) if path is not None]
        if len(set(written)) < len(written):
            raise UsageError("two of --csv, --csv-samples and --report name the same file; name different ones")


def compare_float(
    session: InferenceSession,
    reference: InferenceSession,
    feeds: Mapping[str, Array],
    labels: Array | None,
    source: Mapping[str, Any],
    options: FloatOptions,
) -> int:
    """Compare, write, print, and give the exit code: 1 for a finding of severity error, else 0."""
    with progress("compare", quiet=options.quiet, unit="parts") as show:

        def report(work: str, done: int, total: int) -> None:
            # measuring is the first half of the bar, the experiments are the second
            if show is not None:
                show(done + (total if work == "experiments" else 0), 2 * total)

        comparison = compare_with_float(session, reference, feeds, labels=labels, threads=options.threads, progress=report)
        observations = observe_codes(session, feeds)
    findings = ranked_findings(
        alignment_findings(comparison), find_causes(session.program, observations=observations, comparison=comparison)
    )
    ok = comparison.ok and not any(finding.severity == "error" for finding in findings)
    if options.table is not None:
        with replacing(Path(options.table)) as file:
            file.write(comparison.to_pandas().to_csv(index=False).encode())
    if options.samples is not None and comparison.outputs:
        listed = samples_table(comparison.outputs[0].classification, comparison.outputs[0].worst)
        with replacing(Path(options.samples)) as file:
            file.write(listed.to_csv(index=False).encode())
    if options.report is not None:
        _write_report(options.report, session.model, reference.model, comparison, findings)
    if options.as_json:
        print_json(float_object(session.model, reference.model, comparison, findings, source, ok=ok, channels=options.channels))
    else:
        print_comparison(comparison, findings, source, terminal_width())
    return 0 if ok else 1


def ranked_findings(first: Sequence[Finding], second: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of both sorts: errors about the comparison itself, then those whose layers cost the output most."""
    blocking = [finding for finding in first if finding.severity == "error"]
    others = [finding for finding in first if finding.severity != "error"]
    return (*blocking, *sorted((*others, *second), key=lambda finding: -weight_of(finding)))


def float_object(
    model: ModelFile,
    against: ModelFile,
    comparison: FloatComparison,
    findings: Sequence[Finding],
    source: Mapping[str, Any],
    *,
    ok: bool,
    channels: bool,
) -> dict[str, Any]:
    """The JSON object of a comparison with a float model."""
    found = comparison.as_json()
    layers = found["layers"] if channels else [_without(layer, BY_CHANNEL) for layer in found["layers"]]
    output = comparison.outputs[0] if comparison.outputs else None
    totals = {
        "samples": comparison.samples,
        "experiment_samples": comparison.experiment_samples,
        "layers": len(comparison.layers) + len(comparison.unpaired),
        "paired_layers": len(comparison.layers),
        "output_sqnr_db": None if output is None else output.sqnr_db,
        "experiment_sqnr_db": comparison.experiment_sqnr_db,
        "scale_agreement": comparison.scale_agreement,
    }
    return {
        **result_object(model, ok=ok, layers=layers, totals=totals),
        "findings": [asdict(finding) for finding in findings],
        "comparison": "float",
        "against": {"kind": "float_model", "path": against.path, "sha256": against.sha256, "version": None},
        "inputs": dict(source),
        "outputs": found["outputs"],
        "unpaired": found["unpaired"],
        "unpaired_float": found["unpaired_float"],
    }


def _without(value: Any, names: Sequence[str]) -> Any:  # noqa: ANN401 - anything that JSON can hold
    """A JSON value without what there is for each channel; `weights` is that of scales, but a part of an attribution."""
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if key not in names}
        return {key: _without(item, names) for key, item in kept.items() if key != "weights" or not isinstance(item, list)}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _write_report(
    path: str, model: ModelFile, against: ModelFile, comparison: FloatComparison, findings: Sequence[Finding]
) -> None:
    from npusim.comparison.report import ReportContent, write_report

    write_report(path, ReportContent(model.label, model.sha256, against.label, comparison, findings))
