"""LSTM and GRU against onnxruntime, and networks that hold them, made with torch as users make them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from npusim import InferenceSession, UnsupportedError
from npusim.bounds import certify
from npusim.graph import Node
from npusim.graph.operators import evaluate_node
from npusim.graph.rounding_limits import rounding_limit
from npusim.verification import verify
from support.command_line import call, checked_json
from support.models import model_of, outputs_of_onnxruntime

STEPS, SAMPLES, INPUTS, HIDDEN = 7, 1, 5, 6


def network(operator: str, direction: str = "forward", **attributes: Any) -> bytes:
    gates, directions = {"LSTM": 4, "GRU": 3}[operator], 2 if direction == "bidirectional" else 1
    random = np.random.default_rng(gates)
    constants = {
        "w": random.normal(0, 0.5, (directions, gates * HIDDEN, INPUTS)).astype(np.float32),
        "r": random.normal(0, 0.5, (directions, gates * HIDDEN, HIDDEN)).astype(np.float32),
        "b": random.normal(0, 0.5, (directions, 2 * gates * HIDDEN)).astype(np.float32),
    }
    names = ["y", "y_h", "y_c"][: 3 if operator == "LSTM" else 2]
    node = helper.make_node(operator, ["x", "w", "r", "b"], names, hidden_size=HIDDEN, direction=direction, **attributes)
    shape = (STEPS, SAMPLES, INPUTS)
    return model_of([node], {"x": (np.float32, shape)}, dict.fromkeys(names, (np.float32, None)), constants=constants)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("operator", "attributes"), [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1})])
def test_equal_to_onnxruntime_but_for_rounding(operator: str, direction: str, attributes: dict[str, int]) -> None:
    model = network(operator, direction, **attributes)
    x = np.random.default_rng(5).normal(0, 2, (STEPS, SAMPLES, INPUTS)).astype(np.float32)
    session = InferenceSession(model)
    (theirs,) = outputs_of_onnxruntime(model, {"x": x}, optimized=False)
    for mine, other in zip(session.run(None, {"x": x}), theirs, strict=True):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=0, atol=2.0**-18)
    result = verify(session, {"x": x})
    assert result
    assert [(step.comparison, step.estimated) for step in result.steps] == [("bounded", True)]
    assert certify(session.program).verdicts.onnxruntime_exact == "unknown"


def test_verify_says_that_the_limit_is_an_estimate(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(network("GRU"))
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(5).normal(0, 2, (STEPS, SAMPLES, INPUTS)).astype(np.float32))
    outcome = call("verify", model, tmp_path / "x.npz", "--allow-float")
    assert outcome.code == 0, outcome
    assert "Of LSTM and GRU the limit is an estimate" in " ".join(outcome.out.split())
    (layer,) = checked_json("verify", call("verify", model, tmp_path / "x.npz", "--allow-float", "--json"))["layers"]
    assert layer["estimated"] is True


def test_a_wrong_weight_is_beyond_the_limit() -> None:
    right = onnx.load_from_string(network("LSTM"))
    x = np.random.default_rng(5).normal(0, 2, (STEPS, SAMPLES, INPUTS)).astype(np.float32)
    constants = {one.name: numpy_helper.to_array(one) for one in right.graph.initializer}
    changed = {**constants, "r": constants["r"].copy()}
    changed["r"][0, 3, 2] += np.float32(0.01)
    node = Node("LSTM", "n", ("x", "w", "r", "b"), ("y",), {"hidden_size": HIDDEN})
    results = [evaluate_node(node, {"x": x, **values}, 17)[0] for values in (constants, changed)]
    limit = rounding_limit(node, {"x": x, **constants}, results[0], 17)
    assert (np.abs(results[0] - results[1]) > limit).any()


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"clip": 1.0}, "clips the inputs"),
        ({"activations": ["Relu", "Tanh", "Tanh"]}, "wanted Sigmoid, Tanh, Tanh"),
        ({"input_forget": 1}, "coupled"),
    ],
)
def test_what_is_not_computed_is_refused(attributes: dict[str, Any], says: str) -> None:
    model = network("LSTM", **attributes)
    with pytest.raises(UnsupportedError, match=says):
        InferenceSession(model).run(None, {"x": np.zeros((STEPS, SAMPLES, INPUTS), np.float32)})


@pytest.mark.needs_torch
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_networks_made_with_torch(name: str) -> None:
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = getattr(torch.nn, name)(INPUTS, HIDDEN, num_layers=2, bidirectional=True, batch_first=True)
            self.last = torch.nn.Linear(2 * HIDDEN, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.last(self.recurrent(x)[0][:, -1])
            return found

    torch.manual_seed(1)
    network, stream = Network().eval(), io.BytesIO()
    x = torch.randn(4, STEPS, INPUTS)
    torch.onnx.export(network, (x[:1],), stream, dynamo=False, input_names=["x"])
    session = InferenceSession(stream.getvalue())
    (found,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, network(x).detach().numpy(), atol=1e-5)
    assert verify(session, {"x": x.numpy()})
