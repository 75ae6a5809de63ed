"""Findings: parameters on both sides of their widths, and what the verdicts of layers are told as."""

from __future__ import annotations

import numpy as np

from npusim import InferenceSession
from npusim.bounds import certify
from npusim.bounds.report import findings_of
from npusim.findings import Finding
from support.builders import GraphBuilder
from support.dense_layer import fully_connected
from support.match_models import chain


def findings(model: bytes, strict: bool = False) -> list[Finding]:
    return list(findings_of(certify(InferenceSession(model).program), strict=strict))


def test_parameters_on_both_sides_of_their_widths() -> None:
    def rules(weight: int, bias: int, scale: int) -> list[str]:
        found = findings(fully_connected(np.array([weight]), bias, scale, 20))
        return [finding.rule for finding in found if finding.severity == "error"]

    assert rules(100, 2**23 - 1, 1) == rules(100, -(2**23), 1) == []
    assert rules(100, 2**23, 1) == rules(100, -(2**23) - 1, 1) == ["bias_width"]
    assert rules(100, 0, 2) == rules(100, 0, 0) == ["scale_width"]
    assert rules(7, 2**15 - 1, 255) == rules(7, -(2**15), 255) == rules(7, 0, 0) == []
    assert rules(7, 2**15, 255) == rules(1, -(2**15) - 1, 255) == ["bias_width"]
    assert rules(7, 0, 256) == rules(7, 0, -1) == ["scale_width"]


def test_findings_say_where_and_how_bad() -> None:
    (finding,) = findings(fully_connected(np.array([7]), 40000, 129))
    assert (finding.rule, finding.severity) == ("bias_width", "error")
    assert finding.evidence == {"channel": 0, "bias": 40000, "lower": -32768, "upper": 32767, "channels": 1}
    assert "40,000 in channel 0 (1 of 1 channels are outside)" in finding.message
    found = findings(fully_connected(np.array([8, -7])))
    assert [(one.rule, one.severity) for one in found] == [("digit_18bit", "warning"), ("weight_width", "warning")]
    assert [one.severity for one in findings(fully_connected(np.array([8, -7])), strict=True)] == ["error", "warning"]
    assert [one.severity for one in findings(fully_connected(np.full(513, -2)))] == ["error"]


def test_a_residual_that_is_no_layer_of_the_npu_has_no_widths() -> None:
    graph = GraphBuilder((1, 2, 4, 1))
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    summed = graph.requantize(graph.node("Add", codes, codes), (1, 1, 1, 1), [2**20], [3], [4], (-128, 127))
    model = graph.model(summed)
    assert InferenceSession(model).program.layers[0].kind == "ADD"
    assert findings(model) == []


def test_remedies_are_those_of_the_statement_for_layers_of_other_formats_too() -> None:
    """A layer of MATCH is not one of the NPU, and its integers are known all the same."""
    (found,) = findings_of(certify(InferenceSession(chain(weight=127, factor=2**24, addend=0)).program))
    assert found.rule == "product_int32"
    assert "a smaller k or lambda" in found.remedy
