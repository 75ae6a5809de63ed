"""``npusim bounds``: the worst case of every integer, and what is proven for every input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from npusim.bounds.certificate import Certificate, StepCertificate, certify
from npusim.bounds.certificate_file import (
    Comparison,
    Deviation,
    certificate_object,
    compare_certificate,
    hull_of,
    judgements_object,
    read_certificate,
    write_certificate,
)
from npusim.bounds.channels import ChannelBounds
from npusim.bounds.interval import Interval
from npusim.bounds.report import findings_of
from npusim.bounds.verdicts import Property, Verdict
from npusim.bounds.widths import room_of
from npusim.cli.bounds_text import print_bounds, print_comparison
from npusim.cli.options import json_option, model_argument
from npusim.cli.output import print_json, result_object, terminal_width
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.findings import Finding
from npusim.graph.model_file import ModelFile

__all__ = ["bounds_command"]


@click.command("bounds", short_help="Prove what holds for every input.")
@model_argument
@click.option("-o", "--output", metavar="CERT.json", help="Write the certificate to this file, whole or not at all.")
@click.option("--check", "certified", metavar="CERT.json", help="Prove the statements of this certificate again, and compare.")
@click.option("--channels", is_flag=True, help="Show the intervals of each channel as well.")
@click.option("--strict", is_flag=True, help="Exit code 1 also where a statement is not proven for every input.")
@json_option
def bounds_command(model: str, output: str | None, certified: str | None, channels: bool, strict: bool, as_json: bool) -> int:
    """Find the range of every integer in MODEL, an .onnx file, over all inputs, and prove what follows from it.

    Three statements are judged for each layer: onnxruntime, running the graph as it is written, gives the integers' codes;
    (accumulator + bias) * scale does not overflow int32 in the soft library; no accumulator of a 2-bit weight digit leaves
    the 18 bits in which the NPU is read out. Each is proven, violated (an input exists that breaks it) or unknown. Whether
    bias, scale and shift fit the bits in which the NPU stores them is checked too.

    The exit code is 0 when nothing is violated and all widths hold, and 1 when not. With --strict, what is unknown counts as
    violated. With --check it is 0 when every statement of the certificate is found again for this model, 1 when one is not or
    the certificate is of another model, and 2 when the certificate is damaged.

    \b
    Example: npusim bounds model.onnx -o certificate.json
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    _check_files(model, output, certified)
    stated = None if certified is None else read_certificate(certified)
    session = InferenceSession(model)
    certificate = certify(session.program)
    findings = findings_of(certificate, strict=strict)
    compared = None if stated is None else compare_certificate(stated, certificate, session.model.sha256)
    if compared is not None:
        findings = (*_comparison_findings(compared), *(findings if strict else ()))
    if output is not None:
        write_certificate(output, certificate_object(certificate, session.model.sha256))
    ok = not any(finding.severity == "error" for finding in findings)
    if as_json:
        path = output if certified is None else certified
        print_json(_as_object(session.model, certificate, findings, ok=ok, channels=channels, compared=compared, path=path))
    elif compared is not None and certified is not None:
        print_comparison(certificate, compared, findings, certified, terminal_width())
    else:
        print_bounds(certificate, findings, terminal_width(), channels=channels, written=output)
    return 0 if ok else 1


def _check_files(model: str, output: str | None, certified: str | None) -> None:
    """Refuse before any work what could not be written after it."""
    if output is None:
        return
    if certified is not None:
        raise UsageError("--check compares with a certificate and -o writes one; give one of them")
    path = Path(output)
    if not path.parent.is_dir():
        raise UsageError(f"{output}: there is no folder '{path.parent}'; make it first")
    if path.is_dir():
        raise UsageError(f"{output}: is a folder; name a file to write to")
    if path.exists() and Path(model).exists() and path.samefile(model):
        raise UsageError(f"{output}: is the model, and would be overwritten; name another file")


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


def _as_object(
    model: ModelFile,
    certificate: Certificate,
    findings: Sequence[Finding],
    *,
    ok: bool,
    channels: bool,
    compared: Comparison | None,
    path: str | None,
) -> dict[str, Any]:
    layers = [_layer_object(step, channels) for step in certificate.steps]
    shared = result_object(model, ok=ok, layers=layers, totals=_totals(certificate, findings))
    file = None if path is None else {"path": path, "checked": compared is not None, "reproduced": _reproduced(compared)}
    return {
        **shared,
        "findings": [asdict(finding) for finding in findings],
        **judgements_object(certificate.model),
        "certificate": file,
    }


def _reproduced(compared: Comparison | None) -> bool | None:
    return None if compared is None else bool(compared)


def _totals(certificate: Certificate, findings: Sequence[Finding]) -> dict[str, int]:
    judged = [
        judgement
        for step in certificate.steps
        for statement, judgement in step.judgements.items()
        if statement is not Property.ONNXRUNTIME_OPTIMIZED
    ]
    return {
        "layers": len(certificate.steps),
        "integer_layers": sum(step.kind not in ("HOST", "QUANTIZE") for step in certificate.steps),
        **{str(verdict): sum(judgement.verdict is verdict for judgement in judged) for verdict in Verdict},
        "errors": sum(finding.severity == "error" for finding in findings),
        "warnings": sum(finding.severity == "warning" for finding in findings),
    }


def _layer_object(step: StepCertificate, channels: bool) -> dict[str, Any]:
    bounds = step.bounds
    return {
        "name": step.name,
        "tensor": step.tensor,
        "kind": step.kind,
        "attained": None if bounds is None else bounds.attained,
        "accumulator": None if bounds is None else hull_of(bounds.accumulator),
        "biased": None if bounds is None else hull_of(bounds.biased),
        "scaled": None if bounds is None else hull_of(bounds.scaled),
        "floored": None if bounds is None else hull_of(bounds.floored),
        "digit_accumulator": None if bounds is None else hull_of(*(bounds.digits or ())),
        "room": None if bounds is None else asdict(room_of(bounds)),
        "channels": None if bounds is None or not channels else _channels_object(bounds),
        **judgements_object(step.judgements),
        "evidence": {str(statement): dict(judgement.evidence) for statement, judgement in step.judgements.items()},
    }


def _channels_object(bounds: ChannelBounds) -> Mapping[str, Any]:
    return {
        "accumulator": _pairs(bounds.accumulator),
        "biased": _pairs(bounds.biased),
        "scaled": _pairs(bounds.scaled),
        "floored": _pairs(bounds.floored),
        "digit_accumulators": None if bounds.digits is None else [_pairs(digit) for digit in bounds.digits],
    }


def _pairs(interval: Interval) -> list[list[int]]:
    return [[int(lower), int(upper)] for lower, upper in zip(interval.lower, interval.upper, strict=True)]
