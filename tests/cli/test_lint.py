"""``npusim lint``: tables, the object, SARIF, exit codes, files that are written or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from npusim.engine.session import InferenceSession
from npusim.rules import devices
from npusim.schemas import load_schema
from support import ROOT, Export, load_export
from support.command_line import call, check_error, checked_json, model_with_float_layer, model_with_open_size, spawn
from support.lint_models import convolution, dense, requantized
from support.sarif_schema import SARIF_SCHEMA

W8 = ROOT / "golden" / "vibration_w8.onnx"


@pytest.fixture(name="good")
def good_model(tmp_path: Path) -> Path:
    """A model whose only layer runs on the NPU."""
    return written(tmp_path / "good.onnx", dense(16, 3))


@pytest.fixture(name="wide")
def wide_model(tmp_path: Path) -> Path:
    """A model with a warning and no error."""
    return written(tmp_path / "wide.onnx", requantized(clip=(-255, 255)))


def written(path: Path, model: bytes) -> Path:
    path.write_bytes(model)
    return path


def lint(*arguments: object) -> dict[str, Any]:
    return checked_json("lint", call("lint", *arguments, "--json"))


def test_exit_codes(good: Path, wide: Path) -> None:
    device = ("--device", "f28p55x")
    assert [call("lint", path, *device).code for path in (good, wide, W8)] == [0, 0, 1]
    assert [call("lint", path, *device, "--strict").code for path in (good, wide, W8)] == [0, 1, 1]
    assert lint(wide, *device)["ok"] is True
    assert lint(wide, *device, "--strict")["ok"] is False


def test_object_holds_verdicts_costs_and_findings() -> None:
    value = lint(W8, "--device", "f28p55x")
    assert [(layer["kind"], layer["verdict"], layer["rule"]) for layer in value["layers"]] == [
        ("GCONV", "host", "input-channels"),
        ("MAXPOOL", "npu", "maxpool-column"),
        ("DWCONV", "npu", "dwconv-column"),
        ("PWCONV", "npu", "pwconv"),
        ("AVGPOOL", "npu", "avgpool-global"),
        ("FC", "npu", "fc"),
    ]
    assert [stage["role"] for stage in value["stages"]] == ["input"]
    (finding,) = value["findings"]
    assert finding["rule"] == "input-channels"
    assert finding["remedy"] == "pad channels 3 to 4: +1 filters"
    assert finding["note"] != ""
    totals = value["totals"]
    assert (totals["npu"], totals["host"], totals["unknown"], totals["errors"]) == (5, 1, 0, 1)
    assert totals["parameter_bytes"] == 24 + sum(layer["parameter_bytes"] for layer in value["layers"])
    assert value["cycles"]["cycles"] is None
    assert value["device"]["flash_bytes"] == 1114112
    assert value["fix"] is None
    assert (
        call("lint", W8, "--device", "f28p55x", "--format", "json").out == call("lint", W8, "--device", "f28p55x", "--json").out
    )


@pytest.mark.parametrize("device", devices())
def test_text_says_what_where_and_why(device: str) -> None:
    done = call("lint", W8, "--device", device)
    assert done.err == ""
    assert "GCONV layer config: 8-bit input [64, 1, 3], 8-bit output [64, 1, 8], 8-bit kernel [5, 1], " in done.out
    assert "remedy: pad channels 3 to 4: +1 filters" in done.out
    assert "source: neural network compiler, user's guide 2.1" in done.out
    plain = [line for line in done.out.splitlines() if "layer config" not in line]
    assert max(map(len, plain)) <= 80


def test_findings_that_are_the_same_are_printed_once() -> None:
    done = call("lint", ROOT / "golden" / "vibration_w4.onnx", "--device", "mspm0g5187")
    assert done.out.count("info: contradiction") == 1


def test_rules_are_printed_as_tables() -> None:
    done = call("lint", "--rules", "--device", "f28p55x")
    assert (done.code, done.err) == (0, "")
    assert "gconv-kernel-height-7      host, error       all       2026-03 or earlier" in done.out
    assert "fconv-10x4" in done.out
    assert "2025-10-31: neural network compiler, user's guide 2.1" in done.out
    assert "gconv-column " not in call("lint", "--rules", "--device", "f28p55x", "--compiler", "2.0").out
    everything = call("lint", "--rules").out
    assert all(f"({device}), compiler 2.1" in everything for device in devices())
    value = json.loads(call("lint", "--rules", "--json").out)
    jsonschema.Draft202012Validator(load_schema("lint")).validate(value)
    assert [device["name"] for device in value["devices"]] == list(devices())


def test_sarif_is_valid_and_complete(tmp_path: Path) -> None:
    models = {"w8": W8.read_bytes(), "float": model_with_float_layer(), "open": model_with_open_size(), "good": dense(16, 3)}
    for name, content in models.items():
        path = written(tmp_path / f"a model {name}.onnx", content)
        log = json.loads(call("lint", path, "--device", "f28p55x", "--format", "sarif").out)
        jsonschema.Draft202012Validator(SARIF_SCHEMA, format_checker=jsonschema.FormatChecker()).validate(log)
        findings = lint(path, "--device", "f28p55x")["findings"]
        (run,) = log["runs"]
        assert [result["ruleId"] for result in run["results"]] == [finding["rule"] for finding in findings]
        rules = run["tool"]["driver"]["rules"]
        assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == [finding["rule"] for finding in findings]
        levels = {"error": "error", "warning": "warning", "info": "note"}
        assert [result["level"] for result in run["results"]] == [levels[finding["severity"]] for finding in findings]
        for result, finding in zip(run["results"], findings, strict=True):
            (location,) = result["locations"]
            assert "%20" in location["physicalLocation"]["artifactLocation"]["uri"]
            named = [item["name"] for item in location.get("logicalLocations", [])]
            assert named == [name for name in (finding["node"], finding["tensor"]) if name]
            assert finding["remedy"] in result["message"]["text"]


def test_excerpt_of_the_sarif_schema_refuses_what_the_standard_refuses() -> None:
    log = json.loads(call("lint", W8, "--device", "f28p55x", "--format", "sarif").out)
    validator = jsonschema.Draft202012Validator(SARIF_SCHEMA)
    assert validator.is_valid(log)
    result = log["runs"][0]["results"][0]
    for place, key, wrong in (
        (log, "version", "2.0.0"),
        (result, "level", "info"),
        (result, "ruleIndex", -2),
        (result, "message", {}),
        (result, "where", "here"),
        (result["locations"][0]["physicalLocation"]["region"], "startLine", 0),
        (log["runs"][0]["tool"], "driver", {}),
    ):
        before = place.get(key)
        place[key] = wrong
        assert not validator.is_valid(log), key
        if before is None:
            del place[key]
        else:
            place[key] = before
    assert validator.is_valid(log)


def test_reports_are_written_to_files(tmp_path: Path) -> None:
    target = tmp_path / "report.sarif"
    done = call("lint", W8, "--device", "f28p55x", "--format", "sarif", "-o", target)
    assert (done.code, done.out, done.err) == (1, "", f"{target}: 1 finding written\n")
    assert json.loads(target.read_text())["version"] == "2.1.0"
    both = call("lint", W8, "--device", "f28p55x", "--format", "sarif", "-o", tmp_path / "second.sarif", "--json")
    assert (tmp_path / "second.sarif").read_text() == target.read_text()
    assert json.loads(both.out)["totals"] == lint(W8, "--device", "f28p55x")["totals"]
    arguments = ("lint", W8, "--device", "f28p55x", "--format", "sarif", "-o", target)
    check_error(*arguments[:4], "--format", "sarif", "-o", target, code=2, kind="UsageError", says="exists already")
    assert call(*arguments, "--force").code == 1


def test_repaired_model_is_written_and_linted_again(tmp_path: Path) -> None:
    target = tmp_path / "fixed.onnx"
    value = lint(W8, "--device", "f28p55x", "--fix", target)
    assert value["ok"] is True
    assert value["totals"]["host"] == 1
    fixed = value["fix"]
    assert (fixed["path"], fixed["written"], fixed["left"], fixed["samples"]) == (str(target), True, [], 64)
    assert "pad-input" in {repair["repair"] for repair in fixed["repairs"]}
    assert fixed["totals"]["npu"] == len(fixed["layers"]) == 6
    again = lint(target, "--device", "f28p55x")
    assert again["layers"] == fixed["layers"]
    assert again["findings"] == fixed["findings"] == []
    text = call("lint", W8, "--device", "f28p55x", "--fix", target, "--force")
    assert text.code == 0
    assert "every output is proven equal for all inputs" in " ".join(text.out.split())
    assert "After the repair:" in text.out


def test_nothing_is_written_where_nothing_is_repaired(tmp_path: Path) -> None:
    model = written(tmp_path / "model.onnx", convolution(4, 6, (3, 1), clip=(-128, 127)))
    target = tmp_path / "fixed.onnx"
    done = call("lint", model, "--device", "f28p55x", "--fix", target)
    assert done.code == 1
    assert "Nothing to repair" in done.out
    assert "is an output of the model" in " ".join(done.out.split())
    assert not target.exists()


def test_wrong_usage(good: Path, tmp_path: Path) -> None:
    usage = {"code": 2, "kind": "UsageError"}
    check_error("lint", good, **usage, says="--device is missing")
    check_error("lint", "--device", "soft", **usage, says="MODEL is missing")
    check_error("lint", good, "--device", "f28p65x", **usage, says="'f28p65x' is not one of")
    check_error("lint", good, "--device", "soft", "--compiler", "new", **usage, says="'new' is not a compiler version")
    check_error("lint", good, "--device", "soft", "--fix", good, "--force", **usage, says="would be overwritten")
    check_error("lint", good, "--device", "soft", "--fix", tmp_path / "no" / "x.onnx", **usage, says="there is no folder")
    check_error("lint", good, "--device", "soft", "--fix", tmp_path, **usage, says="is a folder")
    check_error("lint", tmp_path / "none.onnx", "--device", "soft", code=2, kind="ModelError", says="does not exist")
    done = call("lint", good, "--device", "soft", "--compiler", "new", "--format", "json")
    assert checked_json("lint", done)["error"]["exit_code"] == done.code == 2
    done = call("lint", good, "--device", "soft", "-o", tmp_path / "x")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "-o writes json or sarif" in done.err


def test_open_sizes_are_a_finding_and_no_crash(tmp_path: Path) -> None:
    model = written(tmp_path / "open.onnx", model_with_open_size())
    done = call("lint", model, "--device", "f28p55x")
    assert done.code == 1
    assert "dynamic-shape" in done.out
    check_error(
        "lint",
        model,
        "--device",
        "soft",
        "--fix",
        tmp_path / "x.onnx",
        code=3,
        kind="UnsupportedError",
        says="cannot be repaired",
    )


@pytest.mark.slow
def test_as_a_process(good: Path) -> None:
    done = spawn("lint", good, "--device", "f28p55x")
    assert (done.code, done.err) == (0, "")
    assert "0 errors, 0 warnings." in done.out


def test_every_export_lints_for_every_device(export: Export) -> None:
    for device in devices():
        value = lint(export.model, "--device", device)
        assert value["layers"]
        for layer in value["layers"]:
            assert (layer["verdict"] == "npu") <= (layer["source"] is not None and not layer["broken_rules"])
        assert value["ok"] is not any(finding["severity"] == "error" for finding in value["findings"])


REPAIRED = {
    "CNN_TS_GEN_BASE_13K_NPU__qat_w8a8_oi__ts17": 0,
    "CNN_TS_GEN_BASE_6K_NPU__qat_w4a8_oi__ts17": 1,
    "HAR_TINIE_CNN_2K__qat_w8a8_oi__ts17": 0,
    "RES_ADD_CNN_TS_GEN_BASE_3K__qat_w8a8_oi__dyn18vnew": 1,
}
"""Exports and the exit code after the repair: stride 4 and a residual sum stay."""


@pytest.mark.exports
@pytest.mark.parametrize("name", REPAIRED)
def test_exports_are_repaired_to_the_bit(name: str, tmp_path: Path) -> None:
    example = load_export(name)
    target = tmp_path / "fixed.onnx"
    before = lint(example.model, "--device", "f28p55x")
    done = call("lint", example.model, "--device", "f28p55x", "--fix", target, "--json")
    assert done.code == REPAIRED[name]
    after = lint(target, "--device", "f28p55x")
    assert after["totals"]["host"] < before["totals"]["host"]
    assert after["totals"]["errors"] < before["totals"]["errors"]
    session = InferenceSession(target)
    (found,) = session.run(None, {session.get_inputs()[0].name: example.inputs()})
    np.testing.assert_array_equal(found.astype(example.expected().dtype), example.expected())
