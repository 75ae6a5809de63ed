"""``npusim compare`` in integers on the command line: another model, onnxruntime, dumps, exit codes and wrong usage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from npusim import InferenceSession
from support import ROOT, load_export
from support.command_line import FLOAT32_SAMPLE, call, checked_json, model_beyond_float32

W8 = ROOT / "golden" / "vibration_w8.onnx"
W4 = ROOT / "golden" / "vibration_w4.onnx"
INPUTS = ROOT / "golden" / "vibration_inputs.npz"


def test_a_model_is_equal_to_itself_and_to_onnxruntime() -> None:
    same = checked_json("compare", call("compare", W8, "--against", W8, "--data", INPUTS, "--json"))
    assert same["totals"] == {"samples": 16, "layers": 7, "differing_layers": 0, "elements": 27968, "mismatches": 0}
    assert same["against"]["kind"] == "model"
    assert same["inputs"] == {"path": str(INPUTS), "seed": None}
    runtime = checked_json("compare", call("compare", W8, "--against", "ort", "--samples", 9, "--json"))
    assert runtime["totals"]["samples"] == 9
    assert runtime["against"]["kind"] == "onnxruntime"
    assert runtime["findings"] == []


def test_other_bits_differ_with_a_first_divergence() -> None:
    outcome = call("compare", W8, "--against", W4, "--data", INPUTS, "--json")
    value = checked_json("compare", outcome)
    assert outcome.code == 1
    assert value["divergence"]["layer"] == "/conv/Conv"
    for side in ("model", "other"):
        arithmetic = value["divergence"][side]
        total = sum(one["product"] for one in arithmetic["contributions"])
        assert arithmetic["accumulator"] == total
        assert ((total + arithmetic["bias"]) * arithmetic["scale"]) >> arithmetic["shift"] == arithmetic["unclipped"]
    assert [finding["rule"] for finding in value["findings"]] == ["mismatch"]
    text = call("compare", W8, "--against", W4, "--data", INPUTS)
    assert text.code == 1
    assert "first difference: '/conv/Conv' (GCONV), sample 0, element [0, 0, 0]" in text.out
    assert "NOT EQUAL" in text.out
    assert text.err == ""


def test_onnxruntime_past_float32_is_a_mismatch(tmp_path: Path) -> None:
    model, inputs = tmp_path / "beyond.onnx", tmp_path / "beyond.npz"
    model.write_bytes(model_beyond_float32())
    x = np.zeros((3, 4), np.float32)
    x[2, 1] = FLOAT32_SAMPLE
    np.savez(inputs, input=x)
    outcome = call("compare", model, "--against", "ort", "--data", inputs)
    assert outcome.code == 1
    assert "its scaled accumulator is 20,185,087 there, past 2^24" in " ".join(outcome.out.split())


def test_a_device_dump_is_compared_by_the_tensor_that_it_names(tmp_path: Path) -> None:
    session = InferenceSession(W8)
    with np.load(INPUTS) as arrays:
        feeds = {session.get_inputs()[0].name: arrays[arrays.files[0]].astype(np.float32)}
    tensor = next(layer.output for layer in session.program.layers if layer.kind == "DWCONV")
    codes = session.trace(feeds, tensor)[tensor]
    dump = tmp_path / "dwconv.txt"
    dump.write_text("\n".join(str(code) for code in np.moveaxis(codes, 1, -1).ravel()), encoding="utf-8")
    options = ("--data", INPUTS, "--tensor", tensor, "--layout", "nhwc")
    value = checked_json("compare", call("compare", W8, "--against", dump, *options, "--json"))
    assert (value["against"]["kind"], value["totals"]["mismatches"]) == ("dump", 0)
    codes[5, 2, 7, 0] += 1
    dump.write_text("\n".join(str(code) for code in np.moveaxis(codes, 1, -1).ravel()), encoding="utf-8")
    wrong = checked_json("compare", call("compare", W8, "--against", dump, *options, "--json"))
    assert wrong["totals"]["mismatches"] == 1
    assert wrong["layers"][0]["first_difference"]["sample"] == 5
    assert wrong["layers"][0]["first_difference"]["index"] == [2, 7, 0]
    assert wrong["layers"][0]["histogram"] == [[-1, 1], [0, codes.size - 1]]
    assert wrong["divergence"]["model"]["kind"] == "DWCONV"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--against", "nowhere.onnx"), 2, "does not exist"),
        (("--against", "nowhere.txt"), 2, "nowhere.txt"),
        (("--against", "ort", "--tensor", "x"), 2, "--tensor and --layout are for dumps"),
        (("--against", W4, "--labels", "y.npy"), 2, "--labels"),
        ((), 2, "--against"),
    ],
)
def test_wrong_usage_is_refused_with_a_sentence(arguments: tuple[object, ...], code: int, says: str) -> None:
    outcome = call("compare", W8, *arguments)
    assert outcome.code == code
    assert outcome.out == ""
    assert says in outcome.err


def test_the_table_of_the_layers_is_written_once(tmp_path: Path) -> None:
    table = tmp_path / "layers.csv"
    assert call("compare", W8, "--against", W4, "--data", INPUTS, "--csv", table).code == 1
    frame = pd.read_csv(table)
    assert frame["kind"].tolist() == ["QUANTIZE", "GCONV", "MAXPOOL", "DWCONV", "PWCONV", "AVGPOOL", "FC"]
    assert frame["mismatches"].tolist()[:2] == [0, 4945]
    before = table.read_bytes()
    refused = call("compare", W8, "--against", W8, "--data", INPUTS, "--csv", table)
    assert refused.code == 2
    assert "--force" in refused.err
    assert table.read_bytes() == before
    assert call("compare", W8, "--against", W8, "--data", INPUTS, "--csv", table, "--force").code == 0
    assert pd.read_csv(table)["mismatches"].tolist() == [0] * 7


@pytest.mark.exports
def test_samples_that_flip_are_written(tmp_path: Path) -> None:
    export = load_export("CNN_TS_GEN_BASE_1K_NPU__ptq_w8a8_oi__ts17")
    table = tmp_path / "samples.csv"
    options = ("--data", export.inputs_file, "--csv-samples", table, "--json")
    value = checked_json("compare", call("compare", export.model, "--against", export.float_model, *options))
    shared = value["outputs"][0]["classification"]
    frame = pd.read_csv(table)
    flips = frame[frame["reason"] == "flip"]
    assert len(flips) == min(shared["flip_count"], 100) > 0
    assert flips["sample"].tolist() == [flip["sample"] for flip in shared["flips"]]
    assert (frame["reason"] == "worst").sum() == 10
    assert any(finding["rule"] == "average_gain" for finding in value["findings"])
    assert call("compare", W8, "--against", W4, "--csv-samples", table, "--force").code == 2
