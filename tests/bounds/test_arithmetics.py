"""Two arithmetics of one model: what is said of layers and of the model, held against all inputs near zero."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.bounds.arithmetics import Agreement, compare_layers
from npusim.verification.equality import EqualityVerdict, prove_programs_equal
from support.command_line import call, checked_json
from support.qdq_models import quantized_model

NEAR_ZERO = np.array(list(itertools.product(range(-9, 10), repeat=3)), np.float32) * np.float32(0.5)


@pytest.mark.parametrize(("one", "other"), [("ort", "onnx"), ("ort", "tvm"), ("onnx", "tvm")])
def test_what_is_said_of_two_arithmetics_is_so(tmp_path: Path, one: str, other: str) -> None:
    path = str(quantized_model(tmp_path / "model.onnx"))
    first, second = (InferenceSession(path, arithmetic=name) for name in (one, other))
    (layer,) = compare_layers(first.program, second.program)
    model = prove_programs_equal(first, second, seconds=5)
    outputs = [session.run(None, {"x": NEAR_ZERO})[0] for session in (first, second)]
    if layer.agreement is Agreement.EQUAL:
        np.testing.assert_array_equal(*outputs)
        assert model.verdict is EqualityVerdict.PROVEN
        return
    assert layer.agreement is Agreement.DIFFERENT
    assert layer.inputs is not None
    assert layer.codes is not None
    assert layer.position is not None
    (codes,) = layer.inputs.values()
    x = (codes * 0.5).astype(np.float32)
    shown = [session.trace({"x": x})["yq"][(0, *layer.position)] for session in (first, second)]
    assert shown == list(layer.codes)
    assert model.verdict is EqualityVerdict.DIFFERENT


def test_the_command_names_layers_that_differ(tmp_path: Path) -> None:
    path = quantized_model(tmp_path / "model.onnx")
    done = call("bounds", path, "--against-arithmetic", "tvm", "--json")
    found = checked_json("bounds", done)["arithmetics"]
    assert (found["against"], found["verdict"]) == ("tvm", "different")
    assert [layer["agreement"] for layer in found["layers"]] == ["different"]
    assert "ort" in call("bounds", path, "--against-arithmetic", "tvm").out
