"""A golden folder and another file than its model: right where both are proven equal, refused with the reason where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import npusim
from support import ROOT
from support.command_line import call, checked_json

FOLDER = ROOT / "golden" / "vibration_w8"


@pytest.fixture(name="model")
def model_with_other_names() -> onnx.ModelProto:
    model = onnx.load(ROOT / "golden" / "vibration_w8.onnx")
    for number, node in enumerate(model.graph.node):
        node.name = f"renamed_{number}"
    return model


@pytest.mark.slow
def test_a_file_that_is_proven_equal_is_right(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "renamed.onnx"
    onnx.save(model, path)
    done = call("golden", "verify", FOLDER, "--model", path, "--json")
    found = checked_json("golden_verify", done)
    assert (done.code, found["equal_model"]["path"], found["findings"]) == (0, str(path), [])
    assert "proven equal" in call("golden", "verify", FOLDER, "--model", path).out
    assert npusim.verify_golden(FOLDER, npusim.InferenceSession(str(path)))
    assert npusim.verify_golden(FOLDER).equal_model is None


def test_a_file_that_differs_is_refused_with_the_reason(model: onnx.ModelProto, tmp_path: Path) -> None:
    whole = [item for item in model.graph.initializer if len(item.dims) == 4]
    weights = numpy_helper.to_array(whole[0]).copy()
    weights.reshape(-1)[0] += np.float32(1)
    whole[0].CopyFrom(numpy_helper.from_array(weights, whole[0].name))
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    found = checked_json("golden_verify", call("golden", "verify", FOLDER, "--model", path, "--json"))
    (finding,) = found["findings"]
    assert finding["rule"] == "other_model"
    assert "not proven to give the same outputs" in finding["message"]
