"""Files of exporters that were read have no finding; any other that looks like one says what is new, in every command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from npusim import InferenceSession
from npusim.graph.model_reader import read_model
from npusim.rules.dialects import dialect_findings
from support import Export
from support.builders import GraphBuilder
from support.command_line import call, checked_json


def network(dialect: str, *, swapped: bool = False, saturated: bool = True) -> onnx.ModelProto:
    """A stage, a convolution and a classifier.

    `swapped`: the scale of the convolution stands in front of its offset; and then not `saturated`: nothing limits its codes.
    """
    graph = GraphBuilder((1, 3, 6, 1), dialect)
    codes = graph.input_stage([0.5] * 3, [900] * 3, [5] * 3)
    weights = np.random.default_rng(0).integers(-90, 91, (4, 3, 3, 1))
    if swapped:
        scaled = graph.binary("Mul", graph.node("Conv", codes, graph.constant(weights)), 1 / 16)
        floored = graph.node("Floor", graph.binary("Add", scaled, np.full((1, 4, 1, 1), 0.25)))
        layer = graph.clip(floored, 0, 255) if saturated else floored
    else:
        layer = graph.convolution(codes, weights, np.array([3, -9, 5, 0]), [1] * 4, [4] * 4, (0, 255))
    flat = graph.node("Flatten", layer)
    dense = np.random.default_rng(1).integers(-90, 91, (16, 2))
    model = onnx.load_from_string(
        graph.model(graph.fully_connected(flat, dense, np.array([7, -2]), [1] * 2, [9] * 2, (-128, 127)))
    )
    model.producer_name, model.producer_version = "pytorch", "2.13.0"
    return model


def said(model: onnx.ModelProto) -> list[str]:
    session = InferenceSession(model.SerializeToString())
    return [finding.message for finding in dialect_findings(read_model(session.model), session.program)]


@pytest.mark.parametrize("dialect", ["ts17", "ts17new", "dyn18v", "dyn18vnew", "nosim"])
def test_dialects_that_were_read_have_no_finding(dialect: str) -> None:
    assert said(network(dialect)) == []


def test_a_version_an_opset_and_names_that_were_not_read_are_told() -> None:
    model = network("ts17")
    model.producer_version = "2.14.1+cpu"
    assert "PyTorch's TorchScript exporter, 2.14.1+cpu, where 2.13 was read" in said(model)[0]
    model = network("ts17")
    model.opset_import[0].version = 16
    assert "opset 16, where 17 and 18 was read" in said(model)[0]
    model = network("ts17")
    for node in model.graph.node:
        node.name = f"op{node.name[1:]}"
    (message,) = said(model)
    assert message.endswith("none of the dialects that were read: no node's name begins with '/' or 'node_'")


def test_files_of_other_tools_and_float_networks_are_none_of_its_business() -> None:
    model = network("min_max")
    assert "a layer written Conv Add Mul Mul Floor Max Min" in said(model)[0]
    model.producer_name = "npusim"
    assert said(model) == []
    graph = GraphBuilder((1, 4))
    plain = onnx.load_from_string(graph.model(graph.node("Relu", "input")))
    plain.producer_name = "pytorch"
    assert said(plain) == []


def test_a_layer_that_is_read_in_part_is_a_warning() -> None:
    for model, severity, spelling in (
        (network("ts17", swapped=True), "warning", "Add Floor Clip"),
        (network("min_max"), "info", "Conv Add Mul Mul Floor Max Min"),
    ):
        session = InferenceSession(model.SerializeToString())
        (found,) = dialect_findings(read_model(session.model), session.program)
        assert found.severity == severity
        assert found.evidence is not None
        assert spelling in found.evidence["new_spellings"]


def test_every_command_says_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(network("ts17", swapped=True, saturated=False), path)
    for command, options in {"inspect": (), "lint": ("--device", "f28p55x"), "verify": ("--samples", 3)}.items():
        outcome = call(command, path, *options, "--json")
        (found,) = [one for one in checked_json(command, outcome)["findings"] if one["rule"] == "unknown-dialect"]
        assert found["severity"] == "warning"
        assert len(found["evidence"]["unread"]) == 1
    assert json.loads(outcome.out)["ok"]
    told = " ".join(call("verify", path, "--samples", 3).out.split())
    assert "none of the dialects that were read: Floor '/" in told
    assert "is part of no layer" in told


def test_real_exports_are_in_the_table(export: Export) -> None:
    session = InferenceSession(export.model)
    assert list(dialect_findings(read_model(session.model), session.program)) == []
