"""``npusim.check``: is a model ready for a device? Verify, bounds, lint, compare and golden vectors in one verdict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from npusim.bounds.report import findings_of
from npusim.bounds.verdicts import Verdict
from npusim.comparison.float_comparison import is_quantized
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError, count
from npusim.files.writing import replacing
from npusim.findings import Finding
from npusim.program.input_stage import InputStage
from npusim.results.base import Model, identity_of, session_of, steps_of
from npusim.results.check_result import (
    CheckedLayer,
    CheckFinding,
    CheckLimits,
    CheckPart,
    CheckResult,
    CheckTotals,
    Part,
)
from npusim.results.compared_samples import Labels, read_compared
from npusim.results.comparison import FloatCompareResult, compare_in_floats
from npusim.results.golden import GoldenVerifyResult, verify_golden
from npusim.results.lint import LintResult, lint
from npusim.results.samples import Announce, Inputs, choose_inputs, silent
from npusim.results.verification import VerifyResult, verify_samples
from npusim.rules import DEFAULT_COMPILER

__all__ = ["check"]


def check(
    model: Model,
    device: str,
    inputs: Inputs | None = None,
    *,
    float_model: Model | None = None,
    golden: str | os.PathLike[str] | None = None,
    labels: Labels | None = None,
    min_sqnr: float | None = None,
    min_agreement: float | None = None,
    min_coverage: float | None = None,
    samples: int | None = None,
    seed: int | None = None,
    compiler: str = DEFAULT_COMPILER,
    strict: bool = False,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    announce: Announce = silent,
) -> CheckResult:
    """Say whether a model is ready to be flashed, why, and what to do first.

    Five questions, each a command of its own: does the exported graph compute what the integers say (verify)? Does that hold
    for every input (bounds)? Which layers does the device's NPU take (lint)? What became of the float model's accuracy
    (compare, with `float_model`)? Are the golden vectors right, of this model, and do they cover it (golden, with `golden`)?

    Parameters
    ----------
    model
        A session, the path of an ``.onnx`` file, or its content.
    device
        Its name, for example ``"f28p55x"``, in any case.
    inputs
        Samples, as a file, as arrays by input name, or as the array of a model with one input; without them samples are
        generated, which say little about accuracy.
    float_model
        The float model that was quantized.
    golden
        A folder of :func:`npusim.write_golden`.
    labels
        Classes or target values of the samples, for the comparison with the float model.
    min_sqnr
        Lowest SQNR of the first output against the float model, in dB.
    min_agreement
        Lowest share of samples that get the float model's class, 0 to 1.
    min_coverage
        Lowest share of the reachable goals that the golden vectors reach, 0 to 1.
    samples, seed
        Of generated samples; by default 64 and 0.
    compiler
        Version of the vendor's compiler.
    strict
        Count warnings like errors, and what is not proven like what is violated.
    output
        Write the page to this file: HTML, or the JSON object where the name ends in ``.json``.
    overwrite
        Let `output` replace a file.
    threads
        For the comparison with the float model.
    progress
        Called with the percent done and 100.
    announce
        Called with a sentence about what was done to the samples of a file.

    Returns
    -------
    CheckResult
        True when the model is ready: no part that was asked for fails.

    Raises
    ------
    UsageError
        If there is no such device, a limit is given for a part that is not asked for, or `output` cannot be written.
    InputError
        If the inputs, the labels or the golden folder cannot be read, or do not fit the model.
    ModelError, UnsupportedError
        If a model cannot be read or planned.

    Examples
    --------
    >>> result = npusim.check("golden/keywords_w8.onnx", "f28p55x")  # doctest: +SKIP
    >>> bool(result), [part.verdict for part in result.parts]  # doctest: +SKIP
    (True, ['passed', 'passed', 'passed', 'not_asked', 'not_asked'])
    """
    limits = _limits(min_sqnr, min_agreement, min_coverage, has_float=float_model is not None, has_golden=golden is not None)
    if labels is not None and (float_model is None or inputs is None):
        raise UsageError("labels are for the comparison of given inputs with a float model; give all three")
    if inputs is not None and (samples is not None or seed is not None):
        raise UsageError("a number of samples and a seed are for generated samples; leave them out where inputs are given")
    target = None if output is None else _target(output, overwrite=overwrite)
    session = session_of(model)
    reference = None if float_model is None else _float_session(float_model)
    linted = lint(session, device, compiler=compiler, strict=strict)
    if inputs is None:
        feeds, source = choose_inputs(session, None, samples, seed)
    else:
        feeds, known, source = read_compared(session, inputs, labels, None, None, extremes=False, announce=announce)
    half = 50 if reference is not None else 100
    verified = verify_samples(session, feeds, source, progress=_share(progress, 0, half))
    compared = None
    if reference is not None:
        if inputs is None:
            feeds, known, source = read_compared(session, None, None, samples, seed, extremes=False)
        compared = compare_in_floats(
            session, reference, feeds, source, labels=known, threads=threads, progress=_share(progress, half, 100)
        )
    proven = None if golden is None else verify_golden(golden)
    result = _result(session, verified, linted, compared, proven, limits, strict=strict)
    if target is not None:
        text = _json(result) if target.suffix.lower() == ".json" else result.page()
        with replacing(target, overwrite=overwrite) as file:
            file.write(text.encode())
    return result


def _limits(
    sqnr: float | None, agreement: float | None, coverage: float | None, *, has_float: bool, has_golden: bool
) -> CheckLimits:
    if (sqnr is not None or agreement is not None) and not has_float:
        raise UsageError("limits of SQNR and agreement are for the comparison with the float model; give it as well")
    if coverage is not None and not has_golden:
        raise UsageError("a limit of coverage is for golden vectors; give their folder as well")
    for name, share in (("agreement", agreement), ("coverage", coverage)):
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"the lowest {name} is {share}, wanted a share from 0 to 1")
    return CheckLimits(sqnr_db=sqnr, agreement=agreement, coverage=coverage)


def _target(output: str | os.PathLike[str], *, overwrite: bool) -> Path:
    target = Path(output)
    if target.suffix.lower() not in (".html", ".json"):
        raise UsageError(f"{target}: the page is HTML or JSON; let the name end in .html or .json")
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists already; name another file, or allow it to be overwritten")
    return target


def _float_session(model: Model) -> InferenceSession:
    session = session_of(model)
    if is_quantized(session.program):
        raise UsageError(
            f"{session.model.label} is a quantized model; give the float model, or compare the two with 'npusim compare'"
        )
    return session


def _share(progress: Progress | None, first: int, last: int) -> Progress | None:
    """What reports a part of the work as percent of all."""
    if progress is None:
        return None
    tell = progress
    return lambda done, total: tell(first + (last - first) * done // max(total, 1), 100)


def _json(result: CheckResult) -> str:
    import json

    return json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n"


def _result(
    session: InferenceSession,
    verified: VerifyResult,
    linted: LintResult,
    compared: FloatCompareResult | None,
    golden: GoldenVerifyResult | None,
    limits: CheckLimits,
    *,
    strict: bool,
) -> CheckResult:
    shown = session.model.path or "MODEL"
    found: dict[Part, tuple[CheckFinding, ...]] = {
        "verify": _of("verify", verified.findings, strict=False),
        "bounds": _of("bounds", findings_of(verified.proof, strict=strict), strict=False),
        "lint": _of("lint", linted.findings, strict=strict),
        "compare": ()
        if compared is None
        else _of("compare", (*_accuracy(compared, limits), *compared.findings), strict=strict),
        "golden": () if golden is None else _of("golden", _vectors(golden, session, limits), strict=strict),
    }
    device = linted.device.name
    against = "FLOAT.onnx" if compared is None else compared.against.path or "FLOAT.onnx"
    folder = "DIR" if golden is None else golden.folder
    parts = (
        _part("verify", _verify_statement(verified), found["verify"], f"npusim verify {shown}", ok=bool(verified)),
        _part("bounds", _bounds_statement(verified), found["bounds"], f"npusim bounds {shown}"),
        _part("lint", _lint_statement(linted), found["lint"], f"npusim lint {shown} --device {device}"),
        _part(
            "compare",
            None if compared is None else _compare_statement(compared),
            found["compare"],
            f"npusim compare {shown} --against {against}",
        ),
        _part(
            "golden", None if golden is None else _golden_statement(golden), found["golden"], f"npusim golden verify {folder}"
        ),
    )
    every = [finding for one in found.values() for finding in one]
    findings = tuple(sorted(every, key=lambda finding: ("error", "warning", "info").index(finding.severity)))
    failed = [part for part in parts if part.verdict == "failed"]
    return CheckResult(
        model=identity_of(session),
        ok=not failed,
        layers=_layers(session, verified, linted, compared, findings),
        findings=findings,
        totals=CheckTotals(
            parts=sum(part.verdict != "not_asked" for part in parts),
            failed=len(failed),
            errors=_count(findings, "error"),
            warnings=_count(findings, "warning"),
            layers=len(session.program.steps),
        ),
        verdict="not_ready" if failed else "ready",
        first=_first(findings, shown, golden),
        parts=parts,
        device=linted.device,
        compiler=linted.compiler,
        limits=limits,
        inputs=verified.inputs,
        verified=verified,
        linted=linted,
        compared=compared,
        proven_golden=golden,
    )


def _of(part: Part, findings: Iterable[Finding], *, strict: bool) -> tuple[CheckFinding, ...]:
    """Findings with their part; with `strict`, warnings are errors."""
    return tuple(_with_part(part, finding, strict=strict) for finding in findings)


def _with_part(part: Part, finding: Finding, *, strict: bool) -> CheckFinding:
    values: dict[str, Any] = {item.name: getattr(finding, item.name) for item in fields(finding)}
    if strict and finding.severity == "warning":
        values["severity"] = "error"
    return CheckFinding(**values, part=part)


def _part(part: Part, statement: str | None, findings: Sequence[CheckFinding], command: str, *, ok: bool = True) -> CheckPart:
    if statement is None:
        wanted = {"compare": "--float FLOAT.onnx", "golden": "--golden DIR"}[part]
        return CheckPart(part, "not_asked", f"not looked at; give {wanted}", 0, 0, command)
    errors = _count(findings, "error")
    verdict: Literal["passed", "failed"] = "passed" if ok and not errors else "failed"
    return CheckPart(part, verdict, statement, errors, _count(findings, "warning"), command)


def _count(findings: Iterable[Finding], severity: str) -> int:
    return sum(finding.severity == severity for finding in findings)


def _verify_statement(found: VerifyResult) -> str:
    totals = found.totals
    name = "onnxruntime" if found.onnxruntime.name is None else found.onnxruntime.name
    runtime = f"{name} {found.onnxruntime.version}"
    if not totals.mismatches:
        return f"{totals.elements:,} values of {count(totals.samples, 'sample')} equal {runtime}'s"
    layers = count(totals.differing_layers, "layer")
    return f"{totals.mismatches:,} of {totals.elements:,} values differ from {runtime}'s, in {layers}"


def _bounds_statement(found: VerifyResult) -> str:
    verdicts = [judgement.verdict for judgement in found.proof.model.values()]
    if not verdicts:
        return "no statement is made of models in this format"
    counted = [(verdict, verdicts.count(verdict)) for verdict in Verdict]
    told = ", ".join(f"{number} {verdict}" for verdict, number in counted if number)
    return f"of {len(verdicts)} statements about every input: {told}"


def _lint_statement(found: LintResult) -> str:
    totals = found.totals
    share = "" if totals.npu_share is None else f", {totals.npu_share:.1%} of the multiply-accumulates"
    rest = [f"{number} {word}" for word, number in (("on the host", totals.host), ("unknown", totals.unknown)) if number]
    return f"{totals.npu} of {totals.layers} layers on the NPU{share}" + "".join(f", {text}" for text in rest)


def _compare_statement(found: FloatCompareResult) -> str:
    totals = found.totals
    sqnr = "no output compared" if totals.output_sqnr_db is None else f"output SQNR {totals.output_sqnr_db:.1f} dB"
    generated = " generated" if found.inputs.seed is not None else ""
    texts = [f"{sqnr} on {totals.samples}{generated} samples"]
    agreement = _agreement(found)
    if agreement is not None:
        texts.append(f"{agreement:.2%} get the float model's class")
    for output in found.outputs[:1]:
        classes = output.classification
        if classes is not None and classes.quantized_accuracy is not None and classes.float_accuracy is not None:
            texts.append(f"accuracy {classes.quantized_accuracy:.2%}, float {classes.float_accuracy:.2%}")
    return "; ".join(texts)


def _agreement(found: FloatCompareResult) -> float | None:
    classes = found.outputs[0].classification if found.outputs else None
    return None if classes is None else float(classes.agreement)


def _golden_statement(found: GoldenVerifyResult) -> str:
    if not found.ok:
        return f"{found.folder} is not what it says: {count(found.totals.errors, 'finding')}"
    sets = found.totals.sets
    said = f"{count(sets, 'set')} {'is' if sets == 1 else 'are'} right"
    if found.input_stage != InputStage.GRAPH.recorded:
        said += f", for the input stage of {found.input_stage}"
    if found.coverage is None:
        return f"{said}; the folder does not say what they cover"
    reached, possible = found.coverage
    return f"{said}; they reach {reached:,} of {possible:,} goals not proven unreachable"


def _accuracy(found: FloatCompareResult, limits: CheckLimits) -> list[Finding]:
    """Limits of accuracy that are not kept; one that cannot be measured is not kept either."""
    seen = (
        ("sqnr", "SQNR of the output in dB", found.totals.output_sqnr_db, limits.sqnr_db),
        ("agreement", "share of samples with the float model's class", _agreement(found), limits.agreement),
    )
    remedy = "look at the layers that cost the output most with 'npusim compare'; quantize these with more bits, or train on"
    return [_limit(*one, remedy) for one in seen if one[3] is not None and not (one[2] is not None and one[2] >= one[3])]


def _vectors(found: GoldenVerifyResult, session: InferenceSession, limits: CheckLimits) -> list[Finding]:
    """What a golden folder is not: right, of this model, and covering it as demanded."""
    again = "write the folder again with 'npusim golden write'"
    findings = list(found.findings)
    if found.model.sha256 != session.model.sha256:
        message = f"{found.folder} was written for another model: its SHA-256 is not that of {session.model.label}"
        findings.insert(0, Finding("other_model", "error", None, message, again))
    elif found.arithmetic not in (None, session.arithmetic):
        message = f"{found.folder} was written for the arithmetic '{found.arithmetic}', not '{session.arithmetic}'"
        findings.insert(0, Finding("other_arithmetic", "error", None, message, again))
    share = None if found.coverage is None else found.coverage[0] / max(found.coverage[1], 1)
    if found.coverage == (0, 0):
        share = 1.0
    if limits.coverage is not None and (share is None or share < limits.coverage):
        remedy = f"{again}, with more sets (--samples) or with --directed"
        findings.append(_limit("coverage", "share of the goals that the vectors reach", share, limits.coverage, remedy))
    return findings


def _limit(name: str, what: str, seen: float | None, wanted: float | None, remedy: str) -> Finding:
    shown = "cannot be measured" if seen is None else f"is {seen:.4g}"
    message = f"the {what} {shown}, wanted at least {wanted:.4g}"
    return Finding(f"{name}_limit", "error", None, message, remedy, {"seen": seen, "wanted": wanted})


def _layers(
    session: InferenceSession,
    verified: VerifyResult,
    linted: LintResult,
    compared: FloatCompareResult | None,
    findings: Sequence[CheckFinding],
) -> tuple[CheckedLayer, ...]:
    placements: dict[str, Any] = {layer.step.name: str(layer.verdict) for layer in linted.layers}
    mismatches = {step.name: step.mismatches for step in verified.layers}
    sqnr = {} if compared is None else {layer.name: layer.metrics.sqnr_db for layer in compared.layers}
    noted = [finding.layer for finding in findings if finding.severity != "info"]
    return tuple(
        CheckedLayer(
            step.name,
            step.tensor,
            step.kind,
            placements.get(step.name),
            mismatches.get(step.name),
            sqnr.get(step.name),
            noted.count(step.name),
        )
        for step in steps_of(session.program)
    )


def _first(findings: Sequence[CheckFinding], model: str, golden: GoldenVerifyResult | None) -> str:
    """What to do first: the remedy of the gravest finding, or the next step of the way."""
    grave = [finding for finding in findings if finding.severity == "error"]
    if grave:
        where = "" if grave[0].layer is None else f" (at '{grave[0].layer}')"
        return f"{grave[0].remedy}{where}"
    if golden is None:
        return f"write golden vectors for the device: npusim golden write {model} -o DIR"
    return f"flash, let the device run the sets, and compare: npusim golden check {golden.folder} --dump FILE"
