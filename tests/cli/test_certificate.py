"""Certificates of ``npusim bounds``: written, checked, edited, damaged, and those of another model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from npusim.schemas import load_schema
from support import ROOT
from support.command_line import call, check_error, checked_json
from support.dense_layer import fully_connected

W8 = ROOT / "golden" / "vibration_w8.onnx"
W4 = ROOT / "golden" / "vibration_w4.onnx"
STATEMENTS = ("onnxruntime_exact", "soft_int32", "digit_18bit")
PROVEN = dict.fromkeys(STATEMENTS, "proven")


def bounds(*arguments: object) -> dict[str, Any]:
    return checked_json("bounds", call("bounds", *arguments, "--json"))


def written(model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "certificate.json"
    value = bounds(model, "-o", path)
    assert value["certificate"] == {"path": str(path), "checked": False, "reproduced": None}
    return path


def test_certificate_is_written_whole_and_proven_again(tmp_path: Path) -> None:
    path = written(W8, tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["certificate.json"]
    content = json.loads(path.read_text())
    jsonschema.Draft202012Validator(load_schema("certificate")).validate(content)
    assert content["verdicts"] == PROVEN
    assert content["model"]["sha256"] == bounds(W8)["model"]["sha256"]
    value = bounds("--check", path, W8)
    assert value["ok"] is True
    assert value["certificate"] == {"path": str(path), "checked": True, "reproduced": True}
    done = call("bounds", "--check", path, W8)
    assert done.code == 0
    assert "every statement is found again" in " ".join(done.out.split())
    first = path.read_bytes()
    assert "certificate written" in call("bounds", W8, "-o", path, "--force").out
    assert path.read_bytes() == first


def test_certificate_of_violated_statements_is_written_and_found_again(tmp_path: Path) -> None:
    violated, path = tmp_path / "violated.onnx", tmp_path / "certificate.json"
    violated.write_bytes(fully_connected(np.full(600, -2)))
    assert call("bounds", violated, "-o", path).code == 1
    assert json.loads(path.read_text())["verdicts"]["digit_18bit"] == "violated"
    assert call("bounds", violated, "--check", path).code == 0
    assert call("bounds", violated, "--check", path, "--strict").code == 1


def test_certificate_of_another_model_is_told_apart(tmp_path: Path) -> None:
    value = bounds("--check", written(W8, tmp_path), W4)
    assert value["ok"] is False
    assert [finding["rule"] for finding in value["findings"]] == ["other_model"]
    assert value["certificate"]["reproduced"] is False
    assert "OF ANOTHER MODEL" in call("bounds", "--check", tmp_path / "certificate.json", W4).out


def set_verdict(content: dict[str, Any]) -> None:
    content["layers"][3]["verdicts"]["digit_18bit"] = "violated"


def set_model_verdict(content: dict[str, Any]) -> None:
    content["verdicts"]["soft_int32"] = "unknown"


def set_interval(content: dict[str, Any]) -> None:
    content["layers"][1]["accumulator"][1] -= 1


def set_float(content: dict[str, Any]) -> None:
    content["layers"][1]["accumulator"][1] = float(content["layers"][1]["accumulator"][1])


def add_something(content: dict[str, Any]) -> None:
    content["layers"][1]["note"] = "checked by hand"


def drop_layer(content: dict[str, Any]) -> None:
    del content["layers"][2]


@pytest.mark.parametrize(
    ("edit", "rule", "place"),
    [
        (set_verdict, "changed_verdict", "verdicts.digit_18bit"),
        (set_model_verdict, "changed_verdict", "verdicts.soft_int32"),
        (set_interval, "changed_evidence", "accumulator"),
        (set_float, "changed_evidence", "accumulator"),
        (add_something, "changed_evidence", "note"),
        (drop_layer, "changed_evidence", "layers"),
    ],
)
def test_edited_certificate_is_not_found_again(
    edit: Callable[[dict[str, Any]], None], rule: str, place: str, tmp_path: Path
) -> None:
    path = written(W8, tmp_path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    value = bounds("--check", path, W8)
    assert value["ok"] is False
    (finding,) = value["findings"]
    assert (finding["rule"], finding["severity"]) == (rule, "error")
    assert f"the certificate says {place} is " in finding["message"]
    assert "npusim 0." in finding["remedy"]
    text = call("bounds", "--check", path, W8).out
    assert "NOT FOUND AGAIN: differs in 1 place from" in " ".join(text.split())


def test_version_that_wrote_a_certificate_is_no_difference(tmp_path: Path) -> None:
    path = written(W8, tmp_path)
    path.write_text(path.read_text().replace('"npusim": "', '"npusim": "9.'))
    assert bounds("--check", path, W8)["ok"] is True


def broken(path: Path) -> list[tuple[bytes, str]]:
    """What can happen to a file, and what is said of it."""
    whole = path.read_bytes()
    content = json.loads(whole)
    damages: list[tuple[bytes, str]] = [
        (b"", "cannot be read as a certificate"),
        (whole[: len(whole) // 2], "cannot be read as a certificate"),
        (b"\xff\xfe\x00", "cannot be read as a certificate"),
        (b"[" * 100_000, "cannot be read as a certificate"),
        (b"[]", "no JSON object"),
        (b"{}", "'certificate' is not 1"),
    ]
    for key, value, says in (
        ("certificate", 2, "'certificate' is not 1"),
        ("npusim", None, "'npusim' is not a version"),
        ("model", {"sha256": "abc"}, "'model' names no SHA-256"),
        ("model", [], "'model' names no SHA-256"),
        ("verdicts", {"soft_int32": "proven"}, "the model has not the verdicts"),
        ("verdicts", dict.fromkeys(STATEMENTS, "maybe"), "a verdict on the model is not proven, violated or unknown"),
        ("verdicts", {key: [] for key in STATEMENTS}, "a verdict on the model is not proven, violated or unknown"),
        ("onnxruntime_optimized", None, "a verdict on the model is not proven, violated or unknown"),
        ("reasons", None, "the model has no reasons"),
        ("layers", None, "'layers' is not a list"),
        ("layers", [7], "layer 0 is not an object with a name"),
        ("layers", [{"name": "x"}], "layer 0 has not the verdicts"),
    ):
        damages.append((json.dumps({**content, key: value}).encode(), says))
    return damages


def test_damaged_certificate_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = written(W8, tmp_path)
    for damaged, says in broken(path):
        path.write_bytes(damaged)
        check_error("bounds", "--check", path, W8, code=2, kind="InputError", says=says)
    path.unlink()
    check_error("bounds", "--check", path, W8, code=2, kind="InputError", says="no such file")
    check_error("bounds", "--check", tmp_path, W8, code=2, kind="InputError", says="is a directory")


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(W8.read_bytes())
    check_error("bounds", model, "-o", model, code=2, kind="UsageError", says="is read as well")
    check_error("bounds", model, "-o", tmp_path, code=2, kind="UsageError", says="is a folder")
    check_error("bounds", model, "-o", tmp_path / "no" / "c.json", code=2, kind="UsageError", says="there is no folder")
    check_error("bounds", model, "-o", "a", "--check", "b", code=2, kind="UsageError", says="give one of them")
    assert model.read_bytes() == W8.read_bytes()
