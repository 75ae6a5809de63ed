"""``npusim inspect``: the tables, the object, and models it cannot show."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import ROOT, Export
from support.builders import GraphBuilder
from support.command_line import call, check_error, checked_json, model_with_float_layer, model_with_open_size

W8 = ROOT / "golden" / "vibration_w8.onnx"
W4 = ROOT / "golden" / "vibration_w4.onnx"


def test_object_describes_every_layer() -> None:
    value = checked_json("inspect", call("inspect", W4, "--json"))
    assert value["findings"] == []
    assert value["totals"] == {
        "layers": 7,
        "integer_layers": 6,
        "quantize_stages": 1,
        "host_operations": 0,
        # three values for each of 3 inputs; 8 filters 5x1 over 3 axes; 8 of 3x1; 16 of 8; 16 averages; 16 to 4; each channel
        # with bias, scale and shift
        "parameters": 9 + (120 + 24) + (24 + 24) + (128 + 48) + 48 + (64 + 12),
        "multiply_accumulates": 64 * 120 + 32 * 24 + 32 * 128 + 32 * 16 + 64,
    }
    convolution = value["layers"][1]
    assert convolution["kind"] == "GCONV"
    assert (convolution["input_shape"], convolution["output_shape"]) == ([1, 3, 64, 1], [1, 8, 64, 1])
    assert (convolution["kernel_shape"], convolution["strides"], convolution["pads"]) == ([5, 1], [1, 1], [2, 0, 2, 0])
    assert convolution["input_codes"] == {"signed": True, "bits": 8, "lower": -128, "upper": 127}
    assert convolution["output_codes"] == {"signed": False, "bits": 8, "lower": 0, "upper": 255}
    assert (convolution["weight_bits"], convolution["clip"]) == (4, [0, 255])
    assert 128 <= convolution["scale"][0] <= convolution["scale"][1] <= 255
    assert -7 <= convolution["weights"][0] < 0 < convolution["weights"][1] <= 7
    stage = value["layers"][0]
    assert stage["multiplier"] == [-2891 / 32, 4033 / 64]
    assert stage["input_codes"] is None
    assert value["inputs"] == [{"name": "input", "dtype": "float32", "shape": [1, 3, 64, 1], "codes": None}]
    assert value["outputs"][0]["codes"] == {"signed": True, "bits": 8, "lower": -128, "upper": 127}


@pytest.mark.parametrize("model", [W8, W4], ids=["w8", "w4"])
def test_text_fits_80_columns_and_holds_every_layer(model: Path) -> None:
    done = call("inspect", model)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(len(line) for line in lines) <= 80
    value = checked_json("inspect", call("inspect", model, "--json"))
    rows = [line.split() for line in lines if line[:1].isdigit()]
    assert [row[:3] for row in rows[:7]] == [
        [str(index), layer["kind"], layer["name"]] for index, layer in enumerate(value["layers"], 1)
    ]
    assert [row[0] for row in rows[7:14]] == [str(index) for index in range(1, 8)]
    assert rows[1][-2:] == [f"{value['layers'][1]['parameters']}", "7,680"]


def test_host_operations_are_listed_with_their_reasons(tmp_path: Path) -> None:
    model = tmp_path / "float.onnx"
    model.write_bytes(model_with_float_layer())
    value = checked_json("inspect", call("inspect", model, "--json"))
    host = [layer for layer in value["layers"] if layer["kind"] == "HOST"]
    assert [layer["operator"] for layer in host] == ["Conv"]
    assert "not integers" in host[0]["reason"]
    assert host[0]["parameters"] == 8 * 4 * 15
    assert host[0]["multiply_accumulates"] is None
    text = " ".join(call("inspect", model).out.split())
    assert f"Host operations (2 Conv): {host[0]['reason']}." in text
    assert "1 host operation;" in text


def test_names_with_line_breaks_do_not_break_the_table(tmp_path: Path) -> None:
    graph = GraphBuilder((1, 8))
    codes = graph.input_stage([0] * 8, [1] * 8, [0] * 8)
    graph.nodes[0].name = "evil\n\x1b[31mname"
    model = tmp_path / "evil.onnx"
    model.write_bytes(graph.model(codes))
    done = call("inspect", model)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert any(line.startswith("1  QUANTIZE  evil") for line in done.out.splitlines())


def test_model_with_open_sizes_or_foreign_operators_has_no_program(tmp_path: Path) -> None:
    model = tmp_path / "open.onnx"
    model.write_bytes(model_with_open_size())
    check_error("inspect", model, code=3, kind="UnsupportedError", says="leaves sizes open")
    graph = GraphBuilder((1, 4))
    model.write_bytes(graph.model(graph.node("Hardmax", "input")))
    check_error("inspect", model, code=3, kind="UnsupportedError", says="Hardmax")


def test_real_exports_are_described_in_80_columns(export: Export) -> None:
    value = checked_json("inspect", call("inspect", export.model, "--json"))
    lines = call("inspect", export.model).out.splitlines()
    assert max(len(line) for line in lines) <= 80
    rows = [line.split()[0] for line in lines if line.strip()[:1].isdigit()]
    assert rows[: value["totals"]["layers"]] == [str(index) for index in range(1, value["totals"]["layers"] + 1)]
    shape = "x".join(str(size) for size in value["inputs"][0]["shape"])
    assert shape == export.row["input"]
