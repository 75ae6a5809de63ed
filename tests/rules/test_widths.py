"""Widths, the graph itself and the host: each finding names its node and its tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from npusim.findings import SourcedFinding
from npusim.rules import Placement
from npusim.rules.layer_verdict import judge_layer
from npusim.rules.rulebook import rulebook
from support.builders import DIALECTS, GraphBuilder
from support.command_line import model_with_float_layer, model_with_open_size
from support.lint_models import convolution, lint, requantized
from support.models import model_of
from support.sketch import Sketch

ONE_BIT_LESS = 2**23 - 1


def findings(model: bytes, rule: str) -> list[SourcedFinding]:
    return [finding for finding in lint(model).findings if finding.rule == rule]


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({"bias": ONE_BIT_LESS, "shift": 20}, None),
        ({"bias": -(2**23), "shift": 20}, None),
        ({"bias": 2**23, "shift": 20}, "bias-width"),
        ({"bias": 2**15 - 1, "largest": 7, "scale": 200}, None),
        ({"bias": 2**15, "largest": 7, "scale": 200}, "bias-width-narrow"),
        ({"scale": 1}, None),
        ({"scale": 3}, "scale-width"),
        ({"scale": 255, "largest": 7}, None),
        ({"scale": 257, "largest": 7}, "scale-width-narrow"),
        ({"shift": 31}, None),
        ({"clip": (-128, 127)}, None),
        ({"clip": (-255, 255)}, "clip-range"),
        ({"clip": (0, 6)}, "clip-shape"),
        ({"largest": 7, "scale": 200}, None),
        ({"largest": 9, "scale": 200}, "weight-range"),
        ({"largest": 9}, "weight-range-inferred"),
        ({"largest": 130}, "weight-bits"),
    ],
)
def test_width_on_both_sides(parameters: dict[str, Any], rule: str | None) -> None:
    model = requantized(**{"largest": 20, **parameters})
    report = lint(model)
    (layer,) = report.layers
    found = [finding for finding in report.findings if finding.rule != "contradiction"]
    if rule is None:
        assert layer.verdict is Placement.NPU
        assert found == []
        return
    assert layer.verdict is Placement.UNKNOWN
    assert rule in [finding.rule for finding in found]
    named = {node.name for node in onnx.load_from_string(model).graph.node}
    tensors = {name for node in onnx.load_from_string(model).graph.node for name in node.output}
    for finding in found:
        assert finding.node in named
        assert finding.tensor in tensors


def test_shift_beyond_5_bits() -> None:
    book = rulebook("f28p55x")
    for upper, broken in ((31, False), (32, True)):
        rules = [item.rule.id for item in judge_layer("FC", {"shift": (0, upper)}, book).broken]
        assert ("shift-width" in rules) is broken


@pytest.mark.parametrize("dialect", [dialect for dialect in DIALECTS if dialect != "bias_in_conv"])
def test_bias_finding_names_the_tensor_that_holds_it(dialect: str) -> None:
    model = requantized(bias=2**24, shift=22, dialect=dialect)
    (finding,) = findings(model, "bias-width")
    graph = onnx.load_from_string(model).graph
    (node,) = (node for node in graph.node if finding.tensor in node.output)
    assert node.name == finding.node
    assert node.op_type in ("Add", "Gemm")
    assert finding.evidence["channel"] == 2
    assert finding.evidence["bias"] == 2**24
    assert finding.evidence["bits"] == 26


def test_codes_wider_than_8_bits_into_a_layer() -> None:
    sketch = Sketch(4, 8, 1)
    wide = sketch.layer(sketch.weights(4, 4, 3, 1), clip=(-255, 255))
    behind = sketch.layer(sketch.weights(4, 4, 3, 1), source=wide)
    report = lint(sketch.finish(behind))
    assert [layer.verdict for layer in report.layers] == [Placement.UNKNOWN, Placement.UNKNOWN]
    (finding,) = (finding for finding in report.findings if finding.rule == "input-width")
    assert finding.severity == "error"
    assert finding.layer == report.layers[1].step.name
    assert finding.tensor == wide
    assert finding.evidence == {"input_bits": {"seen": 9, "wanted": "at most 8"}}


def test_inner_clip_of_a_residual() -> None:
    book = rulebook("f28p55x")
    for clip, broken in (((-512, 511), False), ((-255, 255), True)):
        rules = [item.rule.id for item in judge_layer("PWCONVRES", {"inner_clip": clip}, book).broken]
        assert ("inner-clip" in rules) is broken


def test_float_island_between_layers() -> None:
    report = lint(model_with_float_layer())
    assert [str(layer.verdict) for layer in report.layers] == ["host", "host", "npu"]
    rules = {finding.rule: finding for finding in report.findings}
    assert set(rules) == {"host-operation", "host-quantize", "float-island"}
    assert "a layer left in float" in rules["host-operation"].message
    assert rules["float-island"].tensor is not None
    assert len(rules["float-island"].evidence["steps"]) == 2
    assert report.npu_share is not None
    assert 0 < report.npu_share < 1


def test_float_model_is_not_quantized() -> None:
    sketch = GraphBuilder((1, 4))
    found = lint(sketch.model(sketch.node("Relu", sketch.node("Sigmoid", "input")))).findings
    assert [finding.rule for finding in found] == ["not-quantized", "host-operation", "host-operation"]


def test_batch() -> None:
    sketch = Sketch(16)
    made = sketch.graph.fully_connected(
        sketch.codes, sketch.weights(16, 4), np.zeros(4), np.ones(4), np.full(4, 6), (-128, 127)
    )
    for batch, severity in ((1, None), ("N", "warning")):
        found = [finding for finding in lint(sketch.graph.model(made, batch=batch)).findings if finding.rule == "batch"]
        assert [finding.severity for finding in found] == ([] if severity is None else [severity])
    report = lint(sketch.graph.model(made, batch=2))
    assert {"batch", "batch-1"} <= {finding.rule for finding in report.findings if finding.severity == "error"}
    assert [finding.tensor for finding in report.findings if finding.rule == "batch"] == ["input"]


def test_open_sizes_are_findings() -> None:
    report = lint(model_with_open_size())
    assert report.layers == ()
    (finding,) = report.findings
    assert (finding.rule, finding.severity, finding.tensor, finding.evidence) == ("dynamic-shape", "error", "x", {"axes": [1]})
    assert not report.is_ok()


def test_foreign_quantization_operators() -> None:
    constants = {"s": np.array(0.5, np.float32), "z": np.array(0, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dequantize"),
    ]
    model = model_of(nodes, {"input": (np.float32, (1, 4))}, {"y": (np.float32, (1, 4))}, constants)
    found = [finding for finding in lint(model).findings if finding.rule == "foreign-quantization"]
    assert [(finding.node, finding.tensor, finding.severity) for finding in found] == [
        ("quantize", "q", "error"),
        ("dequantize", "y", "error"),
    ]


def test_input_stage_views_and_output_scale_are_no_layers() -> None:
    sketch = Sketch(4, 8, 1)
    codes = sketch.layer(sketch.weights(4, 4, 3, 1))
    flat = sketch.graph.node("Flatten", codes)
    made = sketch.graph.fully_connected(flat, sketch.weights(24, 4), np.zeros(4), np.ones(4), np.full(4, 8), (-128, 127))
    report = lint(sketch.finish(sketch.graph.binary("Mul", made, 0.125)))
    assert [(stage.role, stage.step.name) for stage in report.stages if stage.role != "input"] == [
        ("view", f"/{flat}"),
        ("output", report.stages[-1].step.name),
    ]
    assert [str(layer.verdict) for layer in report.layers] == ["npu", "npu"]
    assert report.findings == ()


def test_concatenation_is_a_layer_on_the_host() -> None:
    sketch = Sketch(4, 8, 1)
    one, two = (sketch.layer(sketch.weights(4, 4, 3, 1)) for _ in range(2))
    report = lint(sketch.finish(sketch.graph.node("Concat", one, two, axis=1)))
    assert [str(layer.verdict) for layer in report.layers] == ["npu", "npu", "host"]
    assert [finding.rule for finding in report.findings] == ["host-operation"]


def test_parameters_and_tensors_are_held_against_the_device() -> None:
    model = convolution(32, 64, (9, 1), size=(512, 1), pads=[4, 0, 4, 0])
    report = lint(model, "mspm0g5187")
    assert report.memory is not None
    assert report.memory.peak_bytes > 32768
    assert [finding.rule for finding in report.findings if finding.severity == "error"] == ["memory-ram"]
    assert "memory-ram" not in {finding.rule for finding in lint(model).findings}
