"""``npusim bounds``: tables, the object, exit codes, and certificates that are written, checked, edited and damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npusim.bounds import certify
from npusim.engine.session import InferenceSession
from support import ROOT, Export
from support.builders import GraphBuilder
from support.command_line import (
    call,
    check_error,
    checked_json,
    model_beyond_float32,
    model_with_float_layer,
    model_with_open_size,
    spawn,
)

W8 = ROOT / "golden" / "vibration_w8.onnx"
W4 = ROOT / "golden" / "vibration_w4.onnx"
STATEMENTS = ("onnxruntime_exact", "soft_int32", "digit_18bit")
PROVEN = dict.fromkeys(STATEMENTS, "proven")


@pytest.fixture(name="violated")
def violated_model(tmp_path: Path) -> Path:
    """A first layer whose digit accumulators, and whose bias, need more bits than there are."""
    graph = GraphBuilder((1, 600), "dyn18v")
    codes = graph.input_stage(np.zeros(600), np.ones(600), np.zeros(600))
    weights = np.stack([np.full(600, -2), np.full(600, 1)], axis=1)
    path = tmp_path / "violated.onnx"
    path.write_bytes(graph.model(graph.fully_connected(codes, weights, np.array([0, 40000]), [200] * 2, [16] * 2, (-128, 127))))
    return path


def bounds(*arguments: object) -> dict[str, Any]:
    return checked_json("bounds", call("bounds", *arguments, "--json"))


def test_object_holds_the_numbers_of_every_layer() -> None:
    value = bounds(W4)
    assert [layer["kind"] for layer in value["layers"]] == ["QUANTIZE", "GCONV", "MAXPOOL", "DWCONV", "PWCONV", "AVGPOOL", "FC"]
    assert [layer["verdicts"] for layer in value["layers"]] == [PROVEN] * 7
    assert value["verdicts"] == PROVEN
    assert value["onnxruntime_optimized"]["verdict"] == "proven"
    assert value["totals"] == {
        "layers": 7, "integer_layers": 6, "proven": 21, "violated": 0, "unknown": 0, "errors": 0, "warnings": 0,
    }  # fmt: skip
    assert value["findings"] == []
    assert value["certificate"] is None
    weights = InferenceSession(str(W4)).program.layers[0].weights
    assert weights is not None
    rising, falling = (np.where(sign * weights > 0, weights, 0).sum(axis=(1, 2, 3)) for sign in (1, -1))
    convolution = value["layers"][1]
    assert convolution["accumulator"] == [
        int((-128 * rising + 127 * falling).min()),
        int((127 * rising - 128 * falling).max()),
    ]
    assert convolution["attained"] is True
    assert value["layers"][3]["attained"] is False
    stage = value["layers"][0]
    assert {stage[key] for key in ("accumulator", "biased", "scaled", "floored", "digit_accumulator", "room")} == {None}
    average = value["layers"][5]
    assert average["accumulator"] == average["digit_accumulator"] == [0, 32 * 255]


def test_room_is_what_the_intervals_leave() -> None:
    for layer in bounds(W8)["layers"]:
        if layer["accumulator"] is None:
            continue
        lower, upper = layer["scaled"]
        room = layer["room"]["int32"]
        assert -(2 ** (31 - room)) <= lower <= upper < 2 ** (31 - room)
        assert not (-(2 ** (30 - room)) <= lower <= upper < 2 ** (30 - room))
        lower, upper = layer["biased"]
        room = layer["room"]["float32_biased"]
        assert 2 ** (23 - room) < max(-lower, upper) <= 2 ** (24 - room)
        lower, upper = layer["digit_accumulator"]
        assert upper < 2 ** (17 - layer["room"]["digit_18bit"])
        assert layer["room"]["scale"] == 0


def test_channels_are_listed_when_asked_for() -> None:
    assert {str(layer["channels"]) for layer in bounds(W4)["layers"]} == {"None"}
    for layer in bounds(W4, "--channels")["layers"]:
        channels = layer["channels"]
        if layer["accumulator"] is None:
            assert channels is None
            continue
        for name in ("accumulator", "biased", "scaled", "floored"):
            assert [min(pair[0] for pair in channels[name]), max(pair[1] for pair in channels[name])] == layer[name]
        digits = [pair for digit in channels["digit_accumulators"] for pair in digit]
        assert [min(pair[0] for pair in digits), max(pair[1] for pair in digits)] == layer["digit_accumulator"]
        assert len(channels["digit_accumulators"]) == (1 if layer["kind"] == "AVGPOOL" else 2)
    text = call("bounds", W4, "--channels").out
    assert "7 FC '/classifier/Gemm_output_0'" in text
    assert text.count("channel  ") >= 5


@pytest.mark.parametrize("model", [W8, W4], ids=["w8", "w4"])
def test_text_fits_80_columns_and_ends_with_the_verdicts(model: Path) -> None:
    done = call("bounds", model)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "!!" not in done.out
    assert lines[1].split()[:3] == ["1", "QUANTIZE", "/input_stage/Add"]
    assert [line.split()[0] for line in lines[-4:]] == ["proven"] * 4
    assert "Intervals of layer 2 are exact" in done.out


def test_what_is_violated_stands_out_and_decides_the_exit_code(violated: Path) -> None:
    value = bounds(violated)
    assert value["ok"] is False
    assert value["verdicts"] == {**PROVEN, "digit_18bit": "violated"}
    assert [(finding["rule"], finding["severity"]) for finding in value["findings"]] == [
        ("digit_18bit", "error"),
        ("bias_width", "error"),
    ]
    digits, bias = value["findings"]
    assert digits["evidence"] == {"channel": 0, "digit": 0, "value": 2 * 128 * 600}
    assert value["layers"][1]["evidence"]["digit_18bit"] == digits["evidence"]
    assert bias["evidence"]["bias"] == 40000
    assert (value["layers"][1]["room"]["digit_18bit"], value["layers"][1]["room"]["bias"]) == (-1, -1)
    done = call("bounds", violated)
    assert done.code == 1
    assert [line.split()[1] for line in done.out.splitlines() if line.startswith("!!")] == ["2"]
    assert "error (digit_18bit)" in done.out
    assert "VIOLATED  no accumulator of a weight digit" in done.out


def test_unknown_is_a_failure_only_when_strict(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    model = tmp_path / "unknown.onnx"
    model.write_bytes(graph.model(graph.fully_connected(codes, np.array([[8], [-7]]), [0], [200], [10], (-128, 127))))
    value = bounds(model)
    assert value["ok"] is True
    assert value["verdicts"] == {**PROVEN, "digit_18bit": "unknown"}
    assert value["layers"][1]["digit_accumulator"] is None
    assert [(finding["rule"], finding["severity"]) for finding in value["findings"]] == [
        ("digit_18bit", "warning"),
        ("weight_width", "warning"),
    ]
    strict = bounds(model, "--strict")
    assert strict["ok"] is False
    assert [finding["severity"] for finding in strict["findings"]] == ["error", "warning"]
    assert call("bounds", model, "--strict").code == 1
    assert bounds(W8, "--strict")["ok"] is True


def test_accumulator_that_float32_gets_wrong_is_named(tmp_path: Path) -> None:
    model = tmp_path / "beyond.onnx"
    model.write_bytes(model_beyond_float32())
    value = bounds(model)
    assert value["verdicts"]["onnxruntime_exact"] == value["layers"][1]["verdicts"]["onnxruntime_exact"] == "unknown"
    assert value["layers"][2]["verdicts"]["onnxruntime_exact"] == "proven"
    evidence = {"channel": 0, "accumulator": 21, "npusim": 153, "onnxruntime": 154}
    assert [finding["evidence"] for finding in value["findings"] if finding["rule"] == "onnxruntime_exact"] == [evidence]
    assert value["layers"][1]["evidence"]["onnxruntime_exact"] == evidence


def test_float_layers_leave_the_model_unknown(tmp_path: Path) -> None:
    model = tmp_path / "float.onnx"
    model.write_bytes(model_with_float_layer())
    value = bounds(model)
    assert {layer["kind"]: layer["verdicts"]["onnxruntime_exact"] for layer in value["layers"]} == {
        "QUANTIZE": "proven",
        "HOST": "unknown",
        "PWCONV": "proven",
    }
    assert value["verdicts"]["onnxruntime_exact"] == "unknown"
    assert "npusim verify" in value["findings"][0]["remedy"]


def test_many_findings_are_cut_in_the_text_only(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 2))
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    for _ in range(12):
        codes = graph.fully_connected(codes, np.full((2, 2), 100), np.array([2**23, 0]), [1, 1], [8, 8], (-128, 127))
    model = tmp_path / "wide.onnx"
    model.write_bytes(graph.model(codes))
    assert len(bounds(model)["findings"]) == 12
    text = call("bounds", model).out
    assert text.count("error (bias_width)") == 10
    assert "... and 2 more; --json lists all." in text


def test_models_without_a_program(tmp_path: Path) -> None:
    model = tmp_path / "open.onnx"
    model.write_bytes(model_with_open_size())
    check_error("bounds", model, code=3, kind="UnsupportedError", says="leaves sizes open")
    check_error("bounds", tmp_path / "none.onnx", code=2, kind="ModelError", says="does not exist")


def test_names_with_line_breaks_do_not_break_the_tables(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 8))
    codes = graph.input_stage([0] * 8, [1] * 8, [0] * 8)
    dense = graph.fully_connected(codes, np.full((8, 2), 9), np.zeros(2), [1, 1], [3, 3], (-128, 127))
    next(node for node in graph.nodes if node.op_type == "Gemm").name = "evil\n\x1b[31mname"
    model, path = tmp_path / "evil.onnx", tmp_path / "c.json"
    model.write_bytes(graph.model(dense))
    done = call("bounds", model, "--channels", "-o", path)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert call("bounds", model, "--check", path).code == 0


@pytest.mark.slow
def test_json_is_alone_on_stdout_of_a_process() -> None:
    done = spawn("bounds", W8, "--json", cwd=ROOT)
    assert (done.code, done.err) == (0, "")
    checked_json("bounds", done)


def test_exports_are_judged_as_by_the_library(export: Export) -> None:
    value = bounds(export.model)
    certificate = certify(InferenceSession(str(export.model)).program)
    assert list(value["verdicts"].values()) == [str(certificate.model[key].verdict) for key in certificate.model][:3]
    assert [layer["name"] for layer in value["layers"]] == [step.name for step in certificate.steps]
    assert value["ok"] is (export.name != "H_BIGACC__qat_w4a8_oi__ts17")
    assert max(len(line) for line in call("bounds", export.model).out.splitlines()) <= 80
