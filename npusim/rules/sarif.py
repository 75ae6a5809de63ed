"""Findings as a SARIF 2.1.0 log, the format that code-scanning viewers read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from npusim import __version__
from npusim.findings import SourcedFinding
from npusim.graph.model_file import ModelFile
from npusim.rules.report import LintReport

__all__ = ["SARIF_SCHEMA", "sarif_log"]

SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

_LEVELS: Final[Mapping[str, str]] = MappingProxyType({"error": "error", "warning": "warning", "info": "note"})


def sarif_log(model: ModelFile, report: LintReport) -> dict[str, Any]:
    """The log of one run: a rule for each name that findings have, a result for each finding.

    A model has no lines: results stand at line 1 of the file, as viewers want a place, and name the node and the tensor as
    logical locations. Fingerprints do not depend on the order of findings.

    Examples
    --------
    >>> sarif_log(model, report)["version"]  # doctest: +SKIP
    '2.1.0'
    """
    names = list(dict.fromkeys(finding.rule for finding in report.findings))
    uri = _uri(model)
    run = {
        "tool": {
            "driver": {
                "name": "npusim lint",
                "version": __version__,
                "rules": [_rule(name, report) for name in names],
            }
        },
        "artifacts": [_artifact(model, uri)],
        "results": [_result(finding, names.index(finding.rule), uri) for finding in report.findings],
        "columnKind": "utf16CodeUnits",
        "properties": {"device": report.book.device.name, "compiler": report.book.compiler},
    }
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _artifact(model: ModelFile, uri: str) -> dict[str, Any]:
    """The file; with external data its own bytes are not the model, so neither their hash nor their number is stated."""
    own = {} if model.external else {"hashes": {"sha-256": model.sha256}, "length": len(model.content)}
    return {"location": {"uri": uri}, **own}


def _rule(name: str, report: LintReport) -> dict[str, Any]:
    rule = next((rule for rule in report.book.rules if rule.id == name), None)
    first = next(finding for finding in report.findings if finding.rule == name)
    text = _DESCRIPTIONS.get(name, first.message) if rule is None else rule.text
    found: dict[str, Any] = {
        "id": name,
        "shortDescription": {"text": text},
        "defaultConfiguration": {"level": _LEVELS[first.severity]},
    }
    if rule is not None:
        found["properties"] = {"source": rule.source.title, "date": rule.source.dated, "kinds": list(rule.kinds)}
    return found


_DESCRIPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "not-covered": "no public rule covers the layer's configuration",
        "contradiction": "public documents contradict each other, without changing the verdict",
        "host-operation": "the host computes an operation that is not a layer of the NPU",
        "host-quantize": "the host quantizes float values in the middle of the network",
        "float-island": "operations in float stand between integer layers",
        "foreign-quantization": "an operator of another quantization format",
        "other-format": "the model is in a format that devices run on the CPU",
        "dangling-input": "the exporter renamed the input but not its reader",
        "no-annotations": "the exporter ended before it wrote the annotations of bits",
        "wrapped-weights": "signed weights are stored as unsigned bytes",
        "truncating-division": "a division of integers cuts toward zero where the design floors",
        "input-codes": "the input holds codes, and its quantizer is not in the file",
        "mean-without-requantization": "means are not requantized in the file",
        "int32-overflow": "a sum times its multiplier can pass int32",
        "coarse-multiplier": "multipliers are so small that rounding them costs percents",
        "no-quantization": "no layer of the model is quantized",
        "compiler-version": "the compiler version is older than the device",
    }
)


def _result(finding: SourcedFinding, index: int, uri: str) -> dict[str, Any]:
    place = "".join(f" [{label} {value}]" for label, value in (("node", finding.node), ("tensor", finding.tensor)) if value)
    logical = [
        {"name": value, "kind": kind, "fullyQualifiedName": value}
        for kind, value in (("node", finding.node), ("tensor", finding.tensor))
        if value
    ]
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}}
    if logical:
        location["logicalLocations"] = logical
    key = "\n".join((finding.rule, finding.layer or "", finding.tensor or ""))
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.message}. {finding.remedy}.{place}"},
        "locations": [location],
        "partialFingerprints": {"npusimFinding/v1": hashlib.sha256(key.encode()).hexdigest()},
        "properties": {key: value for key, value in (("source", finding.source), ("date", finding.date)) if value},
    }


def _uri(model: ModelFile) -> str:
    """A URI reference: relative as the path was given, percent-encoded; absolute paths become file URIs."""
    if model.path is None:
        return "model.onnx"
    path = PurePath(model.path)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
