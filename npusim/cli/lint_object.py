"""The JSON objects of ``npusim lint``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from npusim import __version__
from npusim.cli.output import result_object
from npusim.findings import SourcedFinding
from npusim.model_file import ModelFile
from npusim.program import IntegerLayer
from npusim.rules import LintedLayer, LintReport, Placement, Rule, Rulebook
from npusim.rules.conditions import Condition
from npusim.rules.cycles import estimate_cycles
from npusim.rules.fix import Fixed
from npusim.rules.rule_types import Cover, Device, Limit, Source
from npusim.trace import step_kind

__all__ = ["lint_object", "rules_object"]


def lint_object(model: ModelFile, report: LintReport, fixed: Fixed | None, path: str | None, *, ok: bool) -> dict[str, Any]:
    """The object that ``--json`` prints; see ``npusim/schemas/lint.json``."""
    layers = [_layer_object(layer) for layer in report.layers]
    shared = result_object(model, ok=ok, layers=layers, totals=_totals(report))
    return {
        **shared,
        "device": _device_object(report.book.device),
        "compiler": report.book.compiler,
        "stages": [
            {
                "name": stage.step.name,
                "tensor": stage.step.tensors[-1],
                "kind": step_kind(stage.step),
                "role": stage.role,
            }
            for stage in report.stages
        ],
        "findings": [_finding_object(finding) for finding in report.findings],
        "cycles": asdict(estimate_cycles(report)),
        "fix": None if fixed is None else _fix_object(fixed, path),
    }


def rules_object(books: Sequence[Rulebook]) -> dict[str, Any]:
    """The object that ``--rules --json`` prints."""
    return {
        "npusim": __version__,
        "devices": [
            {
                **_device_object(book.device),
                "compiler": book.compiler,
                "rules": [_rule_object(rule) for rule in book.rules],
                "covered": [_cover_object(cover) for cover in book.covers],
                "limits": [_limit_object(limit) for limit in book.limits],
            }
            for book in books
        ],
    }


def _layer_object(layer: LintedLayer) -> dict[str, Any]:
    step, judgement = layer.step, layer.judgement
    deciding = None if judgement is None else judgement.deciding
    return {
        "name": step.name,
        "tensor": step.tensors[-1],
        "kind": step_kind(step),
        "operator": getattr(step, "operator", None),
        "nodes": list(step.nodes) if isinstance(step, IntegerLayer) else [step.name],
        "verdict": str(layer.verdict),
        "rule": _rule_name(layer),
        "source": None if deciding is None else _source_object(deciding.source),
        "broken_rules": [] if judgement is None else [item.rule.id for item in judgement.broken],
        "line": layer.line,
        "compiler_message": layer.compiler_message,
        "weight_bits": step.weight_bits if isinstance(step, IntegerLayer) else None,
        "multiply_accumulates": layer.cost.multiply_accumulates,
        "parameter_bytes": layer.cost.parameter_bytes,
        "output_bytes": layer.cost.output_bytes,
    }


def _rule_name(layer: LintedLayer) -> str:
    if layer.judgement is None:
        return "host-quantize" if step_kind(layer.step) == "QUANTIZE" else "host-operation"
    deciding = layer.judgement.deciding
    return "not-covered" if deciding is None else deciding.id


def _source_object(source: Source) -> dict[str, Any]:
    return {"title": source.title, "kind": source.kind, "date": source.dated}


def _finding_object(finding: SourcedFinding) -> dict[str, Any]:
    return {**asdict(finding), "evidence": dict(finding.evidence)}


def _device_object(device: Device) -> dict[str, Any]:
    return {
        "name": device.name,
        "title": device.title,
        "npu": device.npu,
        "processor": device.processor,
        "megahertz": device.megahertz,
        "flash_bytes": device.flash,
        "ram_bytes": device.ram,
        "memory_of": device.memory_of,
    }


def _totals(report: LintReport) -> dict[str, Any]:
    memory = report.memory
    return {
        "layers": len(report.layers),
        **{str(placement): report.verdicts(placement) for placement in Placement},
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "multiply_accumulates": report.multiply_accumulates,
        "npu_share": report.npu_share,
        "parameter_bytes": report.parameter_bytes,
        "activation_bytes": None if memory is None else memory.codes_bytes,
        "peak_bytes": None if memory is None else memory.peak_bytes,
        "peak_step": None if memory is None else memory.step,
    }


def _fix_object(fixed: Fixed, path: str | None) -> dict[str, Any]:
    return {
        "path": path,
        "written": fixed.content is not None,
        "repairs": [asdict(repair) for repair in fixed.repairs],
        "left": [{"layer": layer, "reason": reason} for layer, reason in fixed.left],
        "samples": fixed.samples,
        "layers": [_layer_object(layer) for layer in fixed.report.layers],
        "findings": [_finding_object(finding) for finding in fixed.report.findings],
        "totals": _totals(fixed.report),
    }


def _rule_object(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "kinds": list(rule.kinds),
        "when": [_condition_object(item) for item in rule.when],
        "require": [[_condition_object(item) for item in alternative] for alternative in rule.require],
        "verdict": rule.verdict,
        "severity": rule.severity,
        "text": rule.text,
        "remedy": rule.remedy,
        "topic": rule.topic,
        "since": rule.since,
        "until": rule.until,
        "source": _source_object(rule.source),
    }


def _cover_object(cover: Cover) -> dict[str, Any]:
    return {
        "id": cover.id,
        "kinds": list(cover.kinds),
        "config": [[_condition_object(item) for item in alternative] for alternative in cover.config],
        "text": cover.text,
        "since": cover.since,
        "until": cover.until,
        "source": _source_object(cover.source),
    }


def _limit_object(limit: Limit) -> dict[str, Any]:
    return {
        "id": limit.id,
        "require": [_condition_object(item) for item in limit.require],
        "severity": limit.severity,
        "text": limit.text,
        "source": _source_object(limit.source),
    }


def _condition_object(condition: Condition) -> dict[str, Any]:
    return {"property": condition.property, condition.test: condition.argument}
