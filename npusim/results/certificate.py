"""``npusim.certify``: the worst case of every integer, and what is proven for every input."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from npusim.bounds.arithmetics import LayerAgreement, compare_layers
from npusim.bounds.certificate import Certificate, StepCertificate
from npusim.bounds.certificate import certify as prove
from npusim.bounds.certificate_file import (
    CertifiedModel,
    Comparison,
    Deviation,
    certificate_object,
    compare_certificate,
    read_certificate,
)
from npusim.bounds.channels import ChannelBounds
from npusim.bounds.report import RULES, findings_of
from npusim.bounds.robustness import RobustnessVerdict, RobustSample, judge_robustness
from npusim.bounds.verdicts import Property, Verdict
from npusim.bounds.widths import Room, room_of
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError, count
from npusim.files.arrays import write_arrays
from npusim.files.json_files import write_json
from npusim.findings import Finding
from npusim.program.input_stage import InputStage
from npusim.program.intervals import IntegerEnds, Interval
from npusim.results.base import CommandResult, Model, SampleSource, identity_of, session_of
from npusim.results.not_quantized import NOT_QUANTIZED, not_quantized
from npusim.results.samples import Inputs, choose_inputs
from npusim.schemas.derivation import Count, Rules
from npusim.schemas.objects import UNLISTED
from npusim.verification.equality import EqualityVerdict, prove_programs_equal

__all__ = ["BoundsLayer", "BoundsTotals", "CertificateOnDisk", "CertifyResult", "ChannelIntervals", "certify"]

_ROBUSTNESS_RULES = ("class_changes", "class_unknown")
_CHECK_RULES = ("other_model", "changed_verdict", "changed_evidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelIntervals:
    """Intervals of each channel.

    Attributes
    ----------
    accumulator, biased, scaled, floored
        One for each channel.
    digit_accumulators
        For each 2-bit digit of the weights; null where weights leave their declared bits, or the format is not the NPU's.
    """

    accumulator: tuple[IntegerEnds, ...]
    biased: tuple[IntegerEnds, ...]
    scaled: tuple[IntegerEnds, ...] | None
    floored: tuple[IntegerEnds, ...]
    digit_accumulators: tuple[tuple[IntegerEnds, ...], ...] | None


@dataclass(frozen=True, slots=True)
class BoundsLayer:
    """A step: the intervals inside of it, and what is proven of it.

    Attributes
    ----------
    step
        What is known of it.
    room
        Bits left; null where there is no accumulator.
    channels
        Where they are asked for and there is an accumulator.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("name=step.name", "tensor=step.tensor", "kind=step.kind", "attained=step.attained"),
        *("accumulator=step.accumulator", "biased=step.biased", "scaled=step.scaled", "floored=step.floored"),
        *("digit_accumulator=step.digit_accumulator", "room", "channels", "verdicts=step.verdicts"),
        *("reasons=step.reasons", "onnxruntime_optimized=step.onnxruntime_optimized", "evidence=step.evidence"),
    )

    step: StepCertificate
    room: Room | None
    channels: ChannelIntervals | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundsTotals:
    """Sums over the layers.

    Attributes
    ----------
    layers
        Steps of all sorts.
    integer_layers
        Steps in integers.
    proven, violated, unknown
        Verdicts of all layers.
    errors, warnings
        Findings of this severity.
    """

    layers: Count
    integer_layers: Count
    proven: Count
    violated: Count
    unknown: Count
    errors: Count
    warnings: Count


@dataclass(frozen=True, slots=True)
class CertificateOnDisk:
    """The certificate that was written, or with --check compared.

    Attributes
    ----------
    path
        Its file.
    checked
        Whether it was compared.
    reproduced
        Whether each of its statements was found again; null where it was written.
    """

    path: str
    checked: bool
    reproduced: bool | None


@dataclass(frozen=True, slots=True)
class RobustnessReport:
    """Whether the class of samples can change when each input code moves a little.

    Attributes
    ----------
    codes
        How far each input code may move, up or down.
    output
        The output whose largest element is the class.
    inputs
        The samples.
    proven, broken, unknown
        How many keep their class, how many lose it at an input that was found, and how many are neither.
    samples
        Each of them.
    witness
        The file that inputs with another class were written to; null without one.
    """

    codes: Count
    output: str
    inputs: SampleSource
    proven: Count
    broken: Count
    unknown: Count
    samples: tuple[RobustSample, ...]
    witness: str | None


@dataclass(frozen=True, slots=True)
class ComparedLayer:
    """A layer in two arithmetics.

    Attributes
    ----------
    found
        What is known of it.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("name=found.layer", "tensor=found.tensor", "agreement=found.agreement", "reason=found.reason"),
        *("position=found.position", "codes=found.codes"),
    )

    found: LayerAgreement


@dataclass(frozen=True, slots=True)
class ArithmeticsReport:
    """Whether another arithmetic gives the same codes.

    Attributes
    ----------
    against
        The other arithmetic.
    verdict
        Of the model: ``proven`` equal for every input, ``different`` at an input that was run, or ``unknown``.
    reason
        Why, a clause.
    layers
        Each layer by itself, for all codes that its inputs can hold.
    """

    against: str
    verdict: EqualityVerdict
    reason: str
    layers: tuple[ComparedLayer, ...]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CertifyResult(CommandResult):
    """What is proven of a model for every input; true when nothing is violated and all widths hold.

    Attributes
    ----------
    layers
        In execution order.
    findings
        In the order of the layers; with --check, how the certificate differs.
    totals
        Sums over the layers.
    proof
        What is proven.
    certificate
        Null without -o and --check.
    compared
        How a certificate that was given compares.
    robustness
        Whether the class of samples can change when each input code moves a little; null where it was not asked for.
    arithmetics
        Whether another arithmetic gives the same codes; null where it was not asked for.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("npusim", "model", "ok", "layers", "findings", "totals", "verdicts=proof.verdicts", "reasons=proof.reasons"),
        *("onnxruntime_optimized=proof.onnxruntime_optimized", "certificate", "robustness", "arithmetics"),
    )

    layers: tuple[BoundsLayer, ...]
    findings: Annotated[tuple[Finding, ...], Rules((*RULES, *_CHECK_RULES, *_ROBUSTNESS_RULES, NOT_QUANTIZED))]
    totals: BoundsTotals
    proof: Certificate
    certificate: CertificateOnDisk | None
    compared: Comparison | None = field(default=None, metadata=UNLISTED)
    robustness: RobustnessReport | None = None
    arithmetics: ArithmeticsReport | None = None

    def summary(self) -> str:
        """The verdict on each statement."""
        said = ", ".join(f"{statement} {judgement.verdict}" for statement, judgement in self.proof.model.items())
        stage = "" if self.model.input_stage in (None, InputStage.GRAPH) else f", for the input stage {self.model.input_stage}"
        return f"{said}{stage}; {count(self.totals.errors, 'error')}, {count(self.totals.warnings, 'warning')}"


def certify(
    model: Model,
    *,
    strict: bool = False,
    channels: bool = False,
    output: str | os.PathLike[str] | None = None,
    check: str | os.PathLike[str] | None = None,
    robust: int | None = None,
    inputs: Inputs | None = None,
    witness: str | os.PathLike[str] | None = None,
    against_arithmetic: str | None = None,
    allow_float: bool = False,
    progress: Progress | None = None,
) -> CertifyResult:
    """Find the range of every integer of a model over all inputs, and prove what follows from it.

    Parameters
    ----------
    model
        A session, the path of an ``.onnx`` file, or its content.
    strict
        Count what is not proven like what is violated.
    channels
        Give the intervals of each channel as well.
    output
        Write the certificate to this file.
    check
        Prove the statements of this certificate again. The result is true then where all of them are found again.
    robust
        Say of each sample in `inputs` whether its class can change when every input code moves by at most so much.
    inputs
        Samples for `robust`.
    witness
        Write inputs with another class, where such are found, to this .npz file.
    against_arithmetic
        Say of each layer, and of the model, whether this arithmetic gives the same codes.
    allow_float
        Whether a model of which nothing is quantized is what is wanted; without it the result is false of such a model.
    progress
        Called with the samples judged and those of all.

    Returns
    -------
    CertifyResult
        True when nothing is violated and all widths hold.

    Raises
    ------
    UsageError
        If both a file to write and one to check are given, or the file cannot be written.
    InputError
        If the certificate is damaged.
    ModelError, UnsupportedError
        If the model cannot be read or planned.

    Examples
    --------
    >>> result = npusim.certify("golden/vibration_w8.onnx")  # doctest: +SKIP
    >>> result.proof.verdicts.soft_int32, result.layers[1].step.accumulator  # doctest: +SKIP
    (<Verdict.PROVEN: 'proven'>, (-38862, 41145))
    """
    if output is not None and check is not None:
        raise UsageError("a certificate is either written or checked; give one of both files")
    if (robust is None) is not (inputs is None) or (witness is not None and robust is None):
        raise UsageError(
            "robustness is that of samples: give how far codes move and the samples, and a file for inputs only then"
        )
    stated = None if check is None else read_certificate(check)
    session = session_of(model)
    moved = None
    if robust is not None and inputs is not None:
        moved = _robustness(session, inputs, robust, witness, progress)
    certified = CertifiedModel(session.model.sha256, session.format, session.arithmetic, InputStage(session.input_stage))
    proof = prove(session.program)
    findings = findings_of(proof, strict=strict)
    compared = None if stated is None else compare_certificate(stated, proof, certified)
    if compared is not None:
        findings = (*_comparison_findings(compared), *(findings if strict else ()))
    compared_arithmetics = None if against_arithmetic is None else _compare_arithmetics(session, against_arithmetic)
    if moved is not None:
        findings = (*findings, *_robustness_findings(moved, strict=strict))
    findings = (*not_quantized(session.program, allow_float=allow_float), *findings)
    if output is not None:
        write_json(output, certificate_object(proof, certified))
    path = output if check is None else check
    on_disk = None if path is None else CertificateOnDisk(os.fspath(path), compared is not None, _reproduced(compared))
    return CertifyResult(
        model=identity_of(session),
        ok=not any(finding.severity == "error" for finding in findings),
        layers=tuple(_layer(step, channels=channels) for step in proof.steps),
        findings=findings,
        totals=_totals(proof, findings),
        proof=proof,
        certificate=on_disk,
        compared=compared,
        robustness=moved,
        arithmetics=compared_arithmetics,
    )


def _compare_arithmetics(session: InferenceSession, against: str) -> ArithmeticsReport:
    other = InferenceSession(session.model.content, arithmetic=against, input_stage=session.input_stage)
    layers = compare_layers(session.program, other.program)
    model = prove_programs_equal(session, other)
    return ArithmeticsReport(other.arithmetic, model.verdict, model.reason, tuple(ComparedLayer(layer) for layer in layers))


def _robustness(
    session: InferenceSession,
    inputs: Inputs,
    codes: int,
    witness: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> RobustnessReport:
    feeds, source = choose_inputs(session, inputs, None, None)
    found = judge_robustness(session, feeds, codes, progress=progress)
    if witness is not None and found.inputs is not None:
        write_arrays(witness, found.inputs)
    return RobustnessReport(
        codes=codes,
        output=found.output,
        inputs=source,
        proven=found.count(RobustnessVerdict.PROVEN),
        broken=found.count(RobustnessVerdict.BROKEN),
        unknown=found.count(RobustnessVerdict.UNKNOWN),
        samples=found.samples,
        witness=None if witness is None or found.inputs is None else os.fspath(witness),
    )


def _robustness_findings(found: RobustnessReport, *, strict: bool) -> Iterator[Finding]:
    """Samples whose class changes, and those of which it is not known."""
    moved = f"when each input code moves by at most {found.codes}"
    if found.broken:
        first = next(sample for sample in found.samples if sample.verdict is RobustnessVerdict.BROKEN)
        message = (
            f"the class of {found.broken} of {len(found.samples)} samples changes {moved}; the first is sample {first.sample}, "
            f"which becomes {first.other} instead of {first.label}"
        )
        yield Finding("class_changes", "error", None, message, "look at these inputs; train with such noise added")
    if found.unknown:
        message = f"of {found.unknown} of {len(found.samples)} samples it is not known whether their class can change {moved}"
        yield Finding(
            "class_unknown", "error" if strict else "warning", None, message, "move codes less, or search with more time"
        )


def _reproduced(compared: Comparison | None) -> bool | None:
    return None if compared is None else bool(compared)


def _layer(step: StepCertificate, *, channels: bool) -> BoundsLayer:
    if step.bounds is None:
        return BoundsLayer(step, None, None)
    room = room_of(step.bounds, of_npu=step.is_of_npu)
    return BoundsLayer(step, room, _channels(step, step.bounds) if channels else None)


def _channels(step: StepCertificate, bounds: ChannelBounds) -> ChannelIntervals:
    digits = bounds.digits if step.is_of_npu else None
    return ChannelIntervals(
        accumulator=_pairs(bounds.accumulator),
        biased=_pairs(bounds.biased),
        scaled=None if step.scaled is None else _pairs(bounds.scaled),
        floored=_pairs(bounds.floored),
        digit_accumulators=None if digits is None else tuple(_pairs(digit) for digit in digits),
    )


def _pairs(interval: Interval) -> tuple[IntegerEnds, ...]:
    return tuple((int(lower), int(upper)) for lower, upper in zip(interval.lower, interval.upper, strict=True))


def _totals(proof: Certificate, findings: tuple[Finding, ...]) -> BoundsTotals:
    judged = [
        judgement.verdict
        for step in proof.steps
        for statement, judgement in step.judgements.items()
        if statement is not Property.ONNXRUNTIME_OPTIMIZED
    ]
    return BoundsTotals(
        layers=len(proof.steps),
        integer_layers=sum(step.kind not in ("HOST", "QUANTIZE") for step in proof.steps),
        proven=judged.count(Verdict.PROVEN),
        violated=judged.count(Verdict.VIOLATED),
        unknown=judged.count(Verdict.UNKNOWN),
        errors=sum(finding.severity == "error" for finding in findings),
        warnings=sum(finding.severity == "warning" for finding in findings),
    )


def _comparison_findings(compared: Comparison) -> tuple[Finding, ...]:
    """What a certificate says that is not found again."""
    if compared.other_model:
        message = "the certificate is of another model: its SHA-256 is not that of this file"
        return (Finding("other_model", "error", None, message, "check the model that the certificate was written for"),)
    written = f"the certificate was written by npusim {compared.version}"
    remedy = f"{written}; if it was not edited, write it again and look at what changed"
    return tuple(
        Finding(
            _rule(item), "error", item.layer, _deviation(item), remedy, {"certified": item.certified, "proven": item.proven}
        )
        for item in compared.deviations
    )


def _rule(item: Deviation) -> str:
    return "changed_verdict" if "verdict" in item.place else "changed_evidence"


def _deviation(item: Deviation) -> str:
    shown = [str(value) if len(str(value)) <= 60 else f"{str(value)[:57]}..." for value in (item.certified, item.proven)]
    return f"the certificate says {item.place} is {shown[0]}, found is {shown[1]}"
