"""``npusim.lint``: will it run on the NPU, and what does it cost."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from npusim import __version__
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError, count
from npusim.files.writing import replacing
from npusim.findings import SourcedFinding
from npusim.graph.model_file import ModelFile
from npusim.results.base import CommandResult, Model, ModelIdentity, file_of, identity_of
from npusim.rules import DEFAULT_COMPILER, LintedLayer, LintReport, Placement, lint_model, rulebook
from npusim.rules.cycles import CycleEstimate, estimate_cycles
from npusim.rules.fix import Fixed, fix_model
from npusim.rules.fix.repair import Repair
from npusim.rules.graph_findings import Stage
from npusim.rules.rulebook import Device, Rulebook
from npusim.schemas.derivation import Count, Finite, Maximum, Minimum
from npusim.schemas.objects import UNLISTED

__all__ = ["Left", "LintFix", "LintResult", "LintRules", "LintTotals", "lint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LintTotals:
    """Sums over the layers.

    Attributes
    ----------
    layers
        Layers, and operations that the host computes though it need not.
    npu, host, unknown
        Layers with this verdict.
    errors, warnings
        Findings of this severity.
    multiply_accumulates
        Of all layers, for one sample.
    npu_share
        Share of the multiply-accumulates in layers with the verdict npu.
    parameter_bytes
        Of all steps.
    activation_bytes
        Peak of live tensors of codes.
    peak_bytes
        Peak of live tensors, floats of the host included.
    peak_step
        Where that peak is.
    """

    layers: Count
    npu: Count
    host: Count
    unknown: Count
    errors: Count
    warnings: Count
    multiply_accumulates: Count
    npu_share: Annotated[float, Finite(), Minimum(0), Maximum(1)] | None
    parameter_bytes: Count
    activation_bytes: Count | None
    peak_bytes: Count | None
    peak_step: str | None


@dataclass(frozen=True, slots=True)
class Left:
    """What could not be repaired.

    Attributes
    ----------
    layer
        Where.
    reason
        Why not.
    """

    layer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFix:
    """What was repaired.

    Attributes
    ----------
    path
        The file asked for.
    written
        Whether there was something to repair.
    repairs
        In the order in which they were made.
    left
        What could not be repaired.
    samples
        Samples on which both models gave the same bits.
    layers, findings, totals
        Of the repaired model.
    """

    path: str
    written: bool
    repairs: tuple[Repair, ...]
    left: tuple[Left, ...]
    samples: Count
    layers: tuple[LintedLayer, ...]
    findings: tuple[SourcedFinding, ...]
    totals: LintTotals


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class LintResult(CommandResult):
    """A model held against the public rules of a device; true without findings of level error.

    Attributes
    ----------
    layers
        In execution order, without the stages.
    findings
        In the order of the layers.
    totals
        Sums over the layers.
    device
        What is public of the device.
    compiler
        Version of the compiler.
    stages
        What the host computes by design.
    cycles
        An estimate fitted to published figures, or the reason why there is none.
    fix
        Result of --fix.
    file, report, fixed
        The model, and the same as the room of rules gives it.
    """

    layers: tuple[LintedLayer, ...]
    findings: tuple[SourcedFinding, ...]
    totals: LintTotals
    device: Device
    compiler: str
    stages: tuple[Stage, ...]
    cycles: CycleEstimate
    fix: LintFix | None
    file: ModelFile = field(metadata=UNLISTED)
    report: LintReport = field(metadata=UNLISTED)
    fixed: Fixed | None = field(default=None, metadata=UNLISTED)

    def summary(self) -> str:
        """How many layers run where, and how many findings there are."""
        totals = self.totals
        return (
            f"{self.device.title}: {totals.npu} of {totals.layers} layers on the NPU, {totals.host} on the host, "
            f"{totals.unknown} unknown; {count(totals.errors, 'error')}, {count(totals.warnings, 'warning')}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LintRules:
    """What '--rules --json' prints.

    Attributes
    ----------
    npusim
        Version of npusim.
    devices
        What is public of each device.
    """

    npusim: str = field(default=__version__, init=False)
    devices: tuple[Rulebook, ...]


def lint(
    model: Model,
    device: str,
    *,
    compiler: str = DEFAULT_COMPILER,
    strict: bool = False,
    fix: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    arithmetic: str | None = None,
) -> LintResult:
    """Hold a model against the public rules of a device: what runs on the NPU, what does not, and why.

    Parameters
    ----------
    model
        A session, the path of an ``.onnx`` file, or its content.
    device
        Its name, for example ``"f28p55x"``; ``"soft"`` for the soft library on any other.
    compiler
        Version of the vendor's compiler.
    strict
        Count warnings like errors.
    fix
        Write a repaired model, which is proven to give the same outputs, to this file; it is not written where there is nothing
        to repair. The result is true then where the repaired model is without errors.
    overwrite
        Let `fix` replace a file.
    arithmetic
        How integer layers are computed; None for that of the session, or the default of the model's format.

    Returns
    -------
    LintResult
        True without errors (with `strict`, and without warnings).

    Raises
    ------
    UsageError
        If there is no such device or version, or `fix` exists.
    ModelError, UnsupportedError
        If the model cannot be read, or cannot be planned for another reason than one that is a finding.

    Examples
    --------
    >>> result = npusim.lint("golden/keywords_w8.onnx", "f28p55x")  # doctest: +SKIP
    >>> result.totals.npu, [finding.rule for finding in result.findings]  # doctest: +SKIP
    (4, ['not-covered'])
    """
    target = None if fix is None else Path(fix)
    if target is not None and target.exists() and not overwrite:
        raise UsageError(f"{target}: exists already; name another file, or allow it to be overwritten")
    source = file_of(model)
    chosen = model.arithmetic if arithmetic is None and isinstance(model, InferenceSession) else arithmetic
    report = lint_model(source, rulebook(device, compiler), chosen)
    fixed = None if target is None else fix_model(source, report)
    if fixed is not None and target is not None and fixed.content is not None:
        with replacing(target, overwrite=overwrite) as file:
            file.write(fixed.content)
    return LintResult(
        model=_identity(source, report),
        ok=(report if fixed is None else fixed.report).is_ok(strict=strict),
        layers=report.layers,
        findings=report.findings,
        totals=_totals(report),
        device=report.book.device,
        compiler=report.book.compiler,
        stages=report.stages,
        cycles=estimate_cycles(report),
        fix=None if fixed is None else _fix(fixed, str(target)),
        file=source,
        report=report,
        fixed=fixed,
    )


def _fix(fixed: Fixed, path: str) -> LintFix:
    return LintFix(
        path=path,
        written=fixed.content is not None,
        repairs=fixed.repairs,
        left=tuple(Left(layer, reason) for layer, reason in fixed.left),
        samples=fixed.samples,
        layers=fixed.report.layers,
        findings=fixed.report.findings,
        totals=_totals(fixed.report),
    )


def _totals(report: LintReport) -> LintTotals:
    memory = report.memory
    return LintTotals(
        layers=len(report.layers),
        npu=report.verdicts(Placement.NPU),
        host=report.verdicts(Placement.HOST),
        unknown=report.verdicts(Placement.UNKNOWN),
        errors=report.count("error"),
        warnings=report.count("warning"),
        multiply_accumulates=report.multiply_accumulates,
        npu_share=report.npu_share,
        parameter_bytes=report.parameter_bytes,
        activation_bytes=None if memory is None else memory.codes_bytes,
        peak_bytes=None if memory is None else memory.peak_bytes,
        peak_step=None if memory is None else memory.step,
    )


def _identity(model: ModelFile, report: LintReport) -> ModelIdentity:
    """The model, with format and arithmetic where it could be planned."""
    found, program = identity_of(model), report.program
    return found if program is None else replace(found, format=program.format, arithmetic=program.arithmetic)
